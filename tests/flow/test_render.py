import html
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.account import Shop
from crmkit.core.customer import Customer
from crmkit.core.errors import ConfigError, PluginError
from crmkit.core.form import FormSpec
from crmkit.core.money import Money
from crmkit.core.order import Line, Order, Parcel, Refund, Review
from crmkit.flow.render import MissingVariable, Template, Templates, context_of, locale_chain

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOON = datetime(2018, 5, 7, 12, tzinfo=UTC)
SHOP = Shop(
    id=1,
    name="flagship",
    title="Tea & Co",
    reports=frozenset({"delivered"}),
    announce_from=NOON,
    locale="zh-CN",
    zone=SHANGHAI,
)
ORDER = Order(
    id=7,
    shop_id=1,
    external_id="x-7",
    number="7",
    status="shipped",
    currency="CNY",
    total=Money(Decimal("1288.00"), "CNY"),
    placed_at=NOON,
    promised_at=datetime(2018, 5, 9, 16, tzinfo=UTC),
    lines=(Line("Oolong", Decimal(2)), Line(None, Decimal("0.5"))),
    parcels=(Parcel(1, "p", carrier="SF", tracking_number="SF1"),),
    extras={"gift": None, "weight": 1.25, "a": 1},
)


def facts(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"customer": Customer(1, 1, name="Li Lei"), "order": ORDER, "shop": SHOP, "now": NOON}
    return context_of(**{"zone": SHANGHAI, **given, **changed})


def template(
    text: str, *, front: str = "", locale: str = "en", channel: str = "sms", body: str | None = None
) -> Template:
    source = f'---\npurpose = "transactional"\n{front}\n---\n{text}'
    if body is not None:
        source += f"\n--- html ---\n{body}"
    return Template.from_source(source, name="t", locale=locale, channel=channel)


def said(text: str, context: dict[str, Any] | None = None, **options: Any) -> str:
    return template(text, **options).render(facts() if context is None else context).text


# --- rendering --------------------------------------------------------------------------------------------------------


def test_a_text_message_knows_its_encoding_and_segments() -> None:
    rendered = template("\nHello {{ customer.name }}\n\n").render(facts())
    assert (rendered.text, rendered.subject, rendered.html) == ("Hello Li Lei", None, None)
    assert (rendered.encoding, rendered.segments) == ("gsm7", 1)
    assert template("您好" * 40).render({}).segments == 2


def test_a_mail_has_subject_text_and_escaped_html() -> None:
    front = 'subject = "Order {{ order.number }} of {{ customer.name }}"'
    mail = template("Hi {{ shop.title }}", front=front, channel="email", body="<b>{{ shop.title }}</b>")
    rendered = mail.render(facts(customer=Customer(1, 1, name="A\nBcc: b@x.example")))
    assert rendered.subject == "Order 7 of A Bcc: b@x.example", "no line break gets into a header"
    assert (rendered.text, rendered.html) == ("Hi Tea & Co", "<b>Tea &amp; Co</b>")
    assert (rendered.encoding, rendered.segments) == (None, None)


def test_what_a_customer_is_called_is_never_compiled() -> None:
    named = facts(customer=Customer(1, 1, name="{{ 7*7 }}{% raw %}"))
    assert said("Hi {{ customer.name }}", named) == "Hi {{ 7*7 }}{% raw %}"


@given(st.text())
def test_any_name_appears_as_it_is(name: str) -> None:
    rendered = MAIL.render({"customer": {"name": name}})
    assert rendered.text == f"Dear {name}."
    assert rendered.html == f"<p>{html.escape(name).replace('&#x27;', '&#39;').replace('&quot;', '&#34;')}</p>"
    assert rendered.subject is not None
    assert len(rendered.subject.splitlines()) == 1


MAIL = template(
    "Dear {{ customer.name }}.",
    front='subject = "For {{ customer.name }}"',
    channel="email",
    body="<p>{{ customer.name }}</p>",
)


