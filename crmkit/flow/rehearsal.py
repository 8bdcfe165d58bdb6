"""One interaction decided once more, to see what each handler makes of it: for a transaction that is rolled back.

What was recorded of it is taken away first, so that it does not stand in its own way, and compared with what comes of
it now. The facts are those of the run's clock, as for every decision; plugins' own tables are as of today, so a handler
that counts finds its own count.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from crmkit.core.actions import Action, Broadcast, Cancel, Later, Save, Send
from crmkit.core.events import EVENTS, Event
from crmkit.core.hooks import Handler
from crmkit.core.message import State
from crmkit.flow.answer import actions_of
from crmkit.flow.crm import CrmView
from crmkit.flow.decide import again
from crmkit.flow.setup import Plugin, Setup
from crmkit.store import bulk, log
from crmkit.store import tables as t
from crmkit.store.bulk import Row
from crmkit.store.engine import UNSTORABLE, refusal

#: Where messages go that are not to leave, when they are decided.
_STAYING = frozenset({State.SUPPRESSED, State.HELD})
#: What actions leave behind that is not compared.
_UNCOMPARED: dict[type[Action] | tuple[type[Action], ...], str] = {
    Save: "rows of plugins' own tables (Save)",
    (Later, Cancel): "timers (Later, Cancel)",
    Broadcast: "broadcasts (Broadcast)",
}


@dataclass(frozen=True, slots=True)
class Query:
    """One `crm.select`: of which table, by which columns, what it found, and whether it cost a statement."""

    table: str
    where: tuple[str, ...]
    rows: int
    is_preloaded: bool
    seconds: float


@dataclass(slots=True)
class Called:
    """One handler that ran: tables read for it beforehand, what it asked for, its queries, the seconds it took."""

    plugin: str
    handler: str
    loads: tuple[str, ...] = ()
    actions: list[Action] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None


@dataclass(slots=True)
class Rehearsal:
    """What came of an interaction that was decided once more.

    Attributes:
        row: the interaction.
        event: what handlers were given; None if none ran.
        now: the clock it was decided at.
        pending: what of it is still to be decided, by plugin; None: by all.
        called: the handlers that ran, in order.
        failed: {plugin: why nothing it asked for counts}.
        messages: what would be put into the outbox.
        differences: how that differs from what was recorded, in words; nothing is compared while all of it is pending.
        is_quiet: whether it is history, which tells nobody.
        away: plugins that are switched on and not loaded: what they told is left out of the differences.
        not_compared: what of it is asked for and leaves nothing to compare with, in words.
    """

    row: Mapping[str, Any]
    now: datetime
    pending: list[Row]
    event: Event | None = None
    is_quiet: bool = False
    called: list[Called] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    away: tuple[str, ...] = ()
    not_compared: list[str] = field(default_factory=list)

    @property
    def is_decided(self) -> bool:
        """Whether it has had its turn: no work on it waits for every plugin."""
        return not any(row["plugin"] is None for row in self.pending)


def rehearse(
    tx: Connection, setup: Setup, number: int, now: datetime | None, clock: Callable[[], datetime]
) -> Rehearsal | None:
    """Decide an interaction once more.

    Args:
        tx: a write transaction that is rolled back (`Store.rehearse`).
        now: the run's clock; None: the moment at which it was decided, as far as what came of it tells, else at which
            it was recorded, and never earlier than when it happened; `clock` while it waits for every plugin.
        clock: the wall clock.

    Returns:
        None if there is no such interaction.
    """
    row = log.one(tx, number)
    if row is None:
        return None
    messages, told, pending = _recorded(tx, number)
    done = Rehearsal(row, now or clock(), pending, away=tuple(sorted(setup.away)))
    if now is None and done.is_decided:
        decided = [*(one["decided_at"] for one in messages), *(one["recorded_at"] for one in told)]
        done.now = now = max(min(decided, default=row["recorded_at"]), row["occurred_at"])
    now = done.now
    if done.is_decided and setup.doubtful_until is not None and now < setup.doubtful_until:
        setup = replace(setup, doubtful_until=None)  # it was decided before this database was taken on
    shop = setup.shops.get(row["shop_id"]) if row["shop_id"] is not None else None
    done.is_quiet = bool(row["is_quiet"]) or (shop is not None and row["occurred_at"] < shop.announce_from)
    _take_away(tx, number)
    try:
        with tx.begin_nested():
            outcome = again(tx, setup, now, row, _Watch(done).ask)
            told_now = _children(tx, number)
    except UNSTORABLE as error:
        why = refusal(error)
        if why is None:
            raise
        done.failed = dict.fromkeys((one.plugin for one in done.called), why)
        return done
    done.failed = {plugin: text for plugin, _, text in outcome.failed}
    done.messages = [message for message in outcome.rows if message["interaction_id"] == number]
    if done.is_decided and row["type"] in EVENTS:
        owing = {one["plugin"] for one in pending}
        here = [one for one in messages if one["plugin"] not in setup.away]
        done.differences = list(
            _differences(done, here, [one for one in told if _by(one) not in setup.away], told_now, owing)
        )
        done.not_compared = list(_not_compared(done))
    return done


class _Watch:
    """Calls handlers, and notes what they do."""

    def __init__(self, done: Rehearsal) -> None:
        self.done = done

    def ask(self, plugin: Plugin, handler: Handler, event: Event, crm: CrmView) -> list[Action]:
        """Call a handler.

        Raises:
            Exception: what it raises.
        """
        self.done.event = event
        called = Called(plugin.name, handler.name, tuple(t.table_of(model).name for model in handler.load))
        self.done.called.append(called)
        began = time.perf_counter()
        try:
            called.actions = actions_of(plugin, handler, event, _Watched(crm, called))
        except (Exception, SystemExit) as error:  # noted here, and judged where it always is
            called.error = str(error) if hasattr(error, "operation") else f"{type(error).__name__}: {error}"
            raise
        finally:
            called.seconds = time.perf_counter() - began
        return called.actions


class _Watched(CrmView):
    """What a plugin's code is given, its queries noted."""

    def __init__(self, crm: CrmView, called: Called) -> None:
        self._reading, self._plugin = crm._reading, crm._plugin
        self.now, self.settings, self._called = crm.now, crm.settings, called

    def select(self, table: type[SQLModel], **where: Any) -> list[Any]:
        """Rows of one of the plugin's own tables whose columns equal `where`."""
        before, began = self._reading.selects[self._plugin], time.perf_counter()
        found = super().select(table, **where)
        seconds, cost = time.perf_counter() - began, self._reading.selects[self._plugin] - before
        name = t.table_of(table).name
        self._called.queries.append(Query(name, tuple(where), len(found), cost == 0, seconds))
        return found


