"""docs/reference/errors/index.md says what comes of each error, for a message or a reading: every row is tried."""

import textwrap
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import crmkit
from crmkit import Buyer, Gateway, OrderPlaced, OrderRecord, Send, Source, hookimpl, on
from crmkit.testing import a_buyer
from tests.docs.snippet import DOCS

TEXT = (DOCS / "reference" / "errors" / "index.md").read_text("utf-8")
NEWS = '---\npurpose = "transactional"\n---\nThank you.\n'
ORDER = OrderRecord(external_id="7", placed_at=datetime(2026, 3, 2, 13, tzinfo=UTC), buyer=Buyer(name="Ann"))
NAMES = {name: getattr(crmkit, name) for name in crmkit.__all__} | {"timedelta": timedelta, "ORDER": ORDER}
#: What comes before an error in a stream: a page with an order.
FIRST = "if start.cursor is None:\n    yield Page(records=[ORDER], cursor={'page': 1})"


def rows(heading: str) -> list[list[str]]:
    table = TEXT.partition(f"\n## {heading}\n")[2].partition("\n\n## ")[0]
    found = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in row] for row in found[1:]]


def method(written: str, arguments: str, **known: Any) -> Any:
    """An asynchronous function of these lines."""
    space = NAMES | known
    exec(f"async def method({arguments}):\n{textwrap.indent(written, '    ')}", space)
    return space["method"]


class ErringGateway(Gateway):
    """Does what a row of the table says."""

    name = "erring"
    channel = "sms"
    reaches = ("phone",)


class ErringSource(Source):
    """Reads nothing, until a row of the table says what it does."""

    name = "erring"
    reports = frozenset({"placed"})

    @crmkit.stream
    async def orders(self, start: Any) -> Any:
        for _ in ():
            yield


@on(OrderPlaced)
def thank(event: Any, crm: Any) -> Any:
    yield Send("news", via=("sms",))


@hookimpl
def crmkit_gateways() -> Any:
    yield ErringGateway


@hookimpl
def crmkit_sources() -> Any:
    yield ErringSource


@hookimpl
def crmkit_handlers() -> Any:
    yield thank


@pytest.mark.parametrize(("what", "written", "state", "reason", "then"), rows("In a gateway's `deliver`"))
def test_a_message_is_what_the_table_says(
    journey: Any, monkeypatch: pytest.MonkeyPatch, what: str, written: str, state: str, reason: str, then: str
) -> None:
    monkeypatch.setattr(ErringGateway, "deliver", method(written, "self, message"))
    tea = journey(__file__, templates={"news.en.sms": NEWS}, config='[[channels.sms]]\nuse = "erring"')
    tea.order("1001", buyer=a_buyer("Ann", phone="+4915112345678"))
    [message] = tea.messages
    assert (message.state, message.reason or "") == (state, reason)
    if "channel's other gateways" in then:
        two = '[[channels.sms]]\nuse = "erring"\n[[channels.sms]]\nuse = "stand-in"'
        other = journey(__file__, templates={"news.en.sms": NEWS}, config=two)
        other.order("1001", buyer=a_buyer("Ann", phone="+4915112345678"))
        assert other.told("state", "gateway") == [("sent", "stand-in")]


@pytest.mark.parametrize(("what", "written", "before", "cursor", "then"), rows("In a source's stream"))
def test_a_reading_is_what_the_table_says(
    install: Any, monkeypatch: pytest.MonkeyPatch, what: str, written: str, before: str, cursor: str, then: str
) -> None:
    starts: list[Any] = []
    orders = method(f"STARTS.append(start.cursor)\n{FIRST}\n{written}", "self, start", STARTS=starts)
    tea = install(__file__, templates={"news.en.sms": NEWS}, config='[shops.tea]\nuse = "erring"')
    monkeypatch.setattr(ErringSource, "orders", crmkit.stream(orders))
    for _ in range(2):
        with pytest.raises((crmkit.CrmkitError, AssertionError)):
            tea.sync()
    assert before == "stay"
    assert tea.order("7").external_id == "7"
    assert starts == [None, {"page": 2 if cursor == "moves" else 1}]


def test_every_error_of_an_adapter_is_in_the_tables() -> None:
    kinds = [name for name in NAMES if isinstance(NAMES[name], type) and issubclass(NAMES[name], crmkit.AdapterError)]
    assert [name for name in kinds if f"{name}(" not in TEXT and name != "AdapterError"] == []
