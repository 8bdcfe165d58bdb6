"""The made-up shop of `crmkit demo`: its configuration, a template of its own, and its exports. The same every time."""

import csv
import random
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Asia/Shanghai")
#: The shop was connected on Monday at midnight; it is Tuesday evening.
CONNECTED = datetime(2026, 5, 11, tzinfo=ZONE)
NOW = datetime(2026, 5, 12, 21, 30, tzinfo=ZONE)
NEXT_MORNING = datetime(2026, 5, 13, 9, 30, tzinfo=ZONE)

CONFIG = """\
# The demo of crmkit: one shop, one playbook, one channel.

[crm]
database = "sqlite:///crm.db"       # beside this file
locale = "en"                       # for buyers whose language is not known, or has no texts
timezone = "Asia/Shanghai"

[plugins]
use = ["care"]                      # the playbook that tells buyers about their orders

[shops.teahouse]                    # a shop that gives exports
use = "files"
preset = "crmkit"                   # the files' columns are called what crmkit calls them
path = "exports"
currency = "EUR"
title = "Tea House"
announce_from = {connected}    # what happened before is history and announces nothing

{channel}

[policy]
quiet_hours = "21:00-09:00"         # in the buyer's own time zone

[[care.rules]]
on = "order-paid"
send = "order-paid"

[[care.rules]]
on = "order-shipped"
send = "order-shipped"

[[care.rules]]
on = "order-delivered"
send = "come-again"                 # a text of this shop's own, in templates/; marketing, so it needs an opt-in

[care.late]                         # a promise was missed: tell the buyer and the team
team = "shipping"

[[staff]]
name = "Mei"
teams = ["shipping"]
email = "mei@teahouse.example"
"""

SMTP = """\
[[channels.email]]
name = "mail"
use = "smtp"                        # the server of the demo, which ended with it
host = "127.0.0.1"
port = {port}
tls = "none"
sender = "Tea House <shop@teahouse.example>\""""

FOLDER = """\
[[channels.email]]
name = "mail"
use = "folder"                      # writes each mail as a file instead of sending it
path = "outbox"
sender = "Tea House <shop@teahouse.example>\""""

TEMPLATES = {
    "come-again.en.email.txt": """\
---
purpose = "marketing"
subject = "How was the tea, {{ customer.name }}?"
valid_for = "72h"
---
Hello {{ customer.name }},

your order {{ order.number }} has arrived. If you like it, the next one travels free of charge: TEA-{{ order.number }}.

{{ shop.title }}
""",
    "come-again.zh-CN.email.txt": """\
---
purpose = "marketing"
subject = "{{ customer.name }}，茶还喜欢吗？"
valid_for = "72h"
---
{{ customer.name }}，您好：

订单 {{ order.number }} 已送达。若您喜欢，下一单免运费，优惠码：TEA-{{ order.number }}。

{{ shop.title }}
""",
}

#: Id, name, e-mail, country, language, zone, whether marketing is welcome ("": never asked).
PEOPLE = [
    row.split("|")
    for row in """\
1|陈晓雨|chen.xiaoyu@buyers.example|CN|zh-CN|Asia/Shanghai|yes
2|王思远|wang.siyuan@buyers.example|CN|zh-CN|Asia/Shanghai|
3|李婷|li.ting@buyers.example|CN|zh-CN|Asia/Chongqing|yes
4|Emily Carter|emily.carter@buyers.example|US|en|America/New_York|yes
5|Liam Murphy|liam.murphy@buyers.example|IE|en|Europe/Dublin|
6|Sofia Rossi|sofia.rossi@buyers.example|IT|it|Europe/Rome|yes
7|Amara Okafor|amara.okafor@buyers.example|NG|en|Africa/Lagos|yes
8|佐藤はな|sato.hana@buyers.example|JP|ja|Asia/Tokyo|
9|Jonas Becker|jonas.becker@buyers.example|DE|de|Europe/Berlin|yes
10|Priya Nair|priya.nair@buyers.example|IN|en|Asia/Kolkata|yes
11|Oliver Smith|oliver.smith@buyers.example|GB|en|Europe/London|no
12|Zoë Jansen|zoe@@buyers.example|NL|nl|Europe/Amsterdam|yes""".splitlines()
]
TEAS = ["Longjing, spring", "Tieguanyin", "Pu-erh 2016", "White Peony", "Keemun", "Jasmine Pearls", "Gaiwan, 120 ml"]


