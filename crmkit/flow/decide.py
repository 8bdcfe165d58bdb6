"""Decide: for each pending, due interaction call the handlers, and carry out what they ask for.

Decided exactly once: an interaction's effects and its leaving the pending work commit together. One customer's
interactions are decided oldest first: a batch goes in waves, each customer's oldest, then the next, so that a handler
sees what the one before it did. Plugins are apart: one that fails leaves its own pending row, to be tried again later
and parked in the end; what the others asked for commits.

History is quiet: handlers run on what happened before a shop announced anything, but their sends are only counted.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from crmkit.core.account import Shop
from crmkit.core.actions import Action, Send
from crmkit.core.columns import storable
from crmkit.core.duration import backoff
from crmkit.core.errors import CrmkitError, PluginError
from crmkit.core.events import EVENTS, SUBJECTS, Event, ScheduleDue, subjects_of
from crmkit.core.hooks import Handler
from crmkit.core.inner import INNER, BroadcastMember, BundleDue
from crmkit.core.interaction import DEPTH_LIMIT, TRIES_LIMIT
from crmkit.core.log import DECIDED, DECISION_FAILED, MESSAGE_DECIDED, told_of
from crmkit.core.order import Order
from crmkit.flow import broadcast, combine, schedule
from crmkit.flow.answer import actions_of, check_keys
from crmkit.flow.compose import Composer, template_rows
from crmkit.flow.crm import CrmView, Reading
from crmkit.flow.effect import Effects
from crmkit.flow.post import post
from crmkit.flow.setup import Plugin, Setup
from crmkit.flow.wave import Close, Wave, Work
from crmkit.store import broadcasts, bulk, contacts, customers, facts, lines, log, outbox
from crmkit.store.engine import UNSTORABLE, refusal
from crmkit.store.facts import Reach
from crmkit.store.slices import Slice

#: So many failures are kept in words; the rest is counted.
FAILURES = 100

#: Seconds from any moment on, to measure by.
Timer = Callable[[], float]
#: How a handler is called: gives what it asks for.
Ask = Callable[[Plugin, Handler, Event, CrmView], list[Action]]


@dataclass(slots=True)
class Decided:
    """What a decide step did.

    Attributes:
        interactions: how many left the pending work.
        messages: new messages by state.
        quiet: sends that history would have caused.
        failures: how often a plugin failed; it will be tried again, or was parked.
        failed: (plugin, interaction, error) of the first of them.
        rows: the new messages of this step, as they were stored; steps added up keep none.
        selects: statements that plugins' `crm.select` cost, by plugin.
        seconds: time spent in each plugin and on what it asked for, where it was measured.
    """

    interactions: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    quiet: int = 0
    failures: int = 0
    failed: list[tuple[str, int, str]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    selects: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Decided") -> None:
        """Take another step's numbers on board."""
        self.interactions += other.interactions
        self.messages.update(other.messages)
        self.quiet += other.quiet
        self.failures += other.failures
        self.failed.extend(other.failed[: FAILURES - len(self.failed)])
        self.selects.update(other.selects)
        self.seconds.update(other.seconds)

    def fail(self, plugin: str, interaction: int, error: str) -> None:
        """Count a failure."""
        self.failures += 1
        if len(self.failed) < FAILURES:
            self.failed.append((plugin, interaction, error))


def decide(
    tx: Connection,
    setup: Setup,
    now: datetime,
    limit: int = 500,
    timer: Timer = lambda: 0.0,
    only: Slice | None = None,
) -> Decided:
    """Decide what is due, up to `limit` interactions; zero interactions say that nothing was left.

    Args:
        tx: a write transaction.
        setup: handlers, policies, templates, channels.
        now: the run's clock; what is later is not due, and handlers see the facts as of it.
        limit: how much one transaction takes.
        timer: by what plugins are measured, `time.perf_counter`; nothing is measured without one.
        only: the customers whose turn it is, or nobody; by default everybody. Schedules are nobody's.
    """
    if only is None or only.profiles is None:
        schedule.fire(tx, setup, now)
    log.fire_timers(tx, now, setup.listened, limit, setup.away, only)
    rows = log.due(tx, now, limit, setup.shops, setup.away, only)
    if not rows:
        return Decided()
    try:
        with tx.begin_nested():
            return _Batch(tx, setup, now, rows, timer=timer).run()
    except UNSTORABLE as error:
        if refusal(error) is None:
            raise
    # The database refused something a plugin asked for: one by one, then plugin by plugin, to name the culprit.
    done = Decided()
    for row in rows:
        one = _alone(tx, setup, now, row, timer)
        done.add(one)
        done.rows.extend(one.rows)
    return done


