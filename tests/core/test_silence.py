"""A silence is one where it is longer than usual for that hour, and only then: tried on shops of many kinds."""

import math
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmkit.core.silence import BY_CHANCE, LEAST, SLOT, SPAN, Rhythm, learn, slot_of, start_of

BERLIN = ZoneInfo("Europe/Berlin")
#: A Sunday; clocks go forward on 29 March, four weeks before what is learnt until 26 April ends.
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
WEEK, DAY, HOUR = timedelta(weeks=1), timedelta(days=1), timedelta(hours=1)

#: What is expected in ten minutes at a local time.
Pace = Callable[[datetime], float]


def _by_day(local: datetime) -> float:
    return 0.02 if local.hour < 7 else 0.3 if local.hour >= 22 else 1.0


PACES: dict[str, Pace] = {
    "busy": lambda local: 8 * _by_day(local),
    "steady": lambda local: 0.8 * _by_day(local) * (0.5 if local.weekday() > 4 else 1),
    "office": lambda local: 1.5 if 9 <= local.hour < 17 and local.weekday() < 5 else 0.0,
    "closed on Sundays": lambda local: 0.4 * _by_day(local) if local.weekday() < 6 else 0.0,
    "three a week": lambda local: 3 / 650 * _by_day(local),
}


def came(pace: Pace, seed: int, begin: datetime = BEGIN, weeks: int = 13, zone: ZoneInfo = BERLIN) -> list[datetime]:
    """When something came, at random, at such a pace."""
    dice, at, found = random.Random(seed), begin, []
    while at < begin + weeks * WEEK:
        mean, number, chance = pace(at.astimezone(zone)), 0, dice.random()
        step = total = math.exp(-mean)
        while chance > total:
            number += 1
            step *= mean / number
            total += step
        found += [at + SLOT * dice.random() for _ in range(number)]
        at += SLOT
    return sorted(found)


def learnt(times: list[datetime], until: datetime, zone: ZoneInfo = BERLIN) -> Rhythm | None:
    return learn(Counter(slot_of(at) for at in times if until - SPAN <= at < until), zone)


def alarm_after(rhythm: Rhythm, last: datetime, zone: ZoneInfo = BERLIN) -> timedelta:
    """How long after the last an alarm is raised."""
    at, found = last, 0.0
    while not rhythm.is_broken(found):
        found += rhythm.expected(at, at + SLOT, zone)
        at += SLOT
    return at - last


@pytest.mark.parametrize("name", PACES)
def test_no_night_no_weekend_and_no_change_of_clocks_is_a_silence(name: str) -> None:
    for seed in range(3):
        times = came(PACES[name], seed)
        for week in range(8, 13):  # learnt anew each week, and held against the next
            begin = BEGIN + week * WEEK
            rhythm = learnt(times, begin)
            if rhythm is None:
                continue
            for before, after in pairwise(at for at in times if begin <= at < begin + WEEK):
                expected = rhythm.expected(before, after, BERLIN, rhythm.bound)
                assert not rhythm.is_broken(expected), (seed, before, after, expected, rhythm.bound)


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("busy", HOUR),
        ("steady", 4 * HOUR),
        ("office", 3 * HOUR),
        ("closed on Sundays", 8 * HOUR),
        ("three a week", 21 * DAY),
    ],
)
def test_a_real_stop_is_noticed_soon(name: str, within: timedelta) -> None:
    for seed in range(3):
        stop = BEGIN + 12 * WEEK + 2 * DAY + 8 * HOUR  # a Tuesday morning, 10:00 in Berlin
        times = [at for at in came(PACES[name], seed) if at < stop]
        rhythm = learnt(times, stop)
        assert rhythm is not None
        assert alarm_after(rhythm, times[-1]) <= within


def test_what_stops_before_a_closed_day_is_noticed_on_the_next() -> None:
    pace = PACES["closed on Sundays"]
    stop = BEGIN + 12 * WEEK - 3 * HOUR  # Saturday, 23:00 in Berlin
    times = [at for at in came(pace, 1) if at < stop]
    rhythm = learnt(times, stop)
    assert rhythm is not None
    noticed = (times[-1] + alarm_after(rhythm, times[-1])).astimezone(BERLIN)
    assert (noticed.strftime("%A"), 9 <= noticed.hour < 17) == ("Monday", True)


def test_a_batch_a_day_is_missed_on_the_next_day_and_not_in_between() -> None:
    times = [BEGIN + day * DAY + timedelta(hours=3, minutes=37, seconds=n) for day in range(60) for n in range(40)]
    rhythm = learnt(times, BEGIN + 60 * DAY)
    assert rhythm is not None
    assert 23 * HOUR < alarm_after(rhythm, times[-1]) < 49 * HOUR


