"""An interaction decided once more: what its handlers do is seen, and nothing of it stays."""

from datetime import timedelta
from typing import Any

from crmkit.core.actions import Emit, Save, Send
from crmkit.core.events import Noted, OrderPlaced
from crmkit.core.hooks import on
from crmkit.flow.rehearsal import Rehearsal, rehearse
from crmkit.store import tables as t
from tests.play import NOON, Counted, Play, order


def rehearsed(play: Play, number: int) -> Rehearsal:
    with play.store.rehearse() as tx:
        found = rehearse(tx, play.setup, number, None, lambda: NOON + timedelta(hours=1))
    assert found is not None
    return found


def state(play: Play) -> list[Any]:
    return [play.rows(table) for table in (t.interaction, t.pending, t.message, t.timer, t.table_of(Counted))]


def test_what_was_decided_is_decided_again_and_nothing_stays(play: Play) -> None:
    @on(OrderPlaced)
    def tell(event: Any, crm: Any) -> Any:
        known = crm.select(Counted, name="x")
        yield Save(Counted(name="x", times=len(known) + 1))
        yield Send("news", via=("email",))
        yield Send("offer", via=("email",), key="once")
        yield Emit(Noted(text="told"), key=f"told:{event.order.external_id}")

    @on(Noted)
    def listen(event: Any, crm: Any) -> None: ...

    play.plugin("a", tell)
    play.plugin("b", listen)
    play.take(order())
    which = play.one(t.interaction, type="order-placed")["id"]
    pending = rehearsed(play, which)
    assert (pending.is_decided, [one.handler for one in pending.called], pending.now) == (
        False,
        ["tell"],
        NOON + timedelta(hours=1),
    )
    play.decide()
    before = state(play)
    done = rehearsed(play, which)
    assert state(play) == before
    assert (done.is_decided, done.differences, done.failed, done.now) == (True, [], {}, NOON)
    assert [(one.table, one.where, one.rows) for one in done.called[0].queries] == [("play_counted", ("name",), 1)]
    assert {(row["template"], row["state"]) for row in done.messages} == {("news", "queued"), ("offer", "suppressed")}
    assert rehearsed(play, which).differences == []


def test_what_the_database_refuses_is_the_plugins_failure(play: Play) -> None:
    @on(OrderPlaced)
    def spoil(event: Any, crm: Any) -> Any:
        yield Save(Counted(name="x", times=10**40))

    play.plugin("a", spoil)
    play.take(order())
    done = rehearsed(play, play.one(t.interaction, type="order-placed")["id"])
    assert list(done.failed) == ["a"]


def test_there_may_be_none(play: Play) -> None:
    with play.store.rehearse() as tx:
        assert rehearse(tx, play.setup, 999, None, lambda: NOON) is None