# --- what was recorded ------------------------------------------------------------------------------------------------


def _recorded(tx: Connection, number: int) -> tuple[list[Row], list[Row], list[Row]]:
    """Messages, interactions of plugins, and pending work that an interaction caused."""
    m, p = t.message.c, t.pending.c
    messages = bulk.rows(tx, sa.select(t.message).where(m.interaction_id == number).order_by(m.id))
    pending = bulk.rows(tx, sa.select(t.pending).where(p.interaction_id == number).order_by(p.id))
    return messages, _children(tx, number), pending


def _children(tx: Connection, number: int) -> list[Row]:
    i = t.interaction.c
    statement = sa.select(t.interaction).where(i.cause_id == number, i.actor.startswith("plugin:")).order_by(i.id)
    return bulk.rows(tx, statement)


def _take_away(tx: Connection, number: int) -> None:
    i = t.interaction.c
    caused = sa.select(i.id).where(i.cause_id == number, i.actor.startswith("plugin:"))
    tx.execute(sa.delete(t.pending).where(t.pending.c.interaction_id.in_(caused)))
    tx.execute(sa.delete(t.interaction).where(i.id.in_(caused.scalar_subquery())))
    tx.execute(sa.delete(t.pending).where(t.pending.c.interaction_id == number))
    tx.execute(sa.delete(t.message).where(t.message.c.interaction_id == number))


# --- how it differs ---------------------------------------------------------------------------------------------------


