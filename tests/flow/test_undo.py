"""An import is undone as a batch: only what it alone wrote, and not once something came of it."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from crmkit.core.actions import Emit, Later, Save, Send
from crmkit.core.errors import ConfigError
from crmkit.core.events import Noted, OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Address, Buyer, ConsentRecord, ParcelRecord
from crmkit.flow.undo import Undone, undo
from crmkit.store import accounts
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.testing.dump import everything
from tests.play import HOUR, NOON, Counted, Play, buyer, order


def run(play: Play, *records: Any, shop: int = 1) -> int:
    """A sync that brought this."""
    with play.store.begin() as tx:
        number = accounts.begin_run(tx, "sync", NOON)
        accounts.end_run(tx, number, "done", {}, NOON)
    was = play.shops[shop]
    play.shops[shop] = replace(was, run=number)
    play.take(*records, shop=shop)
    play.shops[shop] = was
    return number


def undone(play: Play, number: int) -> Undone:
    with play.store.begin() as tx:
        return undo(tx, number, NOON + HOUR, by="ann")


def held(store: Store) -> dict[str, Any]:
    """What the database holds, but for the runs and what only counts on."""
    with store.read() as tx:
        found: dict[str, Any] = everything(tx)
    return {name: rows for name, rows in found.items() if name != "run"}


OLD = [order("1", buyer("ann")), order("2", buyer("bo"), at=NOON - HOUR)]
NEW = [
    order("3", buyer("cy", phone="+14155550100")),
    order("4", buyer("ann")),
    order("5", Buyer(email="bo@example.com")),
    ParcelRecord(order_external_id="3", ordinal=1, shipped_at=NOON),
    ConsentRecord(
        external_id="c", address=Address(kind="email", value="bo@example.com"), state="granted", said_at=NOON
    ),
]


def test_everything_is_as_if_it_had_never_been_read(play: Play) -> None:
    run(play, *OLD)
    before = held(play.store)
    number = run(play, *NEW)
    assert held(play.store) != before
    done = undone(play, number)
    assert (done.counts["orders"], done.counts["profiles"], done.kept) == (3, 2, {})
    assert held(play.store) == before
    row = play.one(t.run, id=number)
    assert (row["outcome"], row["counts"]["undone"]["by"]) == ("undone", "ann")


def test_it_can_be_read_again_afterwards(play: Play) -> None:
    run(play, *OLD)
    number = run(play, *NEW)
    after = held(play.store)
    undone(play, number)
    run(play, *NEW)
    assert [row["external_id"] for row in play.rows(t.orders)] == ["1", "2", "3", "4", "5"]
    assert held(play.store).keys() == after.keys()


def test_what_others_wrote_too_stays(play: Play) -> None:
    number = run(play, *NEW)
    run(play, order("3", buyer("cy"), at=NOON, updated_at=NOON + HOUR, note="by the door"))
    play.take(ParcelRecord(order_external_id="4", ordinal=1, shipped_at=NOON))
    done = undone(play, number)
    assert [row["external_id"] for row in play.rows(t.orders)] == ["3", "4"]
    assert done.kept == {"orders": 2, "profiles": 2}
    assert play.count(t.parcel) == 2  # with the orders that stay
    assert play.count(t.consent) == 0


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (Send("news", via=("email",)), "3 messages"),
        (Emit(Noted(text="hello")), "3 interactions of plugins"),
    ],
)
def test_it_is_refused_once_something_came_of_it(play: Play, action: Any, told: str) -> None:
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [action]))
    number = run(play, *NEW)
    play.decide()
    before = held(play.store)
    with pytest.raises(ConfigError, match=f"cannot be undone: {told} came of it"):
        undone(play, number)
    assert held(play.store) == before


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("queued", "no message of it has left, and 3 wait: `crmkit messages cancel` keeps them here; correct"),
        ("held", "no message of it has left, and 3 wait: `crmkit messages cancel` keeps them here; correct"),
        ("cancelled", "no message of it has left; correct"),
        ("sending", "3 of the messages left, or may have, and cannot be taken back; correct"),
        ("in-doubt", "3 of the messages left, or may have, and cannot be taken back; correct"),
        ("delivered", "3 of the messages left, or may have, and cannot be taken back; correct"),
    ],
)
def test_it_says_whether_any_message_left(play: Play, state: str, told: str) -> None:
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    number = run(play, *NEW)
    play.decide()
    play.write(lambda tx: tx.execute(sa.update(t.message).values(state=state)))
    with pytest.raises(ConfigError) as refused:
        undone(play, number)
    assert str(refused.value).partition("came of it; ")[2].startswith(told)


def test_what_only_plugins_made_did_not_go_out(play: Play) -> None:
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Emit(Noted(text="hello"))]))
    number = run(play, *NEW)
    play.decide()
    with pytest.raises(ConfigError, match="came of it; what came of it would stay without its cause; correct"):
        undone(play, number)


def test_timers_that_were_set_go_with_it(play: Play) -> None:
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Later(Noted(text="late"), at=NOON + HOUR)]))
    number = run(play, *NEW)
    play.decide()
    assert play.count(t.timer) == 3
    assert undone(play, number).counts["timers"] == 3
    play.decide(NOON + HOUR)
    assert play.count(t.interaction) == 0


def test_rows_of_plugins_that_name_no_customer_are_not_seen(play: Play) -> None:
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Save(Counted(name=str(event.id), times=1))]))
    number = run(play, *NEW)
    play.decide()
    undone(play, number)  # which the page on operating says
    assert play.count(t.table_of(Counted)) == 3


def test_it_is_refused_while_tables_of_a_plugin_that_is_off_may_name_its_customers(play: Play) -> None:
    number = run(play, *NEW)
    off = sa.Table("off_notes", sa.MetaData(), sa.Column("profile_id", sa.BigInteger, primary_key=True))
    play.write(off.create)
    before = held(play.store)
    with pytest.raises(ConfigError, match="came of it in off_notes cannot be seen"):
        undone(play, number)
    assert held(play.store) == before
    play.write(off.drop)
    assert undone(play, number).counts["orders"] == 3


@pytest.mark.parametrize("number", [1, 2, 3, 99])
def test_what_is_no_finished_import_is_not_undone(play: Play, number: int) -> None:
    with play.store.begin() as tx:
        accounts.end_run(tx, accounts.begin_run(tx, "dispatch", NOON), "done", {}, NOON)
        accounts.begin_run(tx, "sync", NOON)
    run(play, *OLD)
    if number == 3:
        undone(play, 3)
    with pytest.raises(ConfigError, match=f"run {number} "):
        undone(play, number)


def test_families_it_joined_are_apart_again(play: Play) -> None:
    run(play, order("1", Buyer(email="ann@example.com")), order("2", Buyer(phone="+14155550100")))
    number = run(play, order("3", Buyer(email="ann@example.com", phone="+14155550100")))
    assert len({row["family_id"] for row in play.rows(t.profile)}) == 1
    undone(play, number)
    assert len({row["family_id"] for row in play.rows(t.profile)}) == 2