def write(folder: Path, port: int) -> None:
    """Write the whole of it: crmkit.toml that sends to an SMTP server on this machine, templates, exports."""
    configure(folder, port)
    for name, text in TEMPLATES.items():
        _file(folder / "templates" / name).write_text(text, "utf-8")
    orders, lines, parcels = _orders()
    fields = "external_id name email region locale timezone marketing_consent".split()
    _table(folder / "customers.csv", [dict(zip(fields, person, strict=True)) for person in PEOPLE])
    _table(folder / "orders.csv", orders)
    _table(folder / "lines.csv", lines)
    _table(folder / "parcels.csv", parcels)


def configure(folder: Path, port: int | None) -> None:
    """Write crmkit.toml; without a port its mails go into a folder."""
    channel = SMTP.format(port=port) if port is not None else FOLDER
    _file(folder / "crmkit.toml").write_text(CONFIG.format(connected=CONNECTED.isoformat(), channel=channel), "utf-8")


def _orders() -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Orders with their lines and parcels: an everyday mixture, and one of everything that may go wrong."""
    dice = random.Random(7)
    orders: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    parcels: list[dict[str, Any]] = []

    def hours(count: float, since: datetime = CONNECTED) -> datetime:
        return since + timedelta(hours=count, minutes=dice.randrange(20))

    def order(buyer: int | None, placed: datetime, **times: datetime | None) -> dict[str, Any]:
        number = f"T{1001 + len(orders)}"
        row = {"external_id": number, "customer_id": buyer, "name": None, "placed_at": placed}
        for name in ("paid_at", "shipped_at", "delivered_at", "cancelled_at"):
            row[name] = times.get(name)
        row["promised_at"] = times.get("promised_at", placed + timedelta(days=10))
        cents = 0
        for position, tea in enumerate(dice.sample(TEAS, dice.randint(1, 3)), 1):
            price, quantity = dice.randrange(650, 4200, 50), dice.randint(1, 3)
            cents += price * quantity
            lines.append(
                {
                    "order_external_id": number,
                    "external_id": position,
                    "title": tea,
                    "quantity": quantity,
                    "unit_price": f"{price / 100:.2f}",
                }
            )
        row["total"] = f"{cents / 100:.2f}"
        if row["shipped_at"]:
            parcels.append(
                {
                    "order_external_id": number,
                    "external_id": f"P{number}",
                    "carrier": "Silk Road Express",
                    "tracking_number": f"SRE{dice.randrange(10**9):09}",
                    "shipped_at": row["shipped_at"],
                    "delivered_at": row["delivered_at"],
                }
            )
        orders.append(row)
        return row

    for buyer in (1, 4, 6, 9, 2, 11, 8, 3, 7, 10, 1, 5):  # history: long over when the shop was connected
        placed = hours(-24 * dice.randint(20, 120))
        order(buyer, placed, paid_at=hours(1, placed), shipped_at=hours(30, placed), delivered_at=hours(120, placed))
    for buyer, at in ((1, 10), (4, 16), (6, 18), (11, 19), (2, 34), (9, 40), (12, 41)):  # delivered by now
        placed = hours(-130)
        order(buyer, placed, paid_at=hours(-129), shipped_at=hours(-90), delivered_at=hours(at))
    for buyer, at in ((3, 11), (5, 15), (7, 17), (10, 12), (8, 33), (4, 38), (2, 39)):  # shipped by now
        order(buyer, hours(-40), paid_at=hours(-39), shipped_at=hours(at))
    for buyer, at in ((9, 20), (6, 12), (1, 34), (7, 36), (10, 37), (11, 44), (3, 45), (4, 45)):  # new
        order(buyer, hours(at - 0.5), paid_at=hours(at))
    # paid in the night and shipped before the quiet hours ended: the second mail says it all
    order(2, hours(22), paid_at=hours(22.4), shipped_at=hours(32))
    order(5, hours(14), cancelled_at=hours(16))
    order(1, hours(-120), paid_at=hours(-119), shipped_at=hours(-100), promised_at=hours(41.5))
    order(None, hours(-20), paid_at=hours(-20), shipped_at=hours(13))["name"] = "A guest"
    order(8, hours(15), paid_at=hours(15.5))["placed_at"] = "2026-13-11 15:00"
    return orders, lines, parcels


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    rows = list(rows)
    with _file(path.parent / "exports" / path.name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {name: cell.isoformat() if isinstance(cell, datetime) else cell for name, cell in row.items()}
            for row in rows
        )
