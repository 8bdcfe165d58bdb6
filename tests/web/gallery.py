"""A town in which every page of a customer's own has something to show."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from crmkit.core.records import Buyer, LineRecord, OrderRecord, ParcelRecord, PaymentRecord, RefundRecord
from tests.web.conftest import NOON, Town

DAY = timedelta(days=1)
ANN = Buyer(external_id="ann", name="Ann", email="ann@buyers.example", phone="+8613800138000")
MORE = """
[plugins]
use = ["care", "./asker.py"]
[[channels.email]]
use = "post"
[[channels.sms]]
use = "text"
"""
ASKER = '''"""Asks how it was."""

from crmkit import Question, Survey, hookimpl


@hookimpl
def crmkit_web():
    yield Survey(
        "nps",
        {"en": "How was it?", "zh-CN": "您还满意吗？"},
        (
            Question(
                "score",
                {"en": "Would you recommend us?", "zh-CN": "您愿意推荐我们吗？"},
                "scale",
                ends=({"en": "never", "zh-CN": "绝不"}, {"en": "surely", "zh-CN": "一定"}),
                is_required=True,
                is_score=True,
            ),
            Question(
                "liked",
                {"en": "What did you like?", "zh-CN": "您喜欢什么？"},
                "choices",
                choices={"tea": {"en": "The tea", "zh-CN": "茶"}, "box": {"en": "The box", "zh-CN": "盒子"}},
            ),
            Question("why", {"en": "Anything else?", "zh-CN": "还有什么想说的？"}),
        ),
        intro={"en": "Three short questions.", "zh-CN": "三个小问题。"},
    )
'''


def open_town(folder: Path, url: str) -> Town:
    """A town whose customer Ann has bought, paid, received, cancelled and asked for money back."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "asker.py").write_text(ASKER, "utf-8")
    town = Town(folder, url, MORE)
    lines = (
        LineRecord(
            external_id="1", title="Long Jing green tea, spring harvest", quantity=Decimal(2), total=Decimal("48.00")
        ),
        LineRecord(external_id="2", title="茶杯 Celadon cup 🍵", total=Decimal("19.50")),
    )
    parcels = [
        ParcelRecord(
            order_external_id="1001",
            external_id=key,
            carrier="Post",
            tracking_number=f"JJD01499000012345678{key}",
            tracking_url=f"https://carrier.example/follow?parcel={key}",
            shipped_at=NOON - 4 * DAY,
            delivered_at=delivered,
        )
        for key, delivered in (("90", NOON - DAY), ("91", None))
    ]
    said = {"buyer": ANN, "currency": "EUR", "total": Decimal("72.40"), "lines": lines}
    town.order(
        "1001",
        **said,
        shipping_total=Decimal("4.90"),
        placed_at=NOON - 10 * DAY,
        paid_at=NOON - 9 * DAY,
        promised_at=NOON + 2 * DAY,
        parcels=tuple(parcels),
    )
    town.order(
        "1002",
        **said,
        status="cancelled",
        placed_at=NOON - 40 * DAY,
        paid_at=NOON - 39 * DAY,
        cancelled_at=NOON - 30 * DAY,
    )
    town.order("1003", **said, placed_at=NOON - 20 * DAY, promised_at=NOON - 5 * DAY)
    town.take(
        PaymentRecord(
            external_id="p1",
            order_external_id="1001",
            method="credit_card",
            amount=Decimal("72.40"),
            currency="EUR",
            paid_at=NOON - 9 * DAY,
        ),
        RefundRecord(
            external_id="r1",
            order_external_id="1002",
            refunded=Decimal("72.40"),
            currency="EUR",
            refunded_at=NOON - 25 * DAY,
        ),
        RefundRecord(
            external_id="r2",
            order_external_id="1001",
            requested=Decimal("19.50"),
            currency="EUR",
            requested_at=NOON - DAY,
        ),
    )
    return town


#: What the pages of the town are about.
ABOUT = {
    "order": {"subject": 1},
    "statement": {"subject": 1},
    "unsubscribe": {"word": "email"},
    "preferences": {},
    "survey": {"subject": 1, "word": "nps"},
    "contact": {"subject": 1},
}


def path_of(town: Town, page: str) -> str:
    """The path of a page of Ann's."""
    about = dict(ABOUT[page])
    if page == "statement":
        about["subject"] = town.shop_id
    return town.path(page, town.profile(), **about)


#: Wants to be more than text.
NASTY = "<script>alert(1)</script>{{7*7}}{% raw %}\"' onload=x ${7*7} \u202e مرحبا 🍵"


def spoil(town: Town) -> None:
    """Every text of the first order, of its parcels and of its buyer wants to be more than text, or is far too long."""
    lines = [LineRecord(external_id=str(n), title="长" * 1000, quantity=Decimal("0.001")) for n in range(100)]
    carrier = f"https://carrier.example/{NASTY}"
    parcel = {"order_external_id": "1001", "carrier": NASTY, "tracking_number": NASTY, "shipped_at": NOON}
    order = OrderRecord(
        external_id="1001",
        number=NASTY,
        buyer=Buyer(external_id="ann", name=NASTY, email="ann@buyers.example"),
        currency="EUR",
        total=Decimal("99999999999999.99"),
        lines=(LineRecord(external_id=NASTY, title=NASTY, total=Decimal("1")), *lines),
        parcels=(
            ParcelRecord(**parcel, external_id="90", tracking_url=carrier),
            ParcelRecord(**parcel, external_id="91", tracking_url="javascript:alert(1)"),
        ),
        updated_at=NOON + timedelta(hours=1),
    )
    town.take(order)
