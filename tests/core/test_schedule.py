"""Whole days go by the clock on the wall, anything else by elapsed time; where the clocks change, slots stay single."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.actions import Action, Note
from crmkit.core.errors import PluginError
from crmkit.core.events import ScheduleDue
from crmkit.core.hooks import every, on
from crmkit.core.schedule import WEEKDAYS, Schedule

BERLIN = ZoneInfo("Europe/Berlin")
#: With hours and half hours of change, at midnight and at two, and one that left out a day.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Shanghai",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Santiago",
    "Pacific/Apia",
]

intervals = st.one_of(
    st.sampled_from(["1m", "15m", "1h", "90m", "6h", "25h"]).map(lambda text: (text, None, None)),
    st.tuples(
        st.sampled_from(["1d", "2d", "24h", "30d"]),
        st.none() | st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.sampled_from([0, 1, 30, 59])),
        st.none(),
    ),
    st.tuples(
        st.sampled_from(["1w", "2w", "7d"]), st.sampled_from([None, "00:00", "02:30"]), st.sampled_from(WEEKDAYS)
    ),
)
schedules = intervals.map(lambda given: Schedule.of(*given))
moments = st.datetimes(datetime(2009, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))
zones = st.sampled_from(ZONES).map(ZoneInfo)


def local(moment: datetime, zone: ZoneInfo = BERLIN) -> str:
    return f"{moment.astimezone(zone):%a %d.%m. %H:%M %z}"


def slots(schedule: Schedule, begin: datetime, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    found = []
    for _ in range(count):
        begin = schedule.after(begin, zone)
        found.append(local(begin, zone))
    return found


def test_a_day_is_a_day_by_the_clock_on_the_wall() -> None:
    before = datetime(2026, 3, 28, 7, tzinfo=UTC)
    expected = ["Sat 28.03. 09:00 +0100", "Sun 29.03. 09:00 +0200", "Mon 30.03. 09:00 +0200"]
    assert slots(Schedule.of("1d", "09:00"), before, 3) == expected


def test_a_time_the_clocks_skip_is_one_slot() -> None:
    before = datetime(2026, 3, 27, 12, tzinfo=UTC)
    expected = ["Sat 28.03. 02:30 +0100", "Sun 29.03. 03:30 +0200", "Mon 30.03. 02:30 +0200"]
    assert slots(Schedule.of("1d", "02:30"), before, 3) == expected


def test_a_time_they_skip_before_midnight_comes_after_it() -> None:
    toronto, before = ZoneInfo("America/Toronto"), datetime(1919, 3, 31, 4, 40, tzinfo=UTC)
    assert local(before, toronto) == "Mon 31.03. 00:40 -0400"
    expected = ["Mon 31.03. 00:45 -0400", "Mon 31.03. 23:45 -0400"]
    assert slots(Schedule.of("1d", "23:45"), before, 2, toronto) == expected


def test_a_time_the_clocks_show_twice_is_one_slot() -> None:
    before = datetime(2026, 10, 24, 12, tzinfo=UTC)
    expected = ["Sun 25.10. 02:30 +0200", "Mon 26.10. 02:30 +0100"]
    assert slots(Schedule.of("1d", "02:30"), before, 2) == expected


def test_a_day_that_a_zone_left_out_has_no_slot_of_its_own() -> None:
    apia, before = ZoneInfo("Pacific/Apia"), datetime(2011, 12, 29, 0, tzinfo=UTC)
    expected = ["Wed 28.12. 18:00 -1000", "Thu 29.12. 18:00 -1000", "Sat 31.12. 18:00 +1400"]
    assert slots(Schedule.of("1d", "18:00"), before, 3, apia) == expected


def test_weeks_have_a_day() -> None:
    before = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert slots(Schedule.of("1w", "08:00", "monday"), before, 2) == [
        "Mon 09.03. 08:00 +0100",
        "Mon 16.03. 08:00 +0100",
    ]
    assert slots(Schedule.of("1w"), before, 1) == ["Mon 09.03. 00:00 +0100"]
    every_other = slots(Schedule.of("2w", on="sunday"), before, 2)
    assert [text[:3] for text in every_other] == ["Sun", "Sun"]


def test_less_than_a_day_is_elapsed_time() -> None:
    before = datetime(2026, 3, 29, 0, 50, tzinfo=UTC)
    expected = ["Sun 29.03. 03:00 +0200", "Sun 29.03. 03:15 +0200", "Sun 29.03. 03:30 +0200"]
    assert slots(Schedule.of("15m"), before, 3) == expected
    assert slots(Schedule.of("36h"), datetime(2026, 1, 1, tzinfo=UTC), 1) == ["Fri 02.01. 13:00 +0100"]


@given(schedules, zones, moments)
def test_a_slot_lies_between_the_last_and_the_next(schedule: Schedule, zone: ZoneInfo, moment: datetime) -> None:
    last, following = schedule.latest(moment, zone), schedule.after(moment, zone)
    assert last <= moment < following
    assert following - last <= schedule.interval + timedelta(hours=25)
    assert schedule.latest(following, zone) == following
    assert schedule.latest(following - timedelta(microseconds=1), zone) == last
    assert schedule.after(last, zone) == following
    if schedule.at is not None:
        shown = following.astimezone(zone)
        wanted = shown.replace(hour=schedule.at.hour, minute=schedule.at.minute, fold=0)
        is_skipped = wanted.astimezone(UTC).astimezone(zone).time() != schedule.at
        assert shown.time() == schedule.at or is_skipped


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("15m",), "every 15m"),
        (("24h",), "every 1d at 00:00"),
        (("1d", "09:00"), "every 1d at 09:00"),
        (("2w", "08:30", "friday"), "every 14d on friday at 08:30"),
        ((timedelta(hours=6),), "every 6h"),
    ],
)
def test_a_schedule_says_what_it_is(given: tuple[str, ...], told: str) -> None:
    assert str(Schedule.of(*given)) == told


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("soon",), "'soon' is no duration; write it like 30m, 36h or 7d"),
        ((15,), "15 is no duration"),
        (("59s",), "'59s' is too short; write from 1m to 3650d"),
        (("0d",), "too short"),
        ((timedelta(days=-1),), "too short"),
        (("6000d",), "too long"),
        (("1d", "9:00"), "at='9:00' is no time of the day; write it like 09:00"),
        (("1d", "24:00"), "no time of the day"),
        (("1d", "09:00\n"), "no time of the day"),
        (("1d", 9), "at=9 is no time of the day"),
        (("15m", "09:00"), "at='09:00' needs whole days"),
        (("1w", "09:00", "Monday"), "on='Monday' is no day of the week; write one of monday,"),
        (("1w", None, 1), "on=1 is no day of the week"),
        (("1d", "09:00", "monday"), "on='monday' needs whole weeks"),
    ],
)
def test_what_is_not_right_is_said_and_of_which_function(given: tuple[str, ...], why: str) -> None:
    def greet(event: ScheduleDue, crm: object) -> None:
        pass

    interval, at, day = (*given, None, None)[:3]
    with pytest.raises(PluginError) as refused:
        every(interval, at=at, on=day)(greet)  # type: ignore[arg-type]
    assert why in str(refused.value)
    assert str(refused.value).startswith("tests.core.test_schedule.test_what_is_not_right")
    assert "greet every: " in str(refused.value)


def test_a_function_is_marked_with_when_it_is_due_and_can_still_be_called() -> None:
    @every("1d", at="09:00")
    def greet(event: ScheduleDue, crm: object) -> list[Action]:
        return [Note(event.schedule)]

    assert (greet.name, greet.event, greet.mark) == ("greet", ScheduleDue, "@every(1d at 09:00)")
    assert greet(ScheduleDue(schedule="greet"), None) == [Note("greet")]


def test_a_mark_that_says_nothing_or_on_nothing_is_refused() -> None:
    def greet(event: ScheduleDue, crm: object) -> None:
        pass

    with pytest.raises(PluginError, match=r"greet every: @every says not how often; write it like @every"):
        every(greet)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match=r"has no name to be known by; write it with def"):
        every("1d")(lambda event, crm: None)
    with pytest.raises(PluginError, match=r"greet on: @on\(ScheduleDue\) says not when"):
        on(ScheduleDue)(greet)