def _differences(
    done: Rehearsal, messages: Sequence[Row], told: Sequence[Row], told_now: Sequence[Row], owing: set[str | None]
) -> Iterator[str]:
    before, after = {row["key"]: row for row in messages}, {row["key"]: row for row in done.messages}
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key), after.get(key)
        if old is None and new is not None and new["plugin"] not in owing:
            yield f"{_named(new)} is new: {_outcome(new)}; nothing of that key was recorded"
        elif new is None and old is not None:
            yield f"{_named(old)} was recorded ({_outcome(old)}), and is not asked for now"
        elif old is not None and new is not None:
            yield from _changed(old, new)
    yield from _retold(done, told, told_now, owing)
    for plugin in sorted(done.failed):
        if plugin not in owing:
            yield f"{plugin} fails now, and did not, or was given up: {done.failed[plugin]}"


def _retold(done: Rehearsal, told: Sequence[Row], told_now: Sequence[Row], owing: set[str | None]) -> Iterator[str]:
    """How the interactions differ that plugins told: how many, what they are about, what they say."""
    timed = {
        (one.plugin, action.event.name) for one in done.called for action in one.actions if isinstance(action, Later)
    }
    for plugin, kind in sorted({(_by(row), row["type"]) for row in (*told, *told_now)}):
        was = [_tale(row) for row in told if (_by(row), row["type"]) == (plugin, kind)]
        now = [_tale(row) for row in told_now if (_by(row), row["type"]) == (plugin, kind)]
        for tale in list(was):
            if tale in now:
                was.remove(tale)
                now.remove(tale)
        for old, new in _pairs(was, now):
            was.remove(old)
            now.remove(new)
            what = ", ".join(name for name in {**old, **new} if old.get(name) != new.get(name))
            yield f"{plugin} tells {kind} with another {what}"
        lost, more = len(was), len(now)
        if lost and (plugin, kind) not in timed:  # else it was set as a timer, and fired since
            yield f"{plugin} told {kind}{_times(lost)}, and does not now"
        if more and plugin not in owing:
            yield f"{plugin} tells {kind}{_times(more)} now, and did not"


def _tale(row: Row) -> dict[str, Any]:
    """What is compared of an interaction: its key, whom and what it is about, each field of what it says."""
    about = {"customer": row["profile_id"], "shop": row["shop_id"], "order": row["order_id"]}
    return {"key": row["key"], **about, **(row["payload"] or {})}


def _pairs(was: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What was told beside what is told in its place: that of the same key, else the next of those left."""
    left, later, found = list(now), list[dict[str, Any]](), []
    for old in was:
        new = next((one for one in left if old["key"] is not None and one["key"] == old["key"]), None)
        if new is None:
            later.append(old)
        else:
            left.remove(new)
            found.append((old, new))
    return [*found, *zip(later, left, strict=False)]


def _by(row: Row) -> str:
    """The plugin that told an interaction."""
    return str(row["actor"]).partition(":")[2]


def _not_compared(done: Rehearsal) -> Iterator[str]:
    """What was asked for and is kept where it cannot be told from what others made of it since."""
    asked = [action for one in done.called for action in one.actions]
    for kinds, what in _UNCOMPARED.items():
        if any(isinstance(action, kinds) for action in asked):
            yield what
    if any(isinstance(action, Send) and action.combine is not None for action in asked):
        yield "messages that are combined with others (Send with combine)"
    if done.is_quiet and any(isinstance(action, Send) for action in asked):
        yield "what history would have sent (Send)"


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    stayed, stays = old["state"] in _STAYING and not old["tries"], new["state"] in _STAYING
    if stayed != stays or (stays and (old["state"], old["reason"]) != (new["state"], new["reason"])):
        yield f"{_named(new)} was {_outcome(old)}, and would be {_outcome(new)}"
        return
    for column, what in (("channel", "channel"), ("address", "address"), ("locale", "language")):
        if old[column] != new[column]:
            yield f"{_named(new)} would go by another {what}"
    if not stays and old["content_hash"] != new["content_hash"]:
        yield f"{_named(new)} would say something else"


def _named(message: Mapping[str, Any]) -> str:
    whom = f" to {message['staff']}" if message["staff"] else ""
    return f"the message {message['template']}{whom} of {message['plugin']}"


def _outcome(message: Mapping[str, Any]) -> str:
    return f"{message['state']} ({message['reason']})" if message["reason"] else str(message["state"])


def _times(count: int) -> str:
    return f" {count} times" if count > 1 else ""
