"""Journeys: real records through a real installation, and exactly what is told over weeks."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crmkit import ComplaintFiled, ConfigError, PluginError, RetryableError
from crmkit.testing import Clock, Golden, Journey, a_buyer
from tests.testing import diary

RULES = """
[[care.rules]]
on = "order-paid"
send = "order-paid"
via = ["sms", "email"]

[[care.rules]]
on = "order-shipped"
send = "order-shipped"
via = ["sms", "email"]

[[care.rules]]
on = "order-delivered"
send = "order-delivered"
via = ["email"]
delay = "2d"
"""
ANN = a_buyer("Ann")
LI = a_buyer("李雷", external_id="li", email=None, phone="+8613800138000", locale="zh-CN")
Begin = Callable[..., Journey]


def live_six_weeks(tea: Journey) -> None:
    """A week for an order: every second arrives; Li is told by text message."""
    for week in range(6):
        buyer = LI if week % 3 == 2 else ANN
        tea.order(str(1001 + week), "placed", "paid", buyer=buyer, promised_at=tea.clock.now + timedelta(days=4))
        tea.passes("1d")
        tea.order(str(1001 + week), "shipped")
        tea.passes("2d")
        if week % 2:
            tea.order(str(1001 + week), "delivered")
        tea.passes("4d")


def test_six_weeks_are_told_as_they_would_have_been(journey: Begin, golden: Golden) -> None:
    tea = journey("care", config=RULES)
    live_six_weeks(tea)
    assert tea.told("template", "channel", "to")[:3] == [
        ("order-paid", "email", "ann@buyers.example"),
        ("order-shipped", "email", "ann@buyers.example"),
        ("shipment-late", "email", "ann@buyers.example"),
    ]
    assert [one.template for one in tea.told() if one.to == "+8613800138000"] == [
        *("order-paid", "order-shipped", "shipment-late"),
        *("order-paid", "order-shipped"),
    ]
    assert tea.silent("template", "order", "reason") == [("order-delivered", "1006", "no-address")]
    golden("six-weeks.txt", tea.story())


@pytest.mark.bench
def test_six_weeks_pass_in_well_under_a_second(journey: Begin) -> None:
    live_six_weeks(journey("care", config=RULES))  # statements are compiled, templates are not
    tea = journey("care", config=RULES)
    began = time.perf_counter()
    live_six_weeks(tea)
    spent = time.perf_counter() - began
    assert len(tea.messages) == 18
    assert spent < 1, f"six weeks with {len(tea.messages)} messages took {spent:.2f} s"


@pytest.mark.usefixtures("database_kind")
def test_a_journey_is_the_same_on_both_databases(journey: Begin, golden: Golden) -> None:
    tea = journey("care", config=RULES)
    tea.order("1001", "placed", "paid", buyer=ANN, promised_at=tea.clock.now + timedelta(days=4))
    tea.passes("2w")
    golden("both-databases.txt", tea.story())


def test_each_message_leaves_at_its_own_time(journey: Begin, clock: Clock) -> None:
    clock.to("2026-05-04T20:00")
    tea = journey("care", config=RULES + '[policy]\nquiet_hours = "21:00-09:00"')
    tea.order("1", "delivered", buyer=ANN)
    tea.passes("26h")
    assert tea.messages == []
    tea.order("2", "paid", buyer=ANN)
    assert tea.waiting("template", "reason") == [("order-paid", "quiet-hours")]
    assert tea.waiting("not_before") == [datetime(2026, 5, 6, 9, tzinfo=UTC)]
    tea.until("2026-05-08T00:00")
    assert tea.told("template", "at") == [
        ("order-paid", datetime(2026, 5, 6, 9, tzinfo=UTC)),
        ("order-delivered", datetime(2026, 5, 6, 20, tzinfo=UTC)),
    ]


def test_what_happened_before_is_history(journey: Begin, clock: Clock) -> None:
    tea = journey("care", config=RULES)
    tea.order("1", buyer=ANN, placed_at=clock.now - timedelta(days=9), paid_at=clock.now - timedelta(days=9))
    assert tea.messages == []
    assert "not announced, since it is history:\n  shop: order-paid x1 (care)" in tea.story()


# --- a playbook with all there is -------------------------------------------------------------------------------------


def test_a_playbook_of_ones_own_has_its_tables_events_and_templates(journey: Begin, golden: Golden) -> None:
    tea = journey(diary, config="[diary]\nafter = '2d'", templates=diary.TEMPLATES)
    tea.order("1001", buyer=ANN)
    assert tea.crmkit.rows(diary.Entry) == [{"customer_id": 1, "orders": 1}]
    assert [(name, plugin) for _, name, plugin in tea.timers()] == [("page-turned", "diary")]
    tea.tells(diary.PageTurned(customer=tea.crmkit.customer("ann"), order=tea.crmkit.order("1001")), key="once")
    tea.tells(diary.PageTurned(customer=tea.crmkit.customer("ann"), order=tea.crmkit.order("1001")), key="once")
    tea.passes("3d")
    assert tea.told("template", "at") == [
        ("diary-page", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        ("diary-page", datetime(2026, 3, 4, 12, tzinfo=UTC)),
    ]
    golden("diary.txt", tea.story())


@pytest.mark.usefixtures("database_kind")
def test_two_installations_of_one_test_are_strangers(journey: Begin) -> None:
    tea, coffee = (journey(diary, templates=diary.TEMPLATES) for _ in range(2))
    tea.order("1001", buyer=ANN)
    assert (len(tea.crmkit.rows(diary.Entry)), coffee.crmkit.rows(diary.Entry)) == (1, [])


@pytest.mark.parametrize("time_", range(2))
@pytest.mark.usefixtures("database_kind")
def test_what_a_test_left_is_gone_for_the_next(journey: Begin, time_: int) -> None:
    tea = journey(diary, templates=diary.TEMPLATES)
    tea.order("1001", buyer=ANN)
    assert tea.crmkit.customer("ann").id == 1, "its numbers begin anew too"


def test_a_core_event_can_be_told(journey: Begin) -> None:
    tea = journey(diary, templates=diary.TEMPLATES)
    tea.order("1001", buyer=ANN)
    tea.tells(ComplaintFiled(complaint="7", text="cold", source="test", customer=tea.crmkit.customer("ann")))
    assert "* complaint-filed (test)  Ann  complaint=7 source=test: cold" in tea.story()


def test_a_customer_writes_and_a_vendor_tells_what_became_of_a_message(journey: Begin) -> None:
    tea = journey("care", config=RULES)
    tea.order("1001", "paid", buyer=LI)
    [paid] = tea.told()
    assert (paid.channel, paid.state, paid.vendor_id) == ("sms", "sent", "v1")
    tea.passes("1m")
    tea.reports(paid, "delivered")
    assert tea.told("state") == ["delivered"]
    tea.hears("+8613800138000", "STOP")
    tea.order("1001", "shipped")
    assert tea.silent("template", "reason") == [("order-shipped", "opted-out")]


def test_a_gateway_answers_what_it_is_told_to(journey: Begin) -> None:
    tea = journey("care", config=RULES)
    tea.crmkit.answers("email", RetryableError("not now", who="email", operation="deliver"))
    tea.order("1001", "paid", buyer=ANN)
    assert tea.waiting("template", "reason") == [("order-paid", "retry")]
    tea.passes("1h")
    assert tea.told("template") == ["order-paid"]
    assert len(tea.crmkit.stage.handed) == 2


def test_a_customer_is_forgotten_with_a_playbooks_rows(journey: Begin) -> None:
    tea = journey(diary, templates=diary.TEMPLATES)
    tea.order("1001", buyer=ANN)
    tea.crmkit.forget(tea.crmkit.customer("ann"))
    assert tea.crmkit.rows(diary.Entry) == []


async def test_a_journey_runs_inside_of_an_async_test_too(journey: Begin) -> None:
    tea = journey("care", config=RULES)
    tea.order("1001", "paid", buyer=ANN)
    assert tea.told("template") == ["order-paid"]


# --- mistakes ---------------------------------------------------------------------------------------------------------

PLAY = """
from crmkit import OrderPlaced, hookimpl, on

