"""A function marked with `@every` is told each of its slots once, whoever runs, whatever became of the one before."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Field, SQLModel

from crmkit.core.actions import Broadcast, Cancel, Emit, Later, Note, Save, Send, staff
from crmkit.core.broadcast import Audience
from crmkit.core.events import OrderPlaced, ScheduleDue
from crmkit.core.hooks import Handler, every, on
from crmkit.core.interaction import TRIES_LIMIT
from crmkit.core.schedule import Schedule
from crmkit.flow import schedule
from crmkit.flow.decide import decide
from crmkit.flow.setup import StaffMember
from crmkit.store import tables as t
from tests.dump import everything
from tests.flow.test_decide import Ping, Stranger, counting
from tests.play import DAY, HOUR, MINUTE, NOON, PLAY_TABLES, Counted, Play, buyer, order, statements

#: The first nine o'clock after noon.
NINE = NOON + timedelta(hours=21)


class Birthday(SQLModel, table=True):
    """When a customer has it."""

    __tablename__ = "calendar_birthday"
    __customer__ = "customer_id"

    customer_id: int = Field(primary_key=True)
    day: str


def told(slots: list[datetime], *actions: Any, interval: str = "1d", at: str | None = "09:00", **more: Any) -> Handler:
    """A function called `greet` that notes which slots it is told, and asks for these actions."""

    @every(interval, at=at, **more)
    def greet(event: ScheduleDue, crm: Any) -> Iterator[Any]:
        assert (event.customer, event.order, event.shop, event.schedule) == (None, None, None, "greet")
        assert event.at is not None
        slots.append(event.at)
        name = f"greet {event.at}"
        known = crm.select(Counted, name=name)
        yield Save(Counted(name=name, times=known[0].times + 1 if known else 1))
        yield from actions

    return greet


def run(play: Play, now: datetime) -> Any:
    """What every run does."""
    play.write(lambda tx: schedule.keep(tx, play.setup, now))
    return play.decide(now)


def armed(play: Play) -> dict[str, datetime]:
    return {f"{row['plugin']} {row['key']}": row["due_at"] for row in play.rows(t.timer)}


# --- each slot once ---------------------------------------------------------------------------------------------------


def test_it_is_first_due_in_the_slot_after_it_was_first_seen(play: Play) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    run(play, NOON)
    assert (slots, armed(play)) == ([], {"one @every greet": NINE})
    run(play, NINE - MINUTE)
    assert slots == []
    run(play, NINE)
    run(play, NINE)
    run(play, NINE + HOUR)
    assert (slots, armed(play)) == ([NINE], {"one @every greet": NINE + DAY})
    assert play.one(t.interaction)["key"] == "one:schedule-due:greet:2026-03-03T09:00:00+00:00"
    run(play, NINE + DAY)
    assert slots == [NINE, NINE + DAY]


def test_slots_that_passed_while_nothing_ran_are_one(play: Play) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    run(play, NOON)
    run(play, NINE + 4 * DAY + HOUR)
    assert (slots, armed(play)) == ([NINE + 4 * DAY], {"one @every greet": NINE + 5 * DAY})


def test_a_slot_and_the_next_timer_commit_together(play: Play) -> None:
    # SEMANTICS 3, 15
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    run(play, NOON)
    with play.store.read() as tx:
        before = everything(tx)
    with play.store.rehearse() as tx:
        assert decide(tx, play.setup, NINE).interactions == 1
    with play.store.read() as tx:
        assert everything(tx) == before
    run(play, NINE)
    assert play.counted() == {"greet": 1}
    assert armed(play) == {"one @every greet": NINE + DAY}


def test_a_process_whose_clock_is_behind_does_not_repeat_a_slot(play: Play) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    run(play, NOON)
    run(play, NINE)
    run(play, NINE - MINUTE)
    run(play, NINE + MINUTE)
    assert (slots, armed(play)) == ([NINE], {"one @every greet": NINE + DAY})


def test_a_slot_whose_timer_was_set_back_is_not_repeated(play: Play) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    run(play, NOON)
    run(play, NINE)
    play.write(lambda tx: tx.execute(t.timer.update().values(due_at=NINE)))
    run(play, NINE + HOUR)
    assert (slots, armed(play)) == ([NINE], {"one @every greet": NINE + DAY})


def test_two_processes_at_once_arm_it_once_and_fire_it_once(play: Play) -> None:
    # SEMANTICS 3, 13
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    setup = play.setup

    def process(at: datetime, barrier: Barrier) -> None:
        barrier.wait()
        with play.store.begin() as tx:
            schedule.keep(tx, setup, at)
        with play.store.begin() as tx:
            decide(tx, setup, at)

    for number in range(5):
        barrier = Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            for ended in [pool.submit(process, NOON + number * DAY, barrier) for _ in range(4)]:
                ended.result()
        play.decide(NOON + number * DAY)  # what was fired, and left to the next run
        assert len(armed(play)) == 1
    assert sorted(slots) == [NINE + number * DAY for number in range(4)]
    assert play.counted() == {"greet": 4}


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_who_comes_while_another_process_fires_goes_on_without_waiting(play: Play) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots), counting(OrderPlaced))
    run(play, NOON)
    play.take(order("1"))
    with play.store.begin() as tx:
        assert schedule.fire(tx, play.setup, NINE) == 1
        with play.store.begin() as other:
            assert schedule.fire(other, play.setup, NINE) == 0
            assert decide(other, play.setup, NINE).interactions == 1  # the order
    run(play, NINE)
    assert slots == [NINE]


# --- the clock on the wall --------------------------------------------------------------------------------------------


def test_it_is_due_by_the_zone_of_the_installation(play: Play) -> None:
    slots: list[datetime] = []
    play.more["zone"] = ZoneInfo("Europe/Berlin")
    play.plugin("one", told(slots))
    begin = datetime(2026, 3, 27, 12, tzinfo=UTC)
    for hours in range(0, 73):
        run(play, begin + hours * HOUR)
    assert [f"{at:%d. %H:%M}" for at in slots] == ["28. 08:00", "29. 07:00", "30. 07:00"]


SCHEDULES: list[tuple[str, str | None, str | None]] = [
    ("15m", None, None),
    ("90m", None, None),
    ("1d", "02:30", None),
    ("1d", "00:00", None),
    ("2d", None, None),
]
SCHEDULES += [("1w", "08:00", "monday"), ("1d", "23:59", None)]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Pacific/Apia"]
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 15, 60, 61, 600, 1439, 1440, 5000, 30000]).flatmap(
            lambda most: st.integers(0, most).map(lambda minutes: minutes * MINUTE)
        ),
        st.sampled_from(["", "", "", "", "schedule", "zone", "away", "removed"]),
        st.sampled_from(SCHEDULES),
        st.sampled_from(ZONES).map(ZoneInfo),
    ),
    min_size=1,
    max_size=14,
)
#: Before the clocks change somewhere, and before a day that was left out.
begins = st.sampled_from(
    ["2026-03-07T20:00", "2026-03-28T20:00", "2026-10-24T18:00", "2026-04-04T06:00", "2011-12-29T00"]
)


def check_slots(play: Play, begin: datetime, first: Any, zone: ZoneInfo, steps: Any) -> None:
    play.write(*(lambda tx, table=table: tx.execute(table.delete()) for table in (*t.CORE, *PLAY_TABLES)))
    slots: list[datetime] = []
    now, how, state, since = begin, first, "", None
    for pause, change, other, another_zone in steps:
        now += pause
        if change == "schedule":
            how = other
        elif change == "zone":
            zone = another_zone
        before, fired = armed(play), len(slots)
        state = change if change in {"away", "removed"} else ""
        play.more = {"zone": zone, "absent": frozenset({"one"}) if state == "away" else frozenset()}
        play.plugins.clear()
        interval, at, day = how
        if not state:
            play.plugin("one", told(slots, interval=interval, at=at, on=day))
        run(play, now)
        assert play.counted() == ({"greet": len(slots)} if slots else {})
        if state:
            assert len(slots) == fired
            assert armed(play) == ({} if state == "removed" else before)
            since = None if state == "removed" or change else since
            continue
        one = Schedule.of(*how)
        [(_, due)] = armed(play).items()
        assert due > now
        assert one.latest(due, zone) == due
        assert len(slots) - fired <= 1
        assert slots == sorted(set(slots))
        assert all(slot <= now for slot in slots)
        if since is not None and not change:
            came = one.latest(now, zone)
            assert slots[fired:] == ([came] if came > since else [])
        since = now


@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 1.0), ("postgresql", 0.4)])
def test_each_slot_comes_once_and_the_next_is_armed(play: Play, share: float) -> None:
    @settings(max_examples=int(settings().max_examples * share))
    @given(begins, st.sampled_from(SCHEDULES), st.sampled_from(ZONES).map(ZoneInfo), steps)
    def held(begin: str, first: Any, zone: ZoneInfo, steps: Any) -> None:
        check_slots(play, datetime.fromisoformat(begin).replace(tzinfo=UTC), first, zone, steps)

    held()


# --- changed, removed, not there --------------------------------------------------------------------------------------


def test_a_changed_schedule_moves_its_timer(play: Play) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    run(play, NOON)
    play.plugin("one", told(slots, interval="1w", at="18:00", on="friday"))
    run(play, NOON)
    assert armed(play) == {"one @every greet": NOON + 4 * DAY + 6 * HOUR}
    play.plugin("one", told(slots, interval="15m", at=None))
    run(play, NOON + MINUTE)
    assert (slots, armed(play)) == ([], {"one @every greet": NOON + 15 * MINUTE})


def test_another_zone_moves_it(play: Play) -> None:
    play.plugin("one", told([]))
    run(play, NOON)
    play.more["zone"] = ZoneInfo("Asia/Shanghai")
    run(play, NOON)
    assert armed(play) == {"one @every greet": NINE - 8 * HOUR}


def test_what_was_due_before_it_was_changed_still_is(play: Play) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    run(play, NOON)
    play.plugin("one", told(slots, at="18:00"))
    run(play, NINE + HOUR)
    assert (slots, armed(play)) == ([NINE], {"one @every greet": NINE + 9 * HOUR})


def test_a_schedule_that_is_gone_is_let_go(play: Play) -> None:
    later = on(OrderPlaced)(lambda event, crm: [Later(Ping(), NOON + DAY)])
    play.plugin("one", told([]), later)
    play.plugin("two", told([]))
    play.take(order("1"))
    run(play, NOON)
    assert set(armed(play)) == {"one @every greet", "two @every greet", "one ping:order:1:1"}
    play.plugin("one", later)
    del play.plugins["two"]
    run(play, NOON)
    assert set(armed(play)) == {"one ping:order:1:1"}


@pytest.mark.parametrize("why", ["absent", "broken"])
def test_a_plugin_that_is_not_loaded_keeps_its_timer_and_catches_up(play: Play, why: str) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    run(play, NOON)
    del play.plugins["one"]
    play.more[why] = frozenset({"one"})
    run(play, NINE + DAY)
    assert armed(play) == {"one @every greet": NINE}
    play.more.clear()
    play.plugin("one", told(slots))
    run(play, NINE + DAY + HOUR)
    assert slots == [NINE + DAY]


def test_a_slot_that_came_waits_for_its_plugin(play: Play) -> None:
    """It was fired, and its turn did not come before the plugin was left out."""
    slots: list[datetime] = []
    play.plugin("one", told(slots))
    run(play, NOON)
    play.write(lambda tx: schedule.fire(tx, play.setup, NINE))
    greet = play.plugins.pop("one")
    play.more["absent"] = frozenset({"one"})
    assert run(play, NINE).interactions == 0
    play.plugins["one"] = greet
    play.more.clear()
    run(play, NINE)
    assert slots == [NINE]


def test_a_plugin_cannot_lose_its_schedule_by_a_timer_of_the_same_name(play: Play) -> None:
    slots: list[datetime] = []
    strange = [Cancel("@every greet"), Note("x"), Later(Ping(), NOON + 90 * DAY, key="@every greet")]
    play.plugin("one", told(slots), on(OrderPlaced)(lambda event, crm: strange))
    run(play, NOON)
    play.take(order("1"))
    run(play, NOON)
    run(play, NOON)
    assert armed(play) == {"one @every greet": NINE}
    run(play, NINE)
    assert slots == [NINE]


# --- plugins are apart ------------------------------------------------------------------------------------------------


def test_only_the_function_that_is_due_is_told(play: Play) -> None:
    slots: list[datetime] = []
    others: list[str] = []

    @every("1d", at="10:00")
    def other(event: ScheduleDue, crm: Any) -> None:
        others.append(event.schedule)

    play.plugin("one", told(slots), other)
    play.plugin("two", told(slots), other)
    run(play, NOON)
    run(play, NINE)
    assert (slots, others) == ([NINE, NINE], [])
    run(play, NINE + HOUR)
    assert others == ["other", "other"]


def test_a_plugin_that_is_not_loaded_is_not_told_of_others_schedules_later(play: Play) -> None:
    play.plugin("one", told([]))
    play.more["absent"] = frozenset({"two"})
    run(play, NOON)
    run(play, NINE)
    assert play.count(t.pending) == 0


def test_one_that_raises_is_tried_again_and_parked_and_the_next_slot_comes(play: Play) -> None:
    tried: list[datetime] = []

    @every("1d", at="09:00")
    def fail(event: ScheduleDue, crm: Any) -> Any:
        tried.append(event.at)  # type: ignore[arg-type]
        raise RuntimeError("broken")

    slots: list[datetime] = []
    play.plugin("one", fail, told(slots))
    run(play, NOON)
    done = run(play, NINE)
    assert (done.failures, done.failed[0][0], done.failed[0][2]) == (1, "one", "RuntimeError: broken")
    assert slots == [NINE]  # each is told its own
    for _ in range(TRIES_LIMIT):
        run(play, NINE + 20 * HOUR)
        play.write(lambda tx: tx.execute(t.pending.update().values(due_at=NINE)))
    assert tried == [NINE] * TRIES_LIMIT
    assert play.one(t.pending)["parked_at"] is not None
    run(play, NINE + DAY)
    assert tried[-1] == NINE + DAY
    assert armed(play) == {"one @every fail": NINE + 2 * DAY, "one @every greet": NINE + 2 * DAY}


def test_what_the_database_refuses_does_not_keep_the_next_slot_from_coming(play: Play) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots, Save(Stranger(id=1))))
    run(play, NOON)
    assert run(play, NINE).failures == 1
    assert armed(play) == {"one @every greet": NINE + DAY}
    run(play, NINE + DAY)
    assert {NINE, NINE + DAY} <= set(slots)


# --- what it may ask for ----------------------------------------------------------------------------------------------


def test_a_mail_on_every_customers_birthday(play: Play) -> None:
    # SEMANTICS 20
    play.template(
        "birthday.en.email", 'purpose = "transactional"\nsubject = "S"\nvalid_for = "12h"\n---\nHappy birthday'
    )
    play.write(lambda tx: SQLModel.metadata.create_all(tx, [t.table_of(Birthday)]))

    @every("1d", at="09:00")
    def greet(event: ScheduleDue, crm: Any) -> Iterator[Any]:
        yield Broadcast(Audience(table=Birthday, where={"day": f"{crm.now:%m-%d}"}), "birthday", via=("email",))

    play.plugin("one", greet)
    play.take(*(order(name, buyer(name)) for name in ("ann", "bob", "cid")))
    people = {row["value"].partition("@")[0]: row["profile_id"] for row in play.rows(t.address, kind="email")}
    days = {"ann": "03-03", "bob": "03-05", "cid": "03-05"}
    birthdays = [{"customer_id": people[name], "day": day} for name, day in days.items()]
    play.write(lambda tx: tx.execute(t.table_of(Birthday).insert(), birthdays))
    for hours in range(0, 24 * 5):
        run(play, NOON + hours * HOUR)
    sent = {row["address"].partition("@")[0]: row["decided_at"] for row in play.rows(t.message, state="queued")}
    assert sent == {"ann": NINE, "bob": NINE + 2 * DAY, "cid": NINE + 2 * DAY}
    assert play.count(t.message) == 3


def test_staff_are_told(play: Play) -> None:
    play.template("digest.en.email", 'purpose = "transactional"\nsubject = "S"\n---\n{{ schedule }}: {{ open }} open')
    play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@example.com"})]
    slots: list[datetime] = []
    play.plugin("one", told(slots, Send("digest", via=("email",), to=staff("shop"), context={"open": 3})))
    run(play, NOON)
    run(play, NINE)
    run(play, NINE + DAY)
    found = play.rows(t.message)
    assert [(row["state"], row["address"], row["decided_at"]) for row in found] == [
        ("queued", "chen@example.com", NINE),
        ("queued", "chen@example.com", NINE + DAY),
    ]
    assert found[0]["text"] == "greet: 3 open"


def test_what_it_tells_is_decided_at_once(play: Play) -> None:
    slots: list[datetime] = []
    play.plugin("one", told(slots, Emit(Ping(number=7))), counting(Ping))
    run(play, NOON)
    run(play, NINE)
    assert play.counted() == {"greet": 1, "ping": 1}


def test_what_shops_do_not_announce_yet_is_no_matter_of_it(play: Play) -> None:
    # SEMANTICS 1, 19
    play.shop(announce_from=NOON + 90 * DAY)
    play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@example.com"})]
    play.plugin("one", told([], Send("offer", via=("email",), to=staff("shop"))))
    run(play, NOON)
    done = run(play, NINE)
    assert (done.quiet, done.messages.total()) == (0, 1)


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_a_schedule_costs_a_step_one_statement(play: Play) -> None:
    play.plugin("one", counting(OrderPlaced))
    with statements(play.store) as without:
        play.decide()
    play.plugin("two", told([]), *(every("1d")(nothing) for nothing in (first, second)))
    run(play, NOON)
    with statements(play.store) as having:
        play.decide()
    assert len(having) == len(without) + 1


def first(event: ScheduleDue, crm: Any) -> None:
    """Nothing."""


def second(event: ScheduleDue, crm: Any) -> None:
    """Nothing."""
