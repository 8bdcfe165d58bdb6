"""The presets that are shipped, and the figures of the real exports they are for."""

import tomllib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from crmkit_marketplace.files.mapping import TABLES, Column, FilesSettings, presets

OLIST = Path(__file__).resolve().parents[4] / "shared" / "data" / "olist"


def test_every_preset_is_a_whole_mapping(shop: Any) -> None:
    assert presets() == ["crmkit", "olist", "shopify"]
    for name in presets():
        assert shop.source(f'preset = "{name}"').plan.tables


def test_a_shop_overrides_and_extends_its_preset() -> None:
    settings = FilesSettings.model_validate(
        {
            "preset": "olist",
            "reviews": False,
            "orders": {
                "file": "mine.csv",
                "columns": {"status": {"values": {"lost": "cancelled"}}, "total": "Total", "paid": False},
            },
        }
    )
    assert settings.reviews is None and settings.orders is not None
    columns = settings.orders.columns
    assert settings.orders.file == "mine.csv" and settings.orders.customer == {"column": "customer_id"}
    assert columns["status"]["values"]["lost"] == "cancelled" and columns["status"]["values"]["shipped"] == "shipped"
    assert columns["total"] == {"column": "Total"} and "paid" not in columns


SHOPIFY = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Fulfilled at,Accepts Marketing,Currency,Subtotal,Shipping,"
    "Taxes,Total,Discount Code,Discount Amount,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,"
    "Billing Name,Billing Country,Shipping Name,Shipping Country,Phone,Cancelled at,Id,Tags\n"
    "#1001,ann@shop.example,paid,2024-03-01 10:15:30 -0500,fulfilled,2024-03-02 09:00:00 -0500,yes,USD,30.00,5.00,0.00,"
    '35.00,,0.00,2024-03-01 10:15:00 -0500,2,Red mug,10.00,MUG-R,Ann,US,Ann Lee,US,,,5001,"gift, repeat"\n'
    "#1001,ann@shop.example,,,,,,,,,,,,,,1,Blue mug,10.00,MUG-B,,,,,,,,\n"
    "#1002,bob@shop.example,pending,,unfulfilled,,no,USD,10.00,0.00,0.00,10.00,,0.00,2024-03-03 10:00:00 -0500,1,"
    "Red mug,10.00,MUG-R,Bob,US,,,,,5002,\n"
    "#1003,eve@shop.example,refunded,2024-03-03 10:00:00 -0500,unfulfilled,,no,USD,10.00,0.00,0.00,10.00,,0.00,"
    "2024-03-03 10:00:00 -0500,1,Red mug,10.00,MUG-R,Eve,US,,,,2024-03-04 10:00:00 -0500,5003,\n"
)


def test_shopifys_further_rows_are_lines_of_the_order_above(shop: Any) -> None:
    shop.write("orders_export_1.csv", SHOPIFY)
    result = shop.read('preset = "shopify"')
    assert result.refused == []
    first, second, third = result.records
    assert (first.external_id, first.number, first.status, first.payment_state) == ("5001", "#1001", "shipped", "paid")
    assert [(line.external_id, line.sku, line.quantity) for line in first.lines] == [
        ("1", "MUG-R", 2),
        ("2", "MUG-B", 1),
    ]
    assert first.buyer.name == "Ann Lee" and first.buyer.marketing_consent is True and first.tags == ("gift", "repeat")
    assert first.updated_at == first.shipped_at
    assert (second.status, second.buyer.name, second.vendor_status) == ("placed", "Bob", "pending/unfulfilled")
    assert (third.status, third.payment_state) == ("cancelled", "paid")
    assert result.places == ["orders_export_1.csv:2", "orders_export_1.csv:4", "orders_export_1.csv:5"]