def test_one_outage_does_not_make_outages_usual() -> None:
    times = came(PACES["steady"], 2, weeks=8)
    broken = [at for at in times if not BEGIN + 5 * WEEK <= at < BEGIN + 5 * WEEK + 3 * DAY]
    whole, patched = learnt(times, BEGIN + 8 * WEEK), learnt(broken, BEGIN + 8 * WEEK)
    assert whole is not None and patched is not None
    assert alarm_after(patched, times[-1]) <= 1.5 * alarm_after(whole, times[-1])
    assert patched.longest < DAY


def test_in_a_weaker_season_less_is_missed() -> None:
    times = came(PACES["steady"], 3, weeks=8)
    dice = random.Random(1)
    weaker = [at for at in times if at < BEGIN + 7 * WEEK or dice.random() < 0.4]
    usual, weak = learnt(times, BEGIN + 8 * WEEK), learnt(weaker, BEGIN + 8 * WEEK)
    assert usual is not None and weak is not None
    noon = BEGIN + 8 * WEEK + 2 * DAY + 10 * HOUR
    share = weak.expected(noon, noon + HOUR, BERLIN) / usual.expected(noon, noon + HOUR, BERLIN)
    assert 0.3 < share < 0.5


@pytest.mark.parametrize(
    "times",
    [
        [],
        [BEGIN],
        [BEGIN + n * SLOT for n in range(500)],  # three days
        [BEGIN + n * 4 * DAY for n in range(LEAST - 1)],
    ],
)
def test_of_too_little_nothing_is_learnt(times: list[datetime]) -> None:
    assert learn(Counter(map(slot_of, times)), BERLIN) is None


def test_a_rhythm_is_kept_as_json() -> None:
    rhythm = learnt(came(PACES["office"], 1, weeks=8), BEGIN + 8 * WEEK)
    assert rhythm is not None
    again = Rhythm.of(rhythm.document())
    assert again.document() == rhythm.document()
    assert again.expected(BEGIN, BEGIN + WEEK, BERLIN) == pytest.approx(
        rhythm.expected(BEGIN, BEGIN + WEEK, BERLIN), rel=1e-3
    )
    assert again.longest == rhythm.longest


# --- properties -------------------------------------------------------------------------------------------------------

zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Shanghai", "Asia/Kathmandu", "Pacific/Apia"])
#: What came, as counts of slots: any rhythm at all.
histories = st.dictionaries(st.integers(0, 8 * 1008), st.integers(1, 50), min_size=LEAST, max_size=80).map(
    lambda found: {slot_of(BEGIN) + slot: count for slot, count in found.items()}
)


@settings(max_examples=60, deadline=None)
@given(counts=histories, zone=zones)
def test_nothing_that_was_usual_is_a_silence(counts: dict[int, int], zone: str) -> None:
    rhythm = learn(counts, ZoneInfo(zone))
    if rhythm is None:
        return
    gaps = []
    for before, after in pairwise(sorted(counts)):
        gaps.append(rhythm.expected(start_of(before), start_of(after + 1), ZoneInfo(zone)))
    broken = [gap for gap in gaps if rhythm.is_broken(gap)]
    assert len(broken) <= 1, "but for one, which may have been an outage"
    assert rhythm.bound >= math.log(rhythm.count / BY_CHANCE) - 1e-9


@settings(max_examples=60, deadline=None)
@given(counts=histories, zone=zones, hours=st.lists(st.integers(0, 24 * 70), min_size=3, max_size=3, unique=True))
def test_what_is_expected_grows_with_time_and_adds_up(counts: dict[int, int], zone: str, hours: list[int]) -> None:
    rhythm, where = learn(counts, ZoneInfo(zone)), ZoneInfo(zone)
    if rhythm is None:
        return
    first, middle, last = (BEGIN + hour * HOUR + timedelta(minutes=7) for hour in sorted(hours))
    if last - first > SPAN:
        return
    whole = rhythm.expected(first, last, where)
    assert 0 <= rhythm.expected(first, middle, where) <= whole + 1e-6
    assert whole == pytest.approx(rhythm.expected(first, middle, where) + rhythm.expected(middle, last, where))
    assert rhythm.expected(last, first, where) == 0.0


@settings(max_examples=60, deadline=None)
@given(counts=histories, zone=zones)
def test_a_week_is_expected_to_be_as_weeks_were(counts: dict[int, int], zone: str) -> None:
    rhythm = learn(counts, ZoneInfo(zone))
    if rhythm is None:
        return
    spans = (max(counts) - min(counts) + 1) * SLOT / WEEK
    week = rhythm.expected(BEGIN, BEGIN + WEEK, ZoneInfo(zone))
    assert 0 <= week <= 2.5 * sum(counts.values()) / spans