def _alone(tx: Connection, setup: Setup, now: datetime, row: dict[str, Any], timer: Timer) -> Decided:
    try:
        with tx.begin_nested():
            return _Batch(tx, setup, now, [row], is_alone=True, timer=timer).run()
    except UNSTORABLE as error:
        _reason(error)
    refused: dict[str, str] = {}
    for plugin in setup.plugins:
        trial = tx.begin_nested()
        try:
            _Batch(tx, setup, now, [row], only={plugin.name}, is_alone=True, timer=timer).run()
        except UNSTORABLE as error:
            refused[plugin.name] = _reason(error)
        finally:
            trial.rollback()
    try:
        with tx.begin_nested():
            return _Batch(tx, setup, now, [row], refused=refused, is_alone=True, timer=timer).run()
    except UNSTORABLE as error:  # refused only together: then nobody's effects count
        refused = {plugin.name: _reason(error) for plugin in setup.plugins}
    with tx.begin_nested():
        return _Batch(tx, setup, now, [row], refused=refused, is_alone=True, timer=timer).run()


def again(tx: Connection, setup: Setup, now: datetime, row: dict[str, Any], ask: Ask) -> Decided:
    """Decide one interaction once more, whatever is pending, for a transaction that is rolled back.

    Args:
        row: as `log.one` gives it.
        ask: how handlers are called.
    """
    batch = _Batch(tx, setup, now, [row], is_alone=True, timer=lambda: 0.0, ask=ask)
    batch.retrying.clear()
    return batch.run()


def composed_anew(
    tx: Connection, setup: Setup, now: datetime, asked: Sequence[tuple[dict[str, Any], str, Send]]
) -> list[dict[str, Any] | str]:
    """What sends become that plugins asked for before, by the facts and templates of now; no handler is called.

    Args:
        asked: interactions as `log.numbered` gives them, each with the plugin and what it asked for.

    Returns:
        For each the row of the outbox, not stored, or why there is none.
    """
    rows = list({row["id"]: row for row, _, _ in asked}.values())
    batch = _Batch(tx, setup, now, rows, timer=lambda: 0.0)
    batch.effects.meet()
    plugins, found = {plugin.name: plugin for plugin in setup.plugins}, list[dict[str, Any] | str]()
    for row, name, send in asked:
        kind, shop = EVENTS.get(row["type"]), setup.shops.get(row["shop_id"] or 0)
        if name not in plugins or kind is None:
            found.append(f"{name} is not loaded")
            continue
        try:
            found.append(batch.composer.compose(plugins[name], batch._event(kind, row, shop), send)[0])
        except DBAPIError:
            raise
        except (Exception, SystemExit) as error:  # a plugin's template or policy: what it breaks is this message only
            found.append(str(error))
    outbox.keep_templates(tx, template_rows(batch.composer.templates))
    return found


def _reason(error: Exception) -> str:
    """Why an effect was refused; what is the database's own trouble is raised again."""
    why = refusal(error)
    if why is None:
        raise error
    return why