@on(OrderPlaced)
def tell(event, crm):
    {body}

@hookimpl
def crmkit_handlers():
    yield tell
"""


@pytest.fixture
def written(tmp_path: Path) -> Any:
    made: list[str] = []

    def write(name: str, body: str) -> Path:
        (tmp_path / f"{name}.py").write_text(PLAY.format(body=body))
        made.append(f"crmkit_plugin_{name}")
        return tmp_path / f"{name}.py"

    yield write
    for name in made:
        sys.modules.pop(name, None)


def test_a_handler_that_raises_fails_the_test_with_its_own_error(journey: Begin, written: Any) -> None:
    tea = journey(written("torn_one", "raise KeyError('lost')"))
    with pytest.raises(AssertionError, match=r"torn_one failed on order-placed \(interaction 1\): KeyError") as raised:
        tea.order("1001", buyer=ANN)
    assert isinstance(raised.value.__cause__, KeyError)
    assert raised.value.__cause__.__traceback__ is not None


def test_what_is_no_action_fails_the_test(journey: Begin, written: Any) -> None:
    tea = journey(str(written("torn_two", "yield 7")))
    with pytest.raises(AssertionError, match="returned 7, which is no action"):
        tea.order("1001", buyer=ANN)


SECTION = """
from crmkit import OrderPlaced, PluginSettings, hookimpl, on

