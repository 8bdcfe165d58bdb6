"""Schedules under the engine: a plan shows what they would send, a run with a clock of its own steps through slots."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crmkit.core.actions import Broadcast, Send, staff
from crmkit.core.broadcast import Audience
from crmkit.core.events import OrderPlaced, ScheduleDue
from crmkit.core.hooks import Handler, every, on
from crmkit.flow.setup import StaffMember
from crmkit.store import tables as t
from tests.dump import everything
from tests.engine.test_local import Stage
from tests.play import DAY, HOUR, NOON, Play, buyer, order

NINE = NOON + timedelta(hours=21)


@pytest.fixture
def stage(play: Play) -> Stage:
    return Stage(play)


def digest(*actions: Any, clocks: list[Any] | None = None) -> Handler:
    @every("1d", at="09:00")
    def tell(event: ScheduleDue, crm: Any) -> Any:
        if clocks is not None:
            clocks.append((event.at, crm.now))
        return actions

    return tell


def test_a_simulation_steps_through_slots(stage: Stage) -> None:
    # SEMANTICS 2
    play, clocks = stage.play, list[Any]()
    play.plugin("one", digest(clocks=clocks))
    stage.dispatch(NOON)
    stage.dispatch(NOON + 4 * DAY)
    assert clocks == [(NINE + days * DAY, NINE + days * DAY) for days in range(4)]


def test_slots_take_their_turn_among_what_else_is_due(stage: Stage) -> None:
    play, clocks = stage.play, list[Any]()
    note = on(OrderPlaced)(lambda event, crm: clocks.append((event.at, crm.now)))
    play.plugin("one", digest(clocks=clocks), note)
    stage.dispatch(NOON)
    play.take(order("1", at=NINE - HOUR), order("2", buyer("bob"), at=NINE + HOUR))
    stage.dispatch(NINE + DAY)
    assert clocks == [(at, at) for at in (NINE - HOUR, NINE, NINE + HOUR, NINE + DAY)]


def test_what_came_before_it_was_seen_is_not_made_up_for(stage: Stage) -> None:
    play, clocks = stage.play, list[Any]()
    play.plugin("one", digest(clocks=clocks))
    play.take(order("1", at=NOON - 30 * DAY))
    stage.dispatch(NOON)
    assert clocks == []


def test_a_plan_shows_what_it_would_send_and_commits_nothing(stage: Stage) -> None:
    play = stage.play
    play.template("digest.en.email", 'purpose = "transactional"\nsubject = "S"\n---\nGood morning')
    play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@example.com"})]
    to_staff = Send("digest", via=("email",), to=staff("shop"))
    play.plugin("one", digest(to_staff, Broadcast(Audience(), "digest", via=("email",))))
    play.take(order("1"), order("2", buyer("bob")))
    assert stage.local.plan(now=NOON).rows == []
    assert play.count(t.timer) == 0
    stage.dispatch(NOON)
    with play.store.read() as tx:
        before = everything(tx)
    plan = stage.local.plan(now=NINE + DAY)
    with play.store.read() as tx:
        assert everything(tx) == before
    expected = sorted([f"{name}@example.com" for name in ("ann", "bob", "chen")] * 2)
    assert sorted(row["address"] for row in plan.rows) == expected
    assert {row["leaves_at"] for row in plan.rows} == {NINE, NINE + DAY}
    stage.dispatch(NINE + DAY)
    assert sorted(row["key"] for row in play.rows(t.message)) == sorted(row["key"] for row in plan.rows)
    assert sorted(row["sent_at"] for row in play.rows(t.message)) == sorted(row["leaves_at"] for row in plan.rows)


def test_a_dispatch_by_the_wall_clock_fires_what_is_due(stage: Stage) -> None:
    play, clocks = stage.play, list[Any]()
    play.plugin("one", digest(clocks=clocks))
    asyncio.run(stage.local.dispatch())
    assert clocks == []
    [timer] = play.rows(t.timer)
    assert timer["due_at"] - datetime.now(UTC) <= DAY
    missed = timer["due_at"] - 3 * DAY
    play.write(lambda tx: tx.execute(t.timer.update().values(due_at=missed)))
    asyncio.run(stage.local.dispatch())
    assert [at for at, _ in clocks] == [timer["due_at"] - DAY]
    assert play.one(t.timer)["due_at"] == timer["due_at"]
