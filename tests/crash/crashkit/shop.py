"""A small shop in files, on its first day and grown on its second: its configuration and its exports."""

import csv
import os
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from crashkit import playbook

ZONE = ZoneInfo("Europe/Berlin")
CONNECTED = datetime(2026, 3, 2, tzinfo=ZONE)
DAYS = (CONNECTED + timedelta(hours=20), CONNECTED + timedelta(hours=44))

CONFIG = """
[crm]
database = "{database}"
timezone = "Europe/Berlin"

[plugins]
use = ["care", "./calls.py"]

[shops.crash]
use = "files"
preset = "crmkit"
path = "exports"
currency = "EUR"
title = "Crash"
announce_from = {connected}

[[channels.email]]
name = "mail"
use = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
sender = "{sender}"
concurrency = 2

[[care.rules]]
on = "order-paid"
send = "order-paid"
via = ["email"]
[[care.rules]]
on = "order-shipped"
send = "order-shipped"
via = ["sms", "email"]
[[care.rules]]
on = "order-delivered"
send = "order-delivered"
via = ["call", "email"]
delay = "1h"

[care.late]
team = "shipping"

[[staff]]
name = "Mei"
teams = ["shipping"]
email = "mei@crash.example"
"""

#: One more gateway, to a fake vendor of `crashkit.vendors`.
GATEWAY = """
[[channels.{channel}]]
use = "{kind}"
url = "{url}"
secret = "{secret}"
concurrency = 2
"""
#: The channel of each kind of gateway: each has its share of the messages.
CHANNELS = {"plain": "sms", "deduplicating": "chat", "asking": "call"}
SECRET = "between us"


def write(
    folder: Path,
    *,
    database: str,
    port: int,
    sender: str,
    orders: int = 18,
    spoiled: bool = True,
    vendors: Mapping[str, str] | None = None,
) -> None:
    """The configuration, the playbook and the exports of the first day.

    Args:
        port: of the mail server.
        sender: by which the mail server tells worlds apart.
        spoiled: with cells that nobody can read.
        vendors: where fake vendors are, by kind; without them all goes by mail.
    """
    folder.mkdir(exist_ok=True)
    playbook.write(folder)
    configure(folder, database=database, port=port, sender=sender, vendors=vendors)
    export(folder, 0, orders, spoiled)


def configure(folder: Path, *, database: str, port: int, sender: str, vendors: Mapping[str, str] | None = None) -> None:
    """The configuration."""
    text = CONFIG.format(database=database, port=port, sender=sender, connected=CONNECTED.isoformat())
    for kind, url in (vendors or {}).items():
        text += GATEWAY.format(channel=CHANNELS[kind], kind=kind, url=url, secret=SECRET)
    (folder / "crmkit.toml").write_text(text)


def export(folder: Path, day: int, orders: int = 18, spoiled: bool = True) -> None:
    """The exports of a day: what is known by its end. Later days have more orders, and more of each."""
    until = DAYS[day]
    tables: dict[str, list[dict[str, object]]] = {"customers": [], "orders": [], "lines": [], "reviews": []}
    people = max(2, orders * 2 // 3)
    for number in range(people):
        row = {"external_id": f"C{number}", "name": f"Buyer {number}", "email": f"buyer{number}@buyers.example"}
        if number % 7 == 3:
            row["email"] = f"buyer{number - 1}@buyers.example"  # two accounts of one person
        if spoiled and number % 11 == 5:
            row["email"] = "nobody@@nowhere"
        tables["customers"].append({**row, "locale": ("en", "zh-CN")[number % 2]})
    for number in range(orders):
        dice = random.Random(number)  # an order's story is the same on every day, and only told further
        at = CONNECTED + timedelta(hours=8 * dice.randrange(-4, 6))  # few moments, so that much is due at once
        times: dict[str, datetime | None] = {"placed_at": at}
        for name, most in (("paid_at", 1), ("shipped_at", 2), ("delivered_at", 3)):
            at += timedelta(hours=8 * dice.randint(0, most))
            is_told = dice.random() < 0.9
            times[name] = at if at <= until and is_told else None
        promised = times["placed_at"] + timedelta(hours=dice.choice((20, 30, 200)))  # type: ignore[operator]
        buyer, rating = f"C{dice.randrange(people)}", dice.randrange(1, 6)
        if times["placed_at"] > until:  # type: ignore[operator]
            continue
        name = f"O{number:04}"
        order = {"external_id": name, "customer_id": buyer, **times, "promised_at": promised, "total": f"{number}.50"}
        if spoiled and number % 13 == 12:
            order["total"] = "1.234,56"
        tables["orders"].append(order)
        for position in (1, 2):
            tables["lines"].append({"order_external_id": name, "external_id": position, "title": f"Thing {position}"})
        if times["delivered_at"] and times["delivered_at"] + timedelta(minutes=30) <= until:
            review = {"external_id": f"R{name}", "order_external_id": name, "rating": rating}
            tables["reviews"].append({**review, "posted_at": times["delivered_at"] + timedelta(minutes=30)})
    (folder / "exports").mkdir(exist_ok=True)
    for table, rows in tables.items():
        path = folder / "exports" / f"{table}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["external_id"])
            writer.writeheader()
            for row in rows:
                writer.writerow({k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()})
        os.utime(path, (until.timestamp(), until.timestamp()))  # an export is a photograph: seen when it was written
