"""Counts what the Olist files hold, from the files alone: standard library only, and nothing of crmkit.

python tests/olist/count.py ../shared/data/olist
"""

import csv
import gzip
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

#: The simulated week, local time in Sao Paulo.
WEEK = (datetime(2018, 5, 7), datetime(2018, 5, 14))
CANCELLED = {"canceled", "unavailable"}


def read(folder: Path, table: str) -> list[dict[str, str]]:
    with gzip.open(folder / f"olist_{table}_dataset.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def time_of(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def counts(folder: Path) -> dict[str, int]:
    """Orders, lines, persons, milestones and reviews."""
    orders, people = read(folder, "orders"), read(folder, "customers")
    return {
        "orders": len(orders),
        "order_lines": len(read(folder, "order_items")),
        "customers": len({row["customer_unique_id"] for row in people}),
        "reviews": len({(row["review_id"], row["order_id"]) for row in read(folder, "order_reviews")}),
        "order-placed": sum(bool(row["order_purchase_timestamp"]) for row in orders),
        "order-paid": sum(bool(row["order_approved_at"]) for row in orders),
        "order-shipped": sum(bool(row["order_delivered_carrier_date"]) for row in orders),
        "order-delivered": sum(bool(row["order_delivered_customer_date"]) for row in orders),
        "order-cancelled": sum(row["order_status"] in CANCELLED for row in orders),
    }


def shipped_in_week(folder: Path) -> set[str]:
    """Orders handed to the carrier within the week, and not delivered before that."""
    found = set()
    for row in read(folder, "orders"):
        shipped, delivered = time_of(row["order_delivered_carrier_date"]), time_of(row["order_delivered_customer_date"])
        if shipped is not None and WEEK[0] <= shipped < WEEK[1] and (delivered is None or delivered > shipped):
            found.add(row["order_id"])
    return found


def late_in_week(folder: Path) -> set[str]:
    """Orders whose promised local day ended within the week, not delivered by then and not cancelled."""
    found = set()
    for row in read(folder, "orders"):
        promised = time_of(row["order_estimated_delivery_date"])
        delivered = time_of(row["order_delivered_customer_date"])
        if promised is None or row["order_status"] in CANCELLED:
            continue
        ends = promised.replace(hour=0, minute=0, second=0) + timedelta(days=1)
        if WEEK[0] <= ends <= WEEK[1] and (delivered is None or delivered >= ends):
            found.add(row["order_id"])
    return found


def buyers(folder: Path) -> dict[str, str]:
    """The person who placed each order."""
    person = {row["customer_id"]: row["customer_unique_id"] for row in read(folder, "customers")}
    return {row["order_id"]: person[row["customer_id"]] for row in read(folder, "orders")}


if __name__ == "__main__":
    data = Path(sys.argv[1])
    told = {**counts(data), "shipping mails": len(shipped_in_week(data)), "late mails": len(late_in_week(data))}
    print(json.dumps(told, indent=2))
