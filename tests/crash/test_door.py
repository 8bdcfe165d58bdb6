"""The server is killed with `kill -9` under load, again and again: what it said yes to is in the inbox, once.

`make crash ROUNDS=200` kills it more often; CRMKIT_CRASH_SEED=7 begins with another round.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from crashkit.figures import Figures
from crashkit.game import KINDS, TITLES

from crmkit.engine.local import Local
from crmkit.host.host import Host
from crmkit.store import tables as t
from crmkit.testing.database import PostgresServer

pytestmark = pytest.mark.crash

CRMKIT = str(Path(sys.executable).with_name("crmkit"))
CONFIG = """\
[crm]
database = "{url}"

[shops.tea]
use = "woocommerce"
url = "http://127.0.0.1:9"
consumer_key = "ck_1"
consumer_secret = "cs_1"
webhook_secret = "s3cret"
"""
#: Connections that call at once.
CALLERS = 16


@contextmanager
def server(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`crmkit serve`, and its port."""
    command = [CRMKIT, "--config", str(folder / "crmkit.toml"), "serve", "--port", "0", "--log", "text"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        while not (lines and lines[-1].startswith("listening on ")):
            line = process.stderr.readline()
            assert line, "".join(lines)
            lines.append(line)
        try:
            yield process, int(lines[-1].rsplit(":", 1)[1])
        finally:
            process.kill()
            process.communicate()


class Vendor:
    """Calls with a number each, until it hears yes; of a call that broke off it does not know."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.accepted: set[int] = set()
        self.unsure: list[int] = []
        self.repeated = 0
        self.heard = asyncio.Event()

    async def call(self, port: int) -> None:
        """Call over one connection, until it breaks."""
        number: int | None = None
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while True:
                self.repeated += bool(self.unsure)
                number = self.unsure.pop() if self.unsure else next(self.numbers)
                writer.write(_request(number))
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 ", b"HTTP/1.1 429 ")), head
                if head.startswith(b"HTTP/1.1 200 "):
                    self.accepted.add(number)
                    self.heard.set()
                    number = None
                else:
                    break
        if number is not None:
            self.unsure.append(number)

    async def load(self, process: "subprocess.Popen[str]", port: int, seconds: float) -> None:
        """Call over many connections; after so long the server is killed."""
        self.heard = asyncio.Event()
        calling = [asyncio.create_task(self.call(port)) for _ in range(CALLERS)]
        await asyncio.wait_for(self.heard.wait(), 20)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(*calling), 20)


def _request(number: int) -> bytes:
    body = f'{{"id": {number}}}'.encode()
    signature = base64.b64encode(hmac.new(b"s3cret", body, hashlib.sha256).digest()).decode()
    return (
        f"POST /webhooks/tea HTTP/1.1\r\nhost: crm\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-wc-webhook-topic: order.deleted\r\nx-wc-webhook-signature: {signature}\r\n\r\n"
    ).encode() + body


@pytest.mark.parametrize("kind", KINDS)
# SEMANTICS 30
def test_what_was_answered_with_yes_is_in_the_inbox_once(
    fast: Path, postgres_server: PostgresServer, kind: str, figures: Figures
) -> None:
    folder = fast / f"door-{kind}"
    folder.mkdir()
    name = None if kind == "sqlite" else postgres_server.create()
    url = "sqlite:///crm.db" if name is None else postgres_server.url(name)
    (folder / "crmkit.toml").write_text(CONFIG.format(url=url))
    chance = random.Random(os.environ.get("CRMKIT_CRASH_SEED", "0"))
    rounds = max(3, int(os.environ.get("CRMKIT_CRASH_ROUNDS", "0")) // 5)
    vendor = Vendor()
    counts, sort = Counter[str](), f"server, {TITLES[kind]}"
    for number in range(rounds):
        with figures.round(sort, number, counts), server(folder) as (process, port):
            asyncio.run(vendor.load(process, port, chance.uniform(0.0, 0.6)))
            counts["killed at random"] += 1
    host = Host.open(folder / "crmkit.toml")
    store = host.store()
    try:
        asyncio.run(Local(host, store).take_in())
        with store.read() as tx:
            kept = [row.body for row in tx.execute(sa.select(t.inbox.c.body))]
            states = set(tx.execute(sa.select(t.inbox.c.state)).scalars())
            hinted = {int(one) for one in tx.execute(sa.select(t.hint.c.external_id)).scalars()}
    finally:
        store.close()
        if name is not None:
            postgres_server.drop(name)
    numbers = [int(body.partition(b": ")[2].rstrip(b"}")) for body in kept]
    figures.text = (
        f"{sort}: killed {rounds} times; {len(vendor.accepted):,} webhooks answered with 200, {vendor.repeated:,}"
        f" called again since nobody knew, {len(numbers):,} kept"
    )
    figures.rows[sort].update(lost=len(vendor.accepted - set(numbers)), doubled=len(numbers) - len(set(numbers)))
    figures.end()
    assert len(vendor.accepted) > 10 * rounds
    assert vendor.accepted - set(numbers) == set()
    assert len(numbers) == len(set(numbers))
    assert (states, hinted) == ({"done"}, set(numbers))
