"""A shop on WooCommerce as its operator has it: crmkit.toml, `crmkit sync`, a fake shop on a socket."""

import asyncio
import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plugins.marketplace.tests.woocommerce.fake import KEY, MINUTE, SECRET, FakeShop

CONFIG = """
[crm]
database = "sqlite:///crm.db"

[shops.tea]
use = "woocommerce"
url = "{url}"
consumer_key = "env:WOO_KEY"
consumer_secret = "env:WOO_SECRET"
tracking = ["fulfillments"]
statuses = {{ "partial-shipped" = "shipped" }}
customers_every = "7d"
"""


async def crmkit(folder: Path, *words: str, secret: str = SECRET) -> tuple[int, str]:
    """Exit code and what was printed."""
    command = [sys.executable, "-c", "from crmkit.cli import main; main()", *words]
    env = {**os.environ, "WOO_KEY": KEY, "WOO_SECRET": secret, "NO_COLOR": "1"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=env, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode or 0, f"{out.decode()}{err.decode()}"


async def status(folder: Path) -> Any:
    code, text = await crmkit(folder, "db", "status", "--json")
    assert code == 0, text
    return json.loads(text)


def full() -> FakeShop:
    shop = FakeShop("oauth")
    shop.now = datetime.now(UTC) - 5 * MINUTE
    for number in range(1, 251):
        shop.put(number, customer_id=number % 5, line_items=[{"id": 1, "name": "茶", "total": "10.00", "quantity": 1}])
    for number in range(1, 5):
        shop.customer(number)
    fulfilled = [{"key": "_fulfillment_status", "value": "fulfilled"}]
    shop.put(7, status="processing", date_paid_gmt=shop.orders[7]["date_created_gmt"], meta_data=fulfilled)
    shop.fulfillments[7] = [{"id": 1, "is_fulfilled": "1", "status": "fulfilled", "meta_data": []}]
    shop.put(8, refunds=[{"id": 900, "total": "-3.00"}])
    shop.refunds[8] = [{"id": 900, "amount": "3.00", "date_created_gmt": shop.orders[8]["date_created_gmt"]}]
    shop.review(31)
    return shop


async def test_an_operator_syncs_a_shop_and_syncing_again_changes_nothing(tmp_path: Path) -> None:
    shop = full()
    async with shop.serving() as url:
        (tmp_path / "crmkit.toml").write_text(CONFIG.format(url=url))
        code, text = await crmkit(tmp_path, "sync")
        assert code == 0, text
        first = await status(tmp_path)
        code, text = await crmkit(tmp_path, "sync")
        assert code == 0, text
        assert await status(tmp_path) == first
        shop.put(9, status="trash")
        shop.now = datetime.now(UTC)
        code, text = await crmkit(tmp_path, "sync", secret="wrong")
        assert code == 1
        assert "tea read orders: credentials refused (HTTP 401 woocommerce_rest_authentication_error)" in text
        assert "wrong" not in text and KEY not in text
    shown = re.sub(r"\s+", " ", json.dumps(first))
    for name, count in (
        ("order-placed", 250),
        ("order-paid", 1),
        ("parcel-shipped", 1),
        ("order-shipped", 1),
        ("order-refunded", 1),
        ("review-posted", 1),
    ):
        assert f'"{name}": {count}' in shown, shown