def test_a_tag_alone_on_its_line_leaves_no_line_behind() -> None:
    assert said("a\n  {% if true %}\nb\n{% endif %}\n{# why #}\nc {% if true %}d{% endif %}\ne") == "a\nb\nc d\ne"


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        ("{{ order.tracking_number }}", "order.tracking_number"),
        ("{{ nobody }}", "nobody"),
        ("{{ nobody.name }}", "nobody"),
        ("{% for x in order.gone %}{{ x }}{% endfor %}", "order.gone"),
        ("{% for line in order.lines %}{{ line.title }}{% endfor %}", "order.lines[1].title"),
        ("{{ order.parcels[3].key }}", "order.parcels[3]"),
        ("{{ order.paid_at | date }}", "order.paid_at"),
        ("{{ order.fee | money }}", "order.fee"),
        ("{% if order.paid_at > 3 %}{% endif %}", "order.paid_at"),
    ],
)
def test_a_missing_variable_is_named_in_full(text: str, variable: str) -> None:
    with pytest.raises(MissingVariable) as caught:
        said(f"{text}.")
    assert (caught.value.variable, caught.value.template) == (variable, "t.en.sms.txt")
    assert variable in str(caught.value)


def test_a_missing_variable_can_be_asked_for_or_left_empty() -> None:
    assert said("{{ order.paid_at | date | default('-') }}") == "-"
    assert said("{% if order.paid_at is defined %}x{% else %}not yet{% endif %}") == "not yet"
    assert said("[{{ nobody.at.all | money }}]", front='on_missing = "empty"') == "[]"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% for i in range(10**9) %}{% endfor %}", "SecurityError"),
        ("{% for i in range(100000) %}x{% endfor %}", "range"),
        ("{{ 'x' * 1000000 }}", "multiplies"),
        ("{% for i in range(999) %}{% for j in range(999) %}xxxx{% endfor %}{% endfor %}", "100000"),
        ("{{ order.lines.append(1) }}", "SecurityError"),
        ("\n{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ order.number | date }}", "ValueError"),
        ("{% if false %}x{% endif %}", "empty text"),
    ],
)
def test_a_template_that_fails_is_an_error_of_its_own(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        said(text)
    assert "t.en.sms.txt" in str(caught.value)


def test_a_failing_line_is_named() -> None:
    with pytest.raises(ConfigError, match=r"t\.en\.sms\.txt:7 "):
        said("a\n{% if true %}\n{{ 1 / 0 }}\n{% endif %}")


# --- filters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "currency", "locale", "written"),
    [
        ("88", "CNY", "zh-CN", "¥88.00"),
        ("1234567.5", "USD", "en", "$1,234,567.50"),
        ("1234.5", "BRL", "pt-BR", "R$1.234,50"),
        ("-3", "GBP", "en-GB", "-£3.00"),
        ("12000", "KRW", "en", "KRW 12,000"),
        ("1.005", "BHD", "en", "BHD 1.005"),
        ("9.999", "EUR", "en", "€10.00"),
    ],
)
def test_money_is_written_as_the_reader_expects(amount: str, currency: str, locale: str, written: str) -> None:
    money = Money(Decimal(amount), currency)
    assert said("{{ sum | money }}", facts(extra={"sum": money}), locale=locale) == written
    assert said("{{ sum | money }}", {"sum": money}, locale=locale) == written


@pytest.mark.parametrize(
    ("locale", "day", "moment"),
    [
        ("zh-CN", "2018年5月8日", "2018年5月8日 01:30"),
        ("en", "8 May 2018", "8 May 2018, 01:30"),
        ("fi", "2018-05-08", "2018-05-08 01:30"),
    ],
)
def test_times_are_shown_in_the_readers_zone(locale: str, day: str, moment: str) -> None:
    known = facts(extra={"at": datetime(2018, 5, 7, 17, 30, tzinfo=UTC)})
    assert said("{{ at | date }} / {{ at | datetime }}", known, locale=locale) == f"{day} / {moment}"


def test_a_plain_date_is_no_moment() -> None:
    born = facts(customer=Customer(1, 1, birthday=date(1990, 1, 1)), zone="America/Los_Angeles")
    assert said("{{ customer.birthday | date }}, {{ customer.birthday | datetime }}", born) == (
        "1 January 1990, 1 January 1990"
    )


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "Pacific/Auckland", "America/Los_Angeles"])
def test_a_promised_day_is_the_shops_and_ends_at_midnight(zone: str) -> None:
    known = facts(zone=zone)
    assert said("{{ order.promised_at | promised_day }}", known, locale="zh-CN") == "2018年5月9日"


# --- facts ------------------------------------------------------------------------------------------------------------


