from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import crmkit_care
from crmkit import Customer, Line, Money, Order, Parcel, Refund, Shop
from crmkit.core.order import RANK
from crmkit.flow.render import Templates, context_of

NOW = datetime(2018, 5, 7, 12, tzinfo=UTC)
SHOP = Shop(1, "flagship", "Tea House", frozenset(), NOW, "zh-CN", ZoneInfo("Asia/Shanghai"))
TEMPLATES = Templates([Path(crmkit_care.__file__).parent / "templates"], None)
BUYER = "order-placed order-paid order-shipped order-delivered order-refunded shipment-late".split()
EVERY = [
    *((name, channel, locale) for name in BUYER for channel in ("email", "sms") for locale in ("zh-CN", "en")),
    *(("shipment-late-staff", "email", locale) for locale in ("zh-CN", "en")),
]
#: What tells nothing of an order: who reads it may be a stranger.
CODES = [("prove-contact", channel, locale) for channel in ("email", "sms") for locale in ("zh-CN", "en")]
#: What the team hears of the shop itself, in test_care_staff.py.
STAFF = [(name, "email", locale) for name in ("digest", "silence", "silence-ended") for locale in ("zh-CN", "en", "de")]


def minimal(customer: Customer | None = None) -> dict[str, Any]:
    order = Order(1, 1, "x", "2018-1", "placed")
    return context_of(customer=customer or Customer(1, 1), order=order, shop=SHOP, now=NOW, zone="Asia/Shanghai")


def full() -> dict[str, Any]:
    promised = datetime(2018, 5, 9, 16, tzinfo=UTC)
    order = Order(
        1,
        1,
        "x",
        "e481f51cbdc54678b7cc49136f2d6af7",
        "shipped",
        currency="CNY",
        total=Money(Decimal("1288.5"), "CNY"),
        placed_at=NOW,
        shipped_at=NOW + timedelta(hours=3),
        promised_at=promised,
        lines=(Line("Oolong & <Co>", Decimal(2)), Line(None, Decimal(1))),
        parcels=(
            Parcel(1, "1", carrier="SF", tracking_number="SF1234567890", tracking_url="https://sf.example/?n=1&x=2"),
            Parcel(2, "2"),
            Parcel(3, "3", tracking_number="77", tracking_url="javascript:alert(1)"),
        ),
    )
    return context_of(
        customer=Customer(1, 1, name="Li <Lei>"),
        order=order,
        shop=SHOP,
        refund=Refund(1, "r", amount=Money(Decimal(88), "CNY")),
        now=NOW,
        zone="Asia/Shanghai",
        extra={"promised_at": promised},
    )


def test_every_text_is_there_in_both_languages() -> None:
    assert TEMPLATES.check() == []
    assert sorted({(name, channel) for name, channel, _ in (*EVERY, *CODES, *STAFF)}) == sorted(
        (name, channel) for name in TEMPLATES.names() for channel in TEMPLATES.channels(name)
    )
    for name, channel, _ in (*EVERY, *CODES):
        assert TEMPLATES.missing_locales(name, channel, ["zh-CN", "en"]) == []
    for name, channel, _ in STAFF:
        assert TEMPLATES.missing_locales(name, channel, ["zh-CN", "en", "de"]) == []


@pytest.mark.parametrize(("name", "channel", "locale"), EVERY)
def test_a_text_reads_well_with_all_facts_and_with_hardly_any(name: str, channel: str, locale: str) -> None:
    template = TEMPLATES.find(name, channel, [locale])
    assert template is not None
    assert template.locale == locale
    assert template.purpose == "transactional"
    assert template.valid_for is not None
    assert template.milestone is None or template.milestone in RANK
    for facts, number in ((full(), "e481f51c"), (minimal(), "2018-1"), (minimal(Customer(1, 1, name="")), "2018-1")):
        rendered = template.render(facts)
        for part in (rendered.subject, rendered.text, rendered.html):
            for unwanted in ("{{", "{%", "None", " ,", " ，", "javascript:"):
                assert unwanted not in (part or "")
        assert number in rendered.text
        assert "Tea House" in rendered.text
        assert "\n\n\n" not in rendered.text
        assert "  " not in rendered.text
        if channel == "email":
            assert rendered.subject
            assert number in rendered.subject
            assert (rendered.html is None) == (name == "shipment-late-staff")
        if rendered.html:
            assert "<Lei>" not in rendered.html
            assert "<Co>" not in rendered.html
        if channel == "sms":
            assert rendered.segments == 1 or (locale == "zh-CN" and rendered.segments == 2)


def test_the_promised_day_is_the_last_day_of_the_promise() -> None:
    for name, channel, locale in EVERY:
        template = TEMPLATES.find(name, channel, [locale])
        assert template is not None
        text = template.render(full()).text
        if name in {"order-shipped", "shipment-late", "shipment-late-staff"}:
            assert ("2018年5月9日" if locale == "zh-CN" else "9 May 2018") in text


def test_what_was_refunded_is_named() -> None:
    for channel in ("email", "sms"):
        for locale in ("zh-CN", "en"):
            template = TEMPLATES.find("order-refunded", channel, [locale])
            assert template is not None
            assert "¥88.00" in template.render(full()).text
            assert "¥" not in template.render(minimal()).text


def test_a_mail_leads_to_the_customers_own_page_where_there_is_one() -> None:
    page = "https://crm.tea.example/o/abc"
    for name, channel, locale in EVERY:
        template = TEMPLATES.find(name, channel, [locale])
        assert template is not None
        for links in ({"order": page}, {"preferences": page}, None):
            rendered = template.render({**full(), **({} if links is None else {"links": links})})
            is_told = links == {"order": page} and channel == "email" and name != "shipment-late-staff"
            assert (page in rendered.text) == is_told
            assert (f'href="{page}"' in (rendered.html or "")) == is_told


@pytest.mark.parametrize(("name", "channel", "locale"), CODES)
def test_a_code_is_told_with_or_without_a_shop(name: str, channel: str, locale: str) -> None:
    template = TEMPLATES.find(name, channel, [locale])
    assert template is not None
    assert (template.purpose, template.valid_for) == ("transactional", timedelta(minutes=30))
    for shop in (SHOP, None):
        facts = context_of(customer=None, order=None, shop=shop, now=NOW, zone="UTC", extra={"code": "012345"})
        rendered = template.render(facts)
        for part in (rendered.text, rendered.subject) if channel == "email" else (rendered.text,):
            assert "012345" in (part or "")
            assert ("Tea House" in (part or "")) == (shop is not None)
        assert "\n\n\n" not in rendered.text
        assert "  " not in rendered.text
        assert rendered.segments == (None if channel == "email" else 1)
