"""The gateways of the page on plugins do what it says of them, and its tables name all that an author may write."""

import asyncio
import inspect
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from crmkit import Gateway, Message, OrderRecord, Reason, Source
from crmkit.adapters.adapter import Adapter
from crmkit.testing import a_buyer
from crmkit.testing.exchange import Fixture
from tests.docs.snippet import DOCS, fences, play

TEXT = (DOCS / "plugins.md").read_text("utf-8")
#: Attributes there are for tests and for crmkit's own sake, which no author says.
INNER = {"answered_at", "wordings", "streams", "window"}

THANKS = """
from crmkit import OrderPlaced, Send, hookimpl, on


@on(OrderPlaced)
def thank(event, crm):
    yield Send("thanks", via=("sms",))


@hookimpl
def crmkit_handlers():
    yield thank
"""


def module(name: str) -> dict[str, Any]:
    """What a file of the page defines."""
    [fence] = [one for one in fences(TEXT) if name in one.info]
    space: dict[str, Any] = {"__name__": name.removesuffix(".py")}
    exec(compile("\n".join(fence.lines), name, "exec"), space)
    return space


def message(number: int, text: str = "Thank you!") -> Message:
    to = f"+44791112345{number}"
    return Message(number, f"k{number}", "sms", "phone", to, "transactional", "thanks", "en", text)


def answering(**said: Any) -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: httpx.Response(200, **said))


@pytest.mark.parametrize("kind", [Adapter, Gateway, Source])
def test_all_that_an_author_may_write_is_in_the_tables(kind: type) -> None:
    written = {name for name, one in vars(kind).items() if inspect.isfunction(one) or isinstance(one, classmethod)}
    missing = [
        name
        for name in sorted({*written, *kind.__annotations__} - INNER)
        if not name.startswith("_") and f"| `{name}` |" not in TEXT and f"{name}(" not in TEXT
    ]
    assert missing == []


def test_all_that_a_fixture_may_hold_is_told() -> None:
    told = (DOCS / "tutorial" / "testing.md").read_text("utf-8").partition("<!-- generated: fixture -->")[2]
    names = {*Fixture.GIVEN, *Fixture.EXPECTED, *Fixture.MORE}
    assert [name for name in sorted(names) if f"`{name}`" not in told] == []


def test_a_playbook_tells_what_is_wrong_where_the_configuration_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    shown = TEXT.partition("```python teatime.py")
    for fence in fences(f"{shown[1]}{shown[2]}")[:3]:
        play(fence, tmp_path)


def test_of_a_batch_each_has_its_own_receipt_and_who_is_not_spoken_of_has_none(make_adapter: Any) -> None:
    page = module("crmkit_flock.py")
    said = [{"reference": "k3", "code": 12}, {"reference": "k1", "id": "f1"}, {"reference": "k4", "code": 99}]
    flock = make_adapter(page["FlockGateway"], {}, at=answering(json=said))

    async def run() -> list[Any]:
        return [receipt async for receipt in flock.deliver_many([message(number) for number in (1, 2, 3, 4)])]

    found = {
        receipt.message.key: (receipt.outcome, receipt.vendor_id or receipt.reason) for receipt in asyncio.run(run())
    }
    assert found == {
        "k1": ("accepted", "f1"),
        "k3": ("rejected", Reason.BAD_ADDRESS),
        "k4": ("rejected", Reason.OTHER),
    }
    assert flock.batch_key(message(1)) == flock.batch_key(message(2)) != flock.batch_key(message(3, "Goodbye"))


def test_who_is_not_yielded_of_a_batch_is_in_doubt(journey: Any, tmp_path: Path) -> None:
    [fence] = [one for one in fences(TEXT) if "crmkit_flock.py" in one.info]
    play(fence, tmp_path)
    (tmp_path / "thanks.py").write_text(THANKS, "utf-8")

    def first_only(request: httpx.Request) -> httpx.Response:
        told = json.loads(request.content)["to"]
        return httpx.Response(200, json=[{"reference": told[0]["reference"], "id": "f1"}])

    tea = journey(
        tmp_path / "thanks.py",
        tmp_path / "crmkit_flock.py",
        templates={"thanks.en.sms": '---\npurpose = "transactional"\n---\nThank you!\n'},
        config='[[channels.sms]]\nuse = "flock"',
        at=httpx.MockTransport(first_only),
    )
    buyers = [a_buyer(name, phone=f"+4915112345{number}") for name, number in (("Ann", 671), ("Bo", 672))]
    bought = [OrderRecord(external_id=one.name or "", placed_at=tea.clock.now, buyer=one) for one in buyers]
    tea.says(*bought)
    assert sorted(one.state for one in tea.messages) == ["in-doubt", "sent"]


@pytest.mark.parametrize(
    ("body", "came"),
    [
        ("<a><code>0</code><id>r7</id></a>", "accepted"),
        ("<a><code>17</code></a>", Reason.BAD_ADDRESS),
        ("<a><code>99</code></a>", Reason.OTHER),
        ("<a><code>401</code></a>", "AuthError"),
        ("<a><code>0</code></a>", "DoubtError"),
        ("<a/>", "DoubtError"),
        ("", "DoubtError"),
        ('{"code": 0}', "DoubtError"),
    ],
)
def test_an_answer_in_xml_comes_to_what_it_says(make_adapter: Any, body: str, came: str) -> None:
    reed = make_adapter(module("crmkit_reed.py")["ReedGateway"], {"token": "made-up"}, at=answering(text=body))
    try:
        receipt = asyncio.run(reed.deliver(message(1)))
    except Exception as error:
        assert type(error).__name__ == came
    else:
        assert came in (receipt.outcome, receipt.reason)