def test_facts_are_json_and_what_is_not_known_is_left_out() -> None:
    known = facts(
        parcel=Parcel(1, "p"),
        refund=Refund(1, "r", amount=Money(Decimal(5), "JPY"), refunded_at=NOON.astimezone(SHANGHAI)),
        review=Review(1, "v", rating=Decimal("4.5")),
        extra={"promised": (NOON,)},
    )
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    assert known["order"]["total"] == {"amount": "1288.00", "currency": "CNY"}
    assert known["refund"]["amount"] == {"amount": "5", "currency": "JPY"}
    assert known["refund"]["refunded_at"] == "2018-05-07T12:00:00+00:00"
    assert known["review"]["rating"] == 4.5
    assert known["promised"] == ["2018-05-07T12:00:00+00:00"]
    assert known["order"]["lines"] == [{"title": "Oolong", "quantity": 2}, {"quantity": 0.5}]
    assert known["order"]["extras"] == {"a": 1, "weight": 1.25}
    assert "paid_at" not in known["order"]
    assert "reports" not in known["shop"]
    assert known["zone"] == known["shop"]["zone"] == "Asia/Shanghai"
    assert "customer" not in context_of(customer=None, order=None, shop=None, now=NOON, zone="UTC")


def test_a_handlers_variable_takes_no_name_of_the_cores_and_must_be_storable() -> None:
    with pytest.raises(PluginError, match="variable order is the core's own"):
        facts(extra={"order": 1})
    with pytest.raises(PluginError, match=r"context\.x\.y is object"):
        facts(extra={"x": {"y": object()}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(-1000, 1000, places=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
WALK = template(
    "{{ customer.name }}: {% for key, item in extra.items() %}{{ key }}{{ item }};{% endfor %}{{ order.total | money }}"
    "{% for line in order.lines %}{{ line.quantity }}{% endfor %} {{ order.promised_at | promised_day }}"
)


def _as_jsonb(value: Any) -> Any:
    """What PostgreSQL gives back: keys by length, then bytes; numbers as they are."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _as_jsonb(value[key]) for key in keys}
    return [_as_jsonb(item) for item in value] if isinstance(value, list) else value


@given(st.text(min_size=1), st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_rendering_again_from_the_stored_facts_says_the_same(name: str, extra: dict[str, Any]) -> None:
    # SEMANTICS 18
    known = facts(customer=Customer(1, 1, name=name), extra={"extra": extra})
    first = WALK.render(known)
    text = json.loads(json.dumps(known, allow_nan=False))
    assert WALK.render(text) == first
    assert WALK.render(_as_jsonb(text)) == first


# --- front matter and versions ----------------------------------------------------------------------------------------


def test_front_matter_is_read() -> None:
    found = template(
        "x",
        front='valid_for = "48h"\nmilestone = "shipped"\non_missing = "skip"\n'
        '[gateways.aliyun]\ntemplate_id = "SMS_1"\nsign_name = "Tea"\nparams = ["order.number"]',
    )
    assert (found.purpose, found.valid_for, found.milestone) == ("transactional", timedelta(hours=48), "shipped")
    assert found.on_missing == "skip"
    assert found.gateways == {"aliyun": FormSpec("SMS_1", "Tea", {"number": "order.number"})}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("Hello", "no front matter"),
        ("---\nvalid_for = '1h'\n---\nx", "says no purpose"),
        ("---\npurpose = 'spam'\n---\nx", "purpose = 'spam'"),
        ("---\npurpose = 'marketing'\nvalidfor = '1h'\n---\nx", "unknown key validfor; did you mean valid_for"),
        ("---\npurpose = 'marketing'\nvalid_for = '2 hours'\n---\nx", "2 hours.*30m"),
        ("---\npurpose = 'marketing'\nmilestone = 'shiped'\n---\nx", "shiped.*known are placed"),
        ("---\npurpose = 'marketing'\n[gateways.a]\ntemplate = 'x'\n---\nx", "did you mean gateways.a.template_id"),
        ("---\npurpose = 'marketing'\n[gateways.a]\nparams = 'x'\n---\nx", "give a table .* or a list"),
        ("---\npurpose = \n---\nx", "line 2"),
        ("---\npurpose = 'marketing'\n---\na\n{% if %}", r"t\.en\.sms\.txt:5 "),
        ("---\npurpose = 'marketing'\n---\n{{ x | mony }}", r"txt:4 template: No filter named 'mony'"),
        ("---\npurpose = 'marketing'\n---\n{% include 'x' %}", "stands alone"),
        ("---\npurpose = 'marketing'\nsubject = '{{'\n---\nx", r"\(subject\)"),
        ("---\npurpose = 'marketing'\n---\nx\n--- html ---\n<p>\n{% endif %}", r"t\.en\.sms\.html:2"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(source: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Template.from_source(source, name="t", locale="en", channel="sms")
    assert "t.en.sms." in str(caught.value)


def test_a_mail_needs_a_subject() -> None:
    with pytest.raises(ConfigError, match="needs a subject"):
        template("x", channel="email")


def test_a_template_is_rebuilt_from_its_source() -> None:
    # SEMANTICS 18
    again = Template.from_source(MAIL.source, name="t", locale="en", channel="email")
    assert again.hash == MAIL.hash
    assert again.render(facts()) == MAIL.render(facts())
    hashes = {template(text, locale=locale).hash for text in ("a", "b") for locale in ("en", "fr")}
    assert len(hashes) == 4


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_locale_is_followed_by_what_it_is_a_case_of() -> None:
    assert locale_chain("zh-CN", "de") == ("zh-CN", "zh", "de", "en")
    assert locale_chain("ZH_hans_cn") == ("zh-Hans-CN", "zh-Hans", "zh", "en")
    assert locale_chain(None, "", "en_GB.UTF-8", "pt") == ("en-GB", "en", "pt")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, text: str = "x") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if name.endswith(".html") else f'---\npurpose = "marketing"\nsubject = "s"\n---\n{text}')
        return path

    return write


def test_the_shops_own_goes_before_the_installations_and_a_plugins(tmp_path: Path, write: Callable[..., Path]) -> None:
    write("plugin/hi.en.sms.txt", "plugin")
    write("plugin/hi.zh-CN.sms.txt", "插件")
    write("templates/hi.en.sms.txt", "own")
    write("templates/north/hi.en.sms.txt", "north")
    write("second/hi.en.sms.txt", "second")
    write("second/hi.en.email.txt", "mail")
    write("second/hi.en.email.html", "<p>mail</p>")
    templates = Templates([tmp_path / "plugin", tmp_path / "second", tmp_path / "none"], tmp_path)

    def text(shop: str | None, *locales: str, channel: str = "sms") -> str | None:
        found = templates.find("hi", channel, locale_chain(*locales), shop)
        return None if found is None else found.render({}).text

    assert text("north") == "north"
    assert text("south") == text(None) == "own"
    assert text("north", "zh") == text("north", "zh_cn") == text("north", "zh-Hans-CN") == "插件"
    assert text("north", "de") == "north"
    assert text(None, channel="email") == "mail"
    assert text(None, channel="call") is None
    assert templates.find("ho", "sms", ("en",), None) is None
    assert templates.find("hi", "sms", ("fr",), None) is None
    mail = templates.find("hi", "email", ("en",))
    assert mail is not None
    assert mail.render({}).html == "<p>mail</p>"
    assert mail is templates.find("hi", "email", ("de", "en"), "north")
    assert templates.names() == ["hi"]
    assert templates.channels("hi") == ["email", "sms"]
    assert templates.missing_locales("hi", "sms", ["zh-CN", "en-GB", "de", "zh"]) == ["de"]
    assert templates.places("north") == [
        tmp_path / part for part in ("templates/north", "templates", "plugin", "second", "none")
    ]
    assert templates.check() == []


def test_one_broken_template_harms_only_itself(tmp_path: Path, write: Callable[..., Path]) -> None:
    write("templates/good.en.sms.txt")
    write("templates/bad.en.sms.txt", "{{")
    write("templates/notes.txt")
    write("templates/alone.en.email.html")
    (tmp_path / "templates/latin.en.sms.txt").write_bytes(b"---\npurpose = 'marketing'\n---\n\xe9")
    templates = Templates([], tmp_path)
    assert templates.find("good", "sms", ["en"]) is not None
    with pytest.raises(ConfigError, match=r"bad\.en\.sms\.txt:5"):
        templates.find("bad", "sms", ["en"])
    told = "\n".join(map(str, templates.check()))
    assert len(templates.check()) == 4
    for part in ("notes.txt", "alone.en.email.txt", "bad.en.sms.txt", "is not UTF-8"):
        assert part in told


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "hi.en.sms.txt"
    path.write_bytes(b"\xef\xbb\xbf---\r\npurpose = 'marketing'\r\n---\r\na\r\nb\r\n")
    assert Template.from_file(path, name="hi", locale="en", channel="sms").render({}).text == "a\nb"