def test_our_own_column_names_need_no_mapping(shop: Any) -> None:
    shop.write("orders.csv", "external_id,placed_at,status,total,customer_id\n1,2024-03-01T10:00:00Z,shipped,5.00,c1\n")
    shop.write("customers.csv", "external_id,name\nc1,Ann\n")
    result = shop.read('preset = "crmkit"')
    (order,) = result.records
    assert (order.status, order.buyer.name, order.buyer.external_id) == ("shipped", "Ann", "c1")
    assert not {"lines", "paid_at"} & order.model_fields_set
    source = shop.source('preset = "crmkit"')
    assert source.reports == {"placed", "customers"}
    assert shop.read('preset = "crmkit"', "reviews").pages == []


@pytest.fixture
def olist(shop: Any) -> Any:
    if not OLIST.is_dir():
        pytest.skip(f"the shared data is not beside the repository: {OLIST}")
    shop.currency = None
    shop.mapping = f'preset = "olist"\npath = "{OLIST}"'
    return shop


@pytest.mark.shared
def test_olist_orders_are_what_its_files_hold(olist: Any) -> None:
    result = olist.read(olist.mapping)
    orders = result.records
    assert result.refused == [] and result.pages[0].total == len(orders) == 20_864
    assert sum(len(order.lines) for order in orders) == 23_670
    assert Counter(order.status for order in orders) == {
        "delivered": 20_253,
        "cancelled": 267,
        "shipped": 224,
        "paid": 120,
    }
    reached = {m: sum(getattr(order, f"{m}_at") is not None for order in orders) for m in ("placed", "paid", "shipped")}
    assert reached == {"placed": 20_864, "paid": 20_823, "shipped": 20_493}
    assert sum(order.delivered_at is not None for order in orders) == 20_253
    buyers = {order.buyer.external_id for order in orders}
    assert len(buyers) == len({order.buyer.email for order in orders}) == 20_702
    assert sum(order.items_total or 0 for order in orders) == Decimal("2819099.01")
    assert sum(order.shipping_total or 0 for order in orders) == Decimal("472580.38")
    assert sum(order.paid or 0 for order in orders) == Decimal("3329036.11")
    first = orders[0]
    assert first.buyer.email == f"{first.buyer.external_id}@buyers.example"
    assert (first.buyer.region, first.currency) == ("BR", "BRL")
    assert first.promised_at.isoformat() == "2016-10-05T03:00:00+00:00"
    assert all(order.updated_at == max(filter(None, _times(order))) for order in orders)
    assert olist.read(olist.mapping, cursor=result.cursor).pages == []


def _times(order: Any) -> tuple[Any, ...]:
    return order.placed_at, order.paid_at, order.shipped_at, order.delivered_at


@pytest.mark.shared
def test_olist_payments_and_reviews_are_what_its_files_hold(olist: Any) -> None:
    payments = olist.read(olist.mapping, "payments").records
    assert len({payment.external_id for payment in payments}) == len(payments) == 21_850
    assert sum(payment.amount for payment in payments) == Decimal("3329036.11")
    reviews = olist.read(olist.mapping, "reviews").records
    assert len({review.external_id for review in reviews}) == len(reviews) == 20_795
    assert Counter(int(review.rating) for review in reviews) == {1: 2_371, 2: 673, 3: 1_766, 4: 4_033, 5: 11_952}
    assert sum(review.text is not None for review in reviews) in range(8_590, 8_600)
    assert olist.read(olist.mapping, "customers").pages == olist.read(olist.mapping, "parcels").pages == []


@pytest.mark.shared
def test_olist_is_what_its_shop_is_asked_nothing_more_about(olist: Any) -> None:
    assert olist.check(olist.mapping) == []
    assert olist.source(olist.mapping).reports == {
        *("placed", "paid", "shipped", "delivered", "cancelled", "payments", "reviews")
    }


def test_the_readme_names_every_key_of_a_mapping() -> None:
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    models = [Column, *TABLES.values()]
    keys = {info.alias or name for model in models for name, info in model.model_fields.items()}
    assert {key for key in keys | {*FilesSettings.model_fields} if f"`{key}`" not in readme} <= {"currency", "columns"}
    example = tomllib.loads(readme.split("```toml")[2].split("```")[0])["shops"]["mine"]
    assert FilesSettings.model_validate({k: v for k, v in example.items() if k not in ("use", "currency", "timezone")})