class Settings(PluginSettings):
    word: str = "none"

said = []

@hookimpl
def crmkit_handlers(settings):
    @on(OrderPlaced)
    def tell(event, crm):
        said.append(settings.word)
        return ()
    yield tell
"""


@pytest.mark.parametrize("imported", [False, True], ids=["by its path", "as a module the test imported"])
def test_a_file_has_the_section_it_has_in_a_configuration(
    journey: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: bool
) -> None:
    name = f"crmkit_section_{int(imported)}"
    (tmp_path / f"{name}.py").write_text(SECTION)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = import_module(name) if imported else tmp_path / f"{name}.py"
    tea = journey(plugin, config=f'[{name}]\nword = "hello"\n')
    tea.order("1001", buyer=ANN)
    full = name if imported else f"crmkit_plugin_{name}"
    assert sys.modules.pop(full).said == ["hello"]


def test_a_plugin_that_cannot_be_used_is_told_at_once(install: Any, written: Any, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="cannot be imported: SyntaxError"):
        install(written("torn_three", "return return"))
    with pytest.raises(ConfigError, match=r"there is no file nowhere.py \(looked for "):
        install("./nowhere.py")
    with pytest.raises(ConfigError, match="no plugin 'crae' is installed"):
        install("crae")
    with pytest.raises(PluginError, match="it implements no hook"):
        install(ModuleType("empty"))


def test_a_configuration_that_is_wrong_is_told_with_its_line(install: Any) -> None:
    with pytest.raises(ConfigError, match=r"crmkit.toml:3: care.rules\[1\].on"):
        install("care", config='\n[[care.rules]]\non = "order-payed"\nsend = "x"')
    with pytest.raises(ConfigError, match="config is no TOML"):
        install("care", config="[care")


def test_a_record_that_is_refused_fails_the_test(journey: Begin) -> None:
    tea = journey("care")
    with pytest.raises(AssertionError, match=r"refused: .*no e-mail address"):
        tea.order("1001", buyer=a_buyer("Ann", email="nowhere"))


def test_what_a_journey_cannot_do_is_told(journey: Begin) -> None:
    tea = journey("care")
    with pytest.raises(ValueError, match="'sent' is no milestone"):
        tea.order("1001", "sent")
    with pytest.raises(ValueError, match="is past; it is 2026-03-02 12:00 UTC"):
        tea.until("2026-03-01T00:00")
    with pytest.raises(ConfigError, match="there is no account 'outlet'"):
        tea.order("1001", shop="outlet", buyer=ANN)
    with pytest.raises(LookupError, match="no customer is known by 'bob'; known are none"):
        tea.crmkit.customer("bob")
    with pytest.raises(LookupError, match="there is no order '7'"):
        tea.crmkit.order("7")
    with pytest.raises(ValueError, match="no gateway for chat"):
        tea.hears("ann", "hello", channel="chat")