class _Batch:
    """Some due interactions of some customers, decided in waves within one transaction."""

    def __init__(
        self,
        tx: Connection,
        setup: Setup,
        now: datetime,
        rows: Sequence[dict[str, Any]],
        *,
        timer: Timer,
        only: set[str] | None = None,
        refused: Mapping[str, str] = {},
        is_alone: bool = False,
        ask: Ask | None = None,
    ) -> None:
        self.tx, self.setup, self.now, self.timer = tx, setup, now, timer
        self.ask: Ask = ask or actions_of
        self.rows, self.refused, self.is_alone = rows, refused, is_alone
        self.listened = setup.listened
        self.plugins = [plugin for plugin in setup.plugins if only is None or plugin.name in only]
        self.done = Decided()
        reporting = [number for number, shop in setup.shops.items() if "delivered" in shop.reports]
        self.reading = Reading(tx, now, reporting)
        self.wave, self.close = Wave(), Close()
        self.orders: dict[int, Order] = {}
        self.broadcasts: dict[int, Mapping[str, Any]] = {}
        self.subjects: dict[str, dict[int, Any]] = {name: {} for name in SUBJECTS}
        self.families = {row["family"] for row in rows if row["family"] is not None}
        waiting = log.retrying(tx, self.families, {row["pending_id"] for row in rows})
        #: {(family, plugin): the oldest it has yet to decide, as (occurred_at, interaction), and when that is due}
        self.retrying = {
            pair: ((row["occurred_at"], row["interaction_id"]), row["due_at"]) for pair, row in waiting.items()
        }
        profiles = {row["profile_id"] for row in rows if row["profile_id"] is not None}
        self.customers = facts.customers_of(tx, profiles)
        self.composer = Composer(setup, Reach({}, {}, {}, {}), now, self._crm)
        self.effects = Effects(tx, setup, now, self.composer, self.customers, self.wave)
        self.composer.planned = self.effects.planned
        self._load(rows)
        self._take_addresses()

    def _crm(self, plugin: Plugin) -> CrmView:
        return CrmView(self.reading, plugin.name, plugin.settings)

    def _load(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Load what these interactions are about, as far as it is not here yet."""
        orders = {row["order_id"] for row in rows if row["order_id"] is not None} - set(self.orders)
        self.orders.update(facts.orders_at(self.tx, orders, self.now) if orders else {})
        loaders: dict[str, Callable[[Connection, Iterable[int], datetime], dict[int, Any]]] = {
            "parcel": facts.parcels_at,
            "refund": facts.refunds_at,
            "review": facts.reviews_at,
            "contact": partial(contacts.waiting, key=self.setup.links.keys[0] if self.setup.links else None),
        }
        saying = [row for row in rows if row["payload"]]
        for name, load in loaders.items():
            wanted = {number for row in saying for number in _named(row, name)} - set(self.subjects[name])
            if wanted:
                self.subjects[name].update(load(self.tx, wanted, self.now))
        members = {row["payload"]["broadcast"] for row in rows if row["type"] == BroadcastMember.name}
        if members:
            self.broadcasts.update(broadcasts.by_id(self.tx, members))
        self._preload({row["type"] for row in rows})

    def _preload(self, types: set[str]) -> None:
        everybody: set[int] = set()
        for plugin in self.plugins:
            for handler in plugin.handlers:
                if handler.load and handler.event.name in types:
                    everybody = everybody or {*self.customers, *(one.id for one in self.customers.values())}
                    for model in handler.load:
                        self.reading.preload(model, everybody)

    def _take_addresses(self) -> None:
        """Hold the addresses that a cap or a broadcast counts: two customers who share one are not decided at once.

        A customer of whom another worker holds one is left out, like one that another worker holds: nobody waits.
        """
        if self.tx.dialect.name == "sqlite":
            return
        has_cap = self.setup.rules.marketing_cap is not None
        loud = has_cap and any(not self._is_quiet(row) for row in self.rows)
        if loud or self.broadcasts:
            self.effects.meet()
            reach = self.composer.reach.addresses
            wanted = {family: {f"address:{row['value']}" for row in rows} for family, rows in reach.items()}
            mine = bulk.take_free(self.tx, set().union(*wanted.values()))
            busy = {family for family, names in wanted.items() if not names <= mine}
            self.rows = [row for row in self.rows if row["family"] not in busy]
            self.families -= busy

    # waves

    def run(self) -> Decided:
        """Decide the whole batch."""
        queues: dict[Any, deque[dict[str, Any]]] = {}
        for row in sorted(self.rows, key=_age):
            owner = row["family"] if row["family"] is not None else ("order", row["order_id"], row["id"])
            queues.setdefault(owner, deque()).append(row)
        while queues:
            for queue in queues.values():
                self._decide(queue.popleft())
            for owner_row in self._write():
                owner = owner_row["family"] if owner_row["family"] is not None else ("cause", owner_row["id"])
                queues[owner] = deque(sorted((*queues.get(owner, ()), owner_row), key=_age))
            queues = {owner: queue for owner, queue in queues.items() if queue}
        self._post(self.close.write(self.tx, self.now, self.listened))
        outbox.keep_templates(self.tx, template_rows(self.composer.templates))
        self.done.quiet = self.close.quiet.total()
        self.done.selects = self.reading.selects
        lines.later(
            self.tx,
            DECIDED,
            interactions=self.done.interactions,
            messages=self.done.messages.total(),
            failures=self.done.failures,
        )
        return self.done

    def _decide(self, row: dict[str, Any]) -> None:
        self.done.interactions += 1
        if row.get("pending_id") is not None:
            self.wave.finished.append(row["pending_id"])
        kind = EVENTS.get(row["type"])
        if row.get("plugin") is None:
            is_inner = kind in INNER  # what a plugin asked the core for waits for that plugin alone
            for name in sorted(self.setup.away if is_inner else self.setup.absent):
                if not is_inner or row["actor"] == f"plugin:{name}":
                    self._wait(row, name, row["occurred_at"], "waits for its plugin, which is not loaded")
        if kind is None:
            return  # the event of a plugin that is gone for good, or that waits with what it would decide
        for plugin in self.plugins:
            if row.get("plugin") not in {None, plugin.name}:
                continue
            handlers = self._handlers(plugin, kind, row)
            if not handlers:
                continue
            if row["depth"] > DEPTH_LIMIT:
                self._wait(
                    row, plugin.name, self.now, f"a chain of effects deeper than {DEPTH_LIMIT}", parked_at=self.now
                )
                continue
            earlier = self.retrying.get((row["family"], plugin.name))
            if earlier is not None and earlier[0] < _age(row):
                self._wait(row, plugin.name, earlier[1], "waits for an earlier interaction of this customer")
                continue
            try:
                shop = self.setup.shops.get(row["shop_id"]) if row["shop_id"] is not None else None
                work = Work(row, self._event(kind, row, shop), self._is_quiet(row))
            except Exception as error:  # what is stored does not fit the event's class any more
                self._failed(plugin, row, error)
                continue
            began = self.timer()
            self._ask(plugin, handlers, work)
            self.done.seconds[plugin.name] += self.timer() - began  # type: ignore[assignment]

    def _handlers(self, plugin: Plugin, kind: type[Event], row: Mapping[str, Any]) -> Sequence[Handler]:
        """Who handles an event for a plugin: the core itself what the plugin asked it for."""
        if kind not in INNER:
            return [handler for handler in plugin.handlers if handler.event is kind]
        if row["actor"] != f"plugin:{plugin.name}":
            return ()
        if kind is ScheduleDue:
            due = (row["payload"] or {}).get("schedule")
            return [handler for handler in plugin.handlers if handler.schedule is not None and handler.name == due]
        if kind is BroadcastMember:
            return (Handler(kind, lambda event, crm: broadcast.sends(event, self.broadcasts[event.broadcast])),)
        return (Handler(BundleDue, lambda event, crm: combine.sends(event, self.subjects)),)

    def _is_quiet(self, row: Mapping[str, Any]) -> bool:
        shop = self.setup.shops.get(row["shop_id"]) if row["shop_id"] is not None else None
        return bool(row.get("is_quiet")) or (shop is not None and row["occurred_at"] < shop.announce_from)

    def _event(self, kind: type[Event], row: dict[str, Any], shop: Shop | None) -> Event:
        payload = row["payload"] or {}
        subjects = {name: self.subjects[name].get(payload[name]) for name in subjects_of(kind) if name in payload}
        return kind.of(
            payload,
            customer=self.customers.get(row["profile_id"]),
            order=self.orders.get(row["order_id"]),
            shop=shop,
            at=row["occurred_at"],
            actor=row["actor"],
            id=row["id"],
            **subjects,
        )

    def _ask(self, plugin: Plugin, handlers: Iterable[Handler], work: Work) -> None:
        """Call one plugin's handlers; all it asks for counts, or nothing of it."""
        crm, asked, planned = self._crm(plugin), list[Action](), self.effects.planned_so_far
        try:
            if plugin.name in self.refused:
                raise PluginError(self.refused[plugin.name], who=plugin.name, operation=work.event.name)
            for handler in handlers:
                asked.extend(self.ask(plugin, handler, work.event, crm))
            check_keys(plugin, work, asked)
            effects = [self.effects.of(plugin, work, action) for action in asked]
        except DBAPIError:
            raise  # PostgreSQL takes no more statements until the savepoint before it is gone
        except (Exception, SystemExit) as error:  # a plugin's code: what it breaks is its own pair only
            self.effects.take_back(planned)
            self._failed(plugin, work.row, error)
            return
        for apply in effects:
            apply()

    def _failed(self, plugin: Plugin, row: dict[str, Any], error: BaseException) -> None:
        """Put a pair back to be tried again, or park it. Until then the customer's later ones wait for this plugin."""
        tries = row.get("tries", 0) + 1 if row.get("plugin") == plugin.name else 1
        text = str(error) if isinstance(error, CrmkitError) else f"{type(error).__name__}: {error}"
        self.done.fail(plugin.name, row["id"], text)
        lines.later(
            self.tx,
            DECISION_FAILED,
            interaction=row["id"],
            plugin=plugin.name,
            tries=tries,
            is_parked=tries >= TRIES_LIMIT,
            correlation=row["correlation_id"],
            **told_of(error),
        )
        chance = (row["id"] * 2654435761 % 1000) / 1000  # of the interaction, so that a run can be repeated
        due_at, parked = self.now + backoff(tries, chance), tries >= TRIES_LIMIT
        self._wait(row, plugin.name, due_at, text, tries=tries, parked_at=self.now if parked else None)
        if not parked and row["family"] is not None:
            self.retrying[row["family"], plugin.name] = (_age(row), due_at)

    def _wait(self, row: dict[str, Any], plugin: str, due_at: datetime, why: str, **other: Any) -> None:
        """Leave a pending row of the plugin's own; who only waits was not tried, and keeps the count it had."""
        values = {
            "interaction_id": row["id"],
            "profile_id": row["profile_id"],
            "plugin": plugin,
            "due_at": due_at,
            "tries": row.get("tries", 0) if row.get("plugin") == plugin else 0,
            "error": storable(why),
            "parked_at": None,
        }
        self.wave.put_back.append({**values, **other})

    # writing a wave

    def _write(self) -> list[dict[str, Any]]:
        """Write a wave. Returns what it told that is to be decided next."""
        wave, self.wave = self.wave, Wave()
        self.effects.wave = self.wave
        self.close.add(wave)
        next_up = wave.write(self.tx, self.now, self.listened)
        self.reading.refresh(wave.saves)
        self._post(wave.messages)
        return self._next(next_up)

    def _post(self, messages: list[dict[str, Any]]) -> None:
        post(self.tx, messages, self.listened, self.now)
        self.done.messages.update(row["state"] for row in messages)
        for row in messages:
            _say(self.tx, row)
        self.done.rows.extend(messages)

    def _next(self, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of what was told, that of this batch's customers; others' takes its turn among their own pending work."""
        profiles = {row["profile_id"] for row in told if row["profile_id"] is not None}
        families = customers.family_of(self.tx, profiles)
        here = set() if self.is_alone else {None, *self.families}
        log.add_pending(self.tx, [row for row in told if families.get(row["profile_id"]) not in here])
        next_up = [row for row in told if families.get(row["profile_id"]) in here]
        strangers = {row["profile_id"] for row in next_up if row["profile_id"] is not None} - set(self.customers)
        self.customers.update(facts.customers_of(self.tx, strangers) if strangers else {})
        self._load(next_up)
        return [{**row, "family": families.get(row["profile_id"])} for row in next_up]


def _say(tx: Connection, message: Mapping[str, Any]) -> None:
    if MESSAGE_DECIDED.is_wanted:
        lines.later(
            tx,
            MESSAGE_DECIDED,
            message=message["id"],
            interaction=message["interaction_id"],
            plugin=message["plugin"],
            template=message["template"],
            channel=message["channel"],
            state=str(message["state"]),
            reason=str(message["reason"]) if message["reason"] is not None else None,
            correlation=message["correlation_id"],
        )


def _age(row: Mapping[str, Any]) -> tuple[datetime, int]:
    return row["occurred_at"], row["id"]


def _named(row: Mapping[str, Any], name: str) -> Sequence[int]:
    """The numbers of the parcels (refunds, reviews) an interaction is about."""
    kind, payload = EVENTS.get(row["type"]), row["payload"]
    if not payload or kind is None:
        return ()
    if kind is BundleDue:
        return payload.get(f"{name}s") or ()
    return (payload[name],) if name in payload and name in subjects_of(kind) else ()
