"""A generated shop: orders with lines, a payment each, and buyers of whom some come again. The same every time, but
that all of it happened within the last day, so that it is still news.
"""

import csv
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from crmkit.adapters.stream import Page
from crmkit.core.records import Buyer, LineRecord, OrderRecord, OrderStatus, PaymentRecord, Record

PAGE = 500
#: After everything in the shop.
NOW = datetime.now(UTC).replace(microsecond=0)
BEGAN = NOW - timedelta(hours=24)
TEAS = ("Longjing, spring", "Tieguanyin", "Pu-erh 2016", "White Peony", "Keemun", "Jasmine Pearls", "Gaiwan, 120 ml")


def _order(number: int, orders: int, again: bool = True) -> tuple[OrderRecord, PaymentRecord]:
    dice = random.Random(number)
    placed = BEGAN + timedelta(hours=20) * (number / orders) + timedelta(seconds=dice.randrange(3600))
    paid = placed + timedelta(minutes=dice.randrange(1, 60))
    buyer = dice.randrange(max(1, orders * 4 // 5)) if again else number
    lines = []
    for position, title in enumerate(dice.sample(TEAS, dice.randint(1, 3)), 1):
        quantity, price = dice.randint(1, 3), Decimal(dice.randrange(650, 4200, 50)).scaleb(-2)
        lines.append(
            LineRecord(
                external_id=str(position),
                sku=f"TEA-{TEAS.index(title):03}",
                title=title,
                quantity=Decimal(quantity),
                unit_price=price,
                total=price * quantity,
            )
        )
    total = sum((line.total for line in lines if line.total is not None), Decimal())
    order = OrderRecord(
        external_id=f"T{number:07}",
        number=f"{number:07}",
        status=OrderStatus.PAID,
        vendor_status="processing",
        placed_at=placed,
        paid_at=paid,
        promised_at=placed + timedelta(days=10),
        updated_at=paid,
        currency="EUR",
        total=total,
        shipping_total=Decimal("4.90"),
        buyer=Buyer(
            external_id=f"B{buyer}",
            name=f"Buyer No {buyer}",
            email=f"buyer{buyer}@buyers.example",
            phone=f"+4930{1_000_000 + buyer}",
            region="DE",
            locale="en",
            city="Berlin",
        ),
        lines=tuple(lines),
    )
    payment = PaymentRecord(
        external_id=f"P{number:07}",
        order_external_id=order.external_id,
        method="card",
        amount=total,
        currency="EUR",
        paid_at=paid,
    )
    return order, payment


def page(orders: int) -> Page:
    """One page of orders, each of a buyer of its own."""
    return Page(records=[record for number in range(orders) for record in _order(number, orders, again=False)])


def pages(orders: int) -> Iterator[Page]:
    """The shop's pages, each made as it is asked for."""
    for first in range(0, orders, PAGE):
        records: list[Record] = []
        for number in range(first, min(first + PAGE, orders)):
            records.extend(_order(number, orders))
        yield Page(records=records, cursor={"after": first}, total=orders * 2)


def write(folder: Path, orders: int) -> None:
    """The same shop as CSV files that the preset `crmkit` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    order_rows, line_rows, payment_rows = [], [], []
    for number in range(orders):
        order, payment = _order(number, orders)
        buyer = order.buyer or Buyer()
        order_rows.append(
            {
                "external_id": order.external_id,
                "number": order.number,
                "status": order.status,
                "placed_at": order.placed_at,
                "paid_at": order.paid_at,
                "promised_at": order.promised_at,
                "updated_at": order.updated_at,
                "currency": order.currency,
                "total": order.total,
                "shipping_total": order.shipping_total,
                "customer_id": buyer.external_id,
                "name": buyer.name,
                "email": buyer.email,
                "phone": buyer.phone,
                "region": buyer.region,
                "locale": buyer.locale,
                "city": buyer.city,
            }
        )
        for line in order.lines:
            names = ("external_id", "sku", "title", "quantity", "unit_price", "total")
            line_rows.append({"order_external_id": order.external_id, **{name: getattr(line, name) for name in names}})
        names = ("external_id", "order_external_id", "method", "amount", "currency", "paid_at")
        payment_rows.append({name: getattr(payment, name) for name in names})
    for file, rows in (("orders", order_rows), ("lines", line_rows), ("payments", payment_rows)):
        with (folder / f"{file}.csv").open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
