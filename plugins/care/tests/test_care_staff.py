"""What the team hears of the shop itself: silences, and the digest."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from crmkit import SilenceEnded, SilenceNoticed
from crmkit.testing import Journey, a_buyer
from crmkit_care import Settings

JourneyOf = Callable[..., Journey]
ANN = a_buyer("Ann")
TEAM = """
[[staff]]
name = "Chen"
teams = ["ops"]
email = "chen@teahouse.example"
"""
SILENCE = TEAM + '[care.silence]\nto = "ops"\n'
DIGEST = TEAM + '[care.digest]\nto = "ops"\nat = "08:00"\n'
#: A template that waits for a fact nobody has.
HOLDS = '---\npurpose = "transactional"\nsubject = "S"\n---\n{{ order.extras.gift_text }}\n'
ON_ORDER = '\n[[care.rules]]\non = "order-placed"\nsend = "thanks"\nvia = ["email"]\n'


def told(journey: Journey, template: str) -> list[Any]:
    return [one for one in journey.told() if one.template == template]


def morning(journey: Journey, days: int = 1) -> None:
    """It is 08:00, some days on."""
    now = journey.clock.now
    journey.until(datetime(now.year, now.month, now.day, 8, tzinfo=ZoneInfo("UTC")) + timedelta(days=days))


def test_the_team_is_told_once_of_a_silence_and_once_of_its_end(journey: JourneyOf) -> None:
    tea = journey("care", config=SILENCE)
    for day in range(21):
        tea.order(str(day))
        tea.passes("1d")
    for _ in range(14):
        tea.crmkit.sync()
        tea.passes("1d")
    (silence,) = told(tea, "silence")
    assert (silence.staff, silence.subject) == ("Chen", "Silence: no orders of shop since 22 March 2026, 12:00")
    assert "Usually about 7 would have come by now." in silence.text
    assert "The longest usual silence of the last weeks was 24 hours." in silence.text
    tea.order("again")
    tea.passes("1h")
    (ended,) = told(tea, "silence-ended")
    assert ended.subject == "Over: orders of shop come again"
    tea.passes("2d")
    assert len(told(tea, "silence")) == len(told(tea, "silence-ended")) == 1


@pytest.mark.parametrize(
    "more",
    [
        "[care.silence]\nenabled = false\nto = 'ops'",
        "[care.late]\nenabled = false",
        "[care.silence]\nto = 'ops'\n"
        "[[care.rules]]\non = 'silence-noticed'\nsend = 'x'\nto = 'staff:ops'\nvia = ['email']",
    ],
)
def test_care_says_nothing_of_silences_where_it_is_not_to(journey: JourneyOf, more: str) -> None:
    news = '---\npurpose = "transactional"\nsubject = "S"\n---\nX\n'
    tea = journey("care", config=f"{TEAM}\n{more}\n", templates={"x.en.email": news})
    tea.tells(SilenceNoticed(what="the till", since=tea.clock.now))
    assert not told(tea, "silence")


@pytest.mark.parametrize(
    ("locale", "subjects"),
    [
        ("en", ["Silence: the till since 1 March 2026, 09:00", "Over: the till"]),
        ("de", ["Stille: the till seit 2026-03-01 09:00", "Vorbei: the till"]),
        ("zh-CN", ["异常沉默：the till 自 2026年3月1日 09:00 起", "已恢复：the till"]),
    ],
)
def test_a_plugins_silence_is_told_in_the_language_of_who_reads(
    journey: JourneyOf, locale: str, subjects: list[str]
) -> None:
    tea = journey("care", config=SILENCE.replace('email = "chen', f'locale = "{locale}"\nemail = "chen'))
    began = datetime(2026, 3, 1, 9, tzinfo=ZoneInfo("UTC"))
    tea.tells(SilenceNoticed(what="the till", since=began))
    tea.tells(SilenceEnded(what="the till", since=began, until=began))
    assert tea.told("subject") == subjects


# --- the digest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("always", "count"), [("false", 0), ("true", 3)])
def test_of_nothing_nothing_is_said_unless_always(journey: JourneyOf, always: str, count: int) -> None:
    tea = journey("care", config=f"{DIGEST}always = {always}\n")
    tea.order("1")
    morning(tea, 3)
    assert [one.subject for one in told(tea, "digest")] == ["How it stands: all is well"] * count


def test_the_team_hears_each_morning_what_is_late_and_the_worst_of_it(journey: JourneyOf) -> None:
    tea = journey("care", config=DIGEST + "\n[care.late]\nenabled = false\n")
    now = tea.clock.now
    for number in range(5):
        tea.order(str(number), promised_at=now + timedelta(hours=number + 1))
    tea.order("later", promised_at=now + timedelta(days=1, hours=12))
    morning(tea)
    (first,) = told(tea, "digest")
    assert first.subject == "How it stands: 5 to look at"
    assert "5 orders late: 0, 1, 2, ..." in first.text
    tea.order("0", "delivered")
    morning(tea)
    assert "5 orders late, 1 of them new: 1, 2, 3, ..." in told(tea, "digest")[-1].text
    for number in ("1", "2", "3", "4", "later"):
        tea.order(number, "delivered")
    morning(tea)
    assert len(told(tea, "digest")) == 2, "all is well"


def test_messages_that_wait_are_counted_each_day(journey: JourneyOf) -> None:
    tea = journey("care", config=DIGEST + ON_ORDER, templates={"thanks.en.email": HOLDS})
    for number in ("7", "8"):
        tea.order(number, buyer=ANN)
    morning(tea)
    text = told(tea, "digest")[-1].text
    assert "2 messages held for a person: 8, 7" in text
    morning(tea)
    assert "2 messages held for a person: 8, 7" in told(tea, "digest")[-1].text, "it still waits"


def test_what_came_back_is_counted_once(journey: JourneyOf) -> None:
    thanks = '---\npurpose = "transactional"\nsubject = "S"\n---\nThanks\n'
    tea = journey("care", config=DIGEST + ON_ORDER, templates={"thanks.en.email": thanks})
    tea.order("9", buyer=ANN)
    (sent,) = tea.told()
    tea.reports(sent, "bounced", "unknown-recipient")
    morning(tea)
    assert "1 messages bounced: 9" in told(tea, "digest")[-1].text
    morning(tea)
    assert len(told(tea, "digest")) == 1, "it is told once"


def test_who_is_silent_stands_in_the_digest(journey: JourneyOf) -> None:
    tea = journey("care", config=DIGEST)
    for day in range(21):
        tea.order(str(day), "placed", "delivered")
        tea.passes("1d")
    for _ in range(12):
        tea.crmkit.sync()
        tea.passes("1d")
    assert "1 shops without orders for longer than usual: shop" in told(tea, "digest")[-1].text


@pytest.mark.parametrize(("locale", "says"), [("de", "Bestellungen verspätet: 1"), ("zh-CN", "延迟的订单：1，1")])
def test_the_digest_is_told_in_the_language_of_who_reads(journey: JourneyOf, locale: str, says: str) -> None:
    tea = journey("care", config=DIGEST.replace('email = "chen', f'locale = "{locale}"\nemail = "chen'))
    tea.order("1", promised_at=tea.clock.now + timedelta(hours=1))
    morning(tea)
    (one,) = told(tea, "digest")
    assert says in one.text
    assert "\n\n\n" not in one.text


def test_a_digest_may_be_weekly(journey: JourneyOf) -> None:
    tea = journey("care", config=TEAM + '[care.digest]\nto = "ops"\nevery = "1w"\non = "friday"\nalways = true\n')
    tea.order("1")
    tea.passes("28d")
    assert [f"{one.at:%A %H:%M}" for one in told(tea, "digest")] == ["Friday 08:00"] * 4


@pytest.mark.parametrize(
    "wrong", [{"every": "6h"}, {"at": "8"}, {"on": "friday"}, {"every": "1w", "on": "someday"}, {"worst": 99}]
)
def test_a_schedule_that_is_none_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"digest": wrong})
    assert caught.value.errors()[0]["loc"][0] == "digest"
