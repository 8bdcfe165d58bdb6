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
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from crmkit.core.account import Shop
from crmkit.core.actions import Action, Cancel, Emit, Later, Note, Save, Send
from crmkit.core.columns import storable
from crmkit.core.errors import CrmkitError, PluginError
from crmkit.core.events import EVENTS, Event
from crmkit.core.interaction import CRMKIT, DEPTH_LIMIT, TRIES_LIMIT
from crmkit.core.message import Reason, State
from crmkit.core.order import Order
from crmkit.flow import callback
from crmkit.flow.compose import Composer, template_rows
from crmkit.flow.setup import Plugin, Setup, backoff
from crmkit.store import bulk, customers, facts, log, outbox
from crmkit.store import tables as t
from crmkit.store.engine import UNSTORABLE, refusal
from crmkit.store.facts import Reach


@dataclass(slots=True)
class Decided:
    """What a decide step did.

    Attributes:
        interactions: how many left the pending work.
        messages: new messages by state.
        quiet: sends that history would have caused.
        failed: (plugin, interaction, error) of what will be tried again or was parked.
        rows: the new messages, as they were stored.
    """

    interactions: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    quiet: int = 0
    failed: list[tuple[str, int, str]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: "Decided") -> None:
        """Take another step's numbers on board."""
        self.interactions += other.interactions
        self.messages.update(other.messages)
        self.quiet += other.quiet
        self.failed.extend(other.failed)
        self.rows.extend(other.rows)


def decide(tx: Connection, setup: Setup, now: datetime, limit: int = 500) -> Decided:
    """Decide what is due, up to `limit` interactions; zero interactions say that nothing was left.

    Args:
        tx: a write transaction.
        setup: handlers, policies, templates, channels.
        now: the run's clock; what is later is not due, and handlers see the facts as of it.
        limit: how much one transaction takes.
    """
    log.fire_timers(tx, now, setup.listened, limit, setup.absent)
    rows = log.due(tx, now, limit, setup.shops, setup.absent)
    if not rows:
        return Decided()
    try:
        with tx.begin_nested():
            return _Batch(tx, setup, now, rows).run()
    except UNSTORABLE as error:
        if refusal(error) is None:
            raise
    # The database refused something a plugin asked for: one by one, then plugin by plugin, to name the culprit.
    done = Decided()
    for row in rows:
        done.add(_alone(tx, setup, now, row))
    return done


def _alone(tx: Connection, setup: Setup, now: datetime, row: dict[str, Any]) -> Decided:
    try:
        with tx.begin_nested():
            return _Batch(tx, setup, now, [row], is_alone=True).run()
    except UNSTORABLE as error:
        _reason(error)
    refused: dict[str, str] = {}
    for plugin in setup.plugins:
        trial = tx.begin_nested()
        try:
            _Batch(tx, setup, now, [row], only={plugin.name}, is_alone=True).run()
        except UNSTORABLE as error:
            refused[plugin.name] = _reason(error)
        finally:
            trial.rollback()
    try:
        with tx.begin_nested():
            return _Batch(tx, setup, now, [row], refused=refused, is_alone=True).run()
    except UNSTORABLE as error:  # refused only together: then nobody's effects count
        refused = {plugin.name: _reason(error) for plugin in setup.plugins}
    with tx.begin_nested():
        return _Batch(tx, setup, now, [row], refused=refused, is_alone=True).run()


def _reason(error: Exception) -> str:
    """Why an effect was refused; what is the database's own trouble is raised again."""
    why = refusal(error)
    if why is None:
        raise error
    return why


class _Crm:
    """What a handler may read (see `crmkit.Crm`)."""

    def __init__(self, tx: Connection, now: datetime, settings: Any) -> None:
        self._tx, self.now, self.settings = tx, now, settings

    def select(self, table: type[SQLModel], **where: Any) -> list[Any]:
        """Rows of one of the plugin's own tables whose columns equal `where`."""
        return facts.rows_of(self._tx, table, where)


@dataclass(slots=True)
class _Work:
    """One interaction in hand."""

    row: dict[str, Any]
    event: Event
    is_quiet: bool


class _Batch:
    """Some due interactions of some customers, decided in waves within one transaction."""

    def __init__(
        self,
        tx: Connection,
        setup: Setup,
        now: datetime,
        rows: Sequence[dict[str, Any]],
        only: set[str] | None = None,
        refused: Mapping[str, str] = {},
        is_alone: bool = False,
    ) -> None:
        self.tx, self.setup, self.now = tx, setup, now
        self.rows, self.refused, self.is_alone = rows, refused, is_alone
        self.listened = setup.listened
        self.plugins = [plugin for plugin in setup.plugins if only is None or plugin.name in only]
        self.done = Decided()
        self.orders: dict[int, Order] = {}
        self.composer = Composer(setup, Reach({}, {}, {}, {}), now, lambda plugin: _Crm(tx, now, plugin.settings))
        self.reachable: set[int] = set()
        self.families = {row["family"] for row in rows if row["family"] is not None}
        waiting = log.retrying(tx, self.families, {row["pending_id"] for row in rows})
        #: {(family, plugin): the oldest it has yet to decide, as (occurred_at, interaction), and when that is due}
        self.retrying = {
            pair: ((row["occurred_at"], row["interaction_id"]), row["due_at"]) for pair, row in waiting.items()
        }
        self._load()
        self._clear()

    def _load(self) -> None:
        rows = self.rows
        self.orders = facts.orders_at(
            self.tx, {row["order_id"] for row in rows if row["order_id"] is not None}, self.now
        )
        profiles = {row["profile_id"] for row in rows if row["profile_id"] is not None}
        self.customers = facts.customers_of(self.tx, profiles)
        self.subjects: dict[str, dict[int, Any]] = {}
        loaders: dict[str, Callable[[Connection, Iterable[int], datetime], dict[int, Any]]] = {
            "parcel": facts.parcels_at,
            "refund": facts.refunds_at,
            "review": facts.reviews_at,
        }
        for name, load in loaders.items():
            wanted = {row["payload"][name] for row in rows if row["payload"] and name in row["payload"]}
            self.subjects[name] = load(self.tx, wanted, self.now) if wanted else {}

    def _clear(self) -> None:
        """Effects of a wave, gathered until it is written."""
        self.finished: list[int] = []
        self.put_back: list[dict[str, Any]] = []
        self.told: list[tuple[_Work, dict[str, Any]]] = []
        self.timers: list[dict[str, Any]] = []
        self.cancelled: list[tuple[str, str]] = []
        self.saves: dict[type[SQLModel], list[SQLModel]] = {}
        self.messages: list[dict[str, Any]] = []
        self.quiet: Counter[tuple[int, str, str]] = Counter()

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
        return self.done

    def _decide(self, row: dict[str, Any]) -> None:
        self.done.interactions += 1
        if row.get("pending_id") is not None:
            self.finished.append(row["pending_id"])
        if row.get("plugin") is None:
            for name in sorted(self.setup.absent):
                self._wait(row, name, row["occurred_at"], "waits for its plugin, which is not loaded")
        kind = EVENTS.get(row["type"])
        if kind is None:
            return  # the event of a plugin that is gone for good, or that waits with what it would decide
        shop = self.setup.shops.get(row["shop_id"]) if row["shop_id"] is not None else None
        is_quiet = shop is not None and row["occurred_at"] < shop.announce_from
        for plugin in self.plugins:
            if row.get("plugin") not in {None, plugin.name}:
                continue
            handlers = [handler for handler in plugin.handlers if handler.event is kind]
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
                work = _Work(row, self._event(kind, row, shop), is_quiet)
            except Exception as error:  # what is stored does not fit the event's class any more
                self._failed(plugin, row, error)
                continue
            self._ask(plugin, handlers, work)

    def _event(self, kind: type[Event], row: dict[str, Any], shop: Shop | None) -> Event:
        payload = row["payload"] or {}
        subjects = {
            name: self.subjects[name].get(payload[name])
            for name in self.subjects
            if name in payload and hasattr(kind, name)
        }
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

    def _ask(self, plugin: Plugin, handlers: Iterable[Any], work: _Work) -> None:
        """Call one plugin's handlers; all it asks for counts, or nothing of it."""
        crm = _Crm(self.tx, self.now, plugin.settings)
        asked: list[Action] = []
        try:
            if plugin.name in self.refused:
                raise PluginError(self.refused[plugin.name], who=plugin.name, operation=work.event.name)
            for handler in handlers:
                for action in handler(work.event, crm) or ():
                    if not isinstance(action, Action):
                        raise PluginError(
                            f"{handler.name} returned {action!r}, which is no action",
                            who=plugin.name,
                            operation=work.event.name,
                            do="yield Send, Note, Emit, Later, Cancel or Save",
                        )
                    asked.append(action)
            self._check_keys(plugin, work, asked)
            effects = [self._effect(plugin, work, action, crm) for action in asked]
        except DBAPIError:
            raise  # PostgreSQL takes no more statements until the savepoint before it is gone
        except Exception as error:  # a plugin's code: what it breaks is its own pair only
            self._failed(plugin, work.row, error)
            return
        for apply in effects:
            apply()

    def _check_keys(self, plugin: Plugin, work: _Work, asked: Iterable[Action]) -> None:
        sends = [action for action in asked if isinstance(action, Send)]
        counts = Counter((send.key, send.template if send.key is None else None, send.to) for send in sends)
        twice = next((key or template for (key, template, _), count in counts.items() if count > 1), None)
        if twice is not None:
            raise PluginError(
                f"sends {twice!r} twice to one recipient",
                who=plugin.name,
                operation=work.event.name,
                do="give each Send a key of its own",
            )

    def _failed(self, plugin: Plugin, row: dict[str, Any], error: Exception) -> None:
        """Put a pair back to be tried again, or park it. Until then the customer's later ones wait for this plugin."""
        tries = row.get("tries", 0) + 1 if row.get("plugin") == plugin.name else 1
        text = str(error) if isinstance(error, CrmkitError) else f"{type(error).__name__}: {error}"
        self.done.failed.append((plugin.name, row["id"], text))
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
        self.put_back.append({**values, **other})

    # effects

    def _effect(self, plugin: Plugin, work: _Work, action: Action, crm: _Crm) -> Callable[[], None]:
        """Check an action now, so that a bad one fails its plugin before anything of it counts."""
        event = work.event
        if isinstance(action, Send):
            if isinstance(action.via, str) or not action.via:
                raise PluginError(f"via={action.via!r} is no list of channels", who=plugin.name, operation=event.name)
            return self._send(plugin, work, action, crm)
        if isinstance(action, Note):
            row = self._caused(plugin, work, "note", {"text": action.text}, None)
            return lambda: self.told.append((work, row))
        if isinstance(action, Emit):
            key = None if action.key is None else f"{plugin.name}:{action.event.name}:{action.key}"
            row = self._caused(plugin, work, action.event.name, action.event.payload(), key, action.event)
            if row["depth"] > DEPTH_LIMIT:
                raise PluginError(
                    f"a chain of events deeper than {DEPTH_LIMIT}",
                    who=plugin.name,
                    operation=event.name,
                    do="end the loop",
                )
            return lambda: self.told.append((work, row))
        if isinstance(action, Later):
            if action.at.tzinfo is None:
                raise PluginError("Later at a time without a zone", who=plugin.name, operation=event.name)
            timer = self._timer(plugin, work, action)
            return lambda: self._set(timer)
        if isinstance(action, Cancel):
            key = action.key if isinstance(action.key, str) else _subject(action.key, event)
            return lambda: self._cancel(plugin, key)
        if isinstance(action, Save):
            if getattr(type(action.row), "__table__", None) is None or t.table_of(type(action.row)) in t.CORE:
                raise PluginError(
                    f"Save({type(action.row).__name__}) is no row of a table of the plugin's own",
                    who=plugin.name,
                    operation=event.name,
                    do="save rows of the models named in crmkit_tables",
                )
            return lambda: self.saves.setdefault(type(action.row), []).append(action.row)
        raise PluginError(f"{type(action).__name__} is no action crmkit knows", who=plugin.name, operation=event.name)

    def _send(self, plugin: Plugin, work: _Work, action: Send, crm: _Crm) -> Callable[[], None]:
        if work.is_quiet:
            counted = (work.row["shop_id"], plugin.name, action.template)
            return lambda: self.quiet.update([counted])
        if work.event.customer is not None and work.event.customer.id not in self.reachable:
            self.reachable = {customer.id for customer in self.customers.values()}
            self.composer.reach = facts.reach_of(self.tx, self.reachable, self.now)
        rows = [{**row, "depth": work.row["depth"]} for row in self.composer.compose(plugin, work.event, action)]
        return lambda: self.messages.extend(rows)

    def _caused(
        self,
        plugin: Plugin,
        work: _Work,
        kind: str,
        payload: dict[str, Any] | None,
        key: str | None,
        event: Event | None = None,
    ) -> dict[str, Any]:
        cause = work.row
        own_order = event.order.id if event is not None and event.order is not None else None
        own_customer = event.customer.profile_id if event is not None and event.customer is not None else None
        return {
            "type": kind,
            "profile_id": own_customer if own_customer is not None else cause["profile_id"],
            "shop_id": event.shop.id if event is not None and event.shop is not None else cause["shop_id"],
            "order_id": own_order if own_order is not None else cause["order_id"],
            "actor": f"plugin:{plugin.name}",
            "occurred_at": cause["occurred_at"],
            "payload": payload,
            "cause_id": cause["id"],
            "depth": cause["depth"] + 1,
            "key": key,
        }

    def _timer(self, plugin: Plugin, work: _Work, action: Later) -> dict[str, Any]:
        caused = self._caused(plugin, work, action.event.name, action.event.payload(), None, action.event)
        return {
            "plugin": plugin.name,
            "key": action.key or _subject(type(action.event), work.event),
            "type": caused["type"],
            "due_at": action.at,
            "profile_id": caused["profile_id"],
            "shop_id": caused["shop_id"],
            "order_id": caused["order_id"],
            "payload": caused["payload"],
            "cause_id": caused["cause_id"],
            # at once, it is an effect like any other; later, a new beginning
            "depth": caused["depth"] if action.at <= self.now else 0,
        }

    def _set(self, timer: dict[str, Any]) -> None:
        self.cancelled = [pair for pair in self.cancelled if pair != (timer["plugin"], timer["key"])]
        self.timers.append(timer)

    def _cancel(self, plugin: Plugin, key: str) -> None:
        self.timers = [row for row in self.timers if (row["plugin"], row["key"]) != (plugin.name, key)]
        self.cancelled.append((plugin.name, key))

    # writing a wave

    def _write(self) -> list[dict[str, Any]]:
        """Write a wave's effects. Returns what it told that somebody listens to, to be decided next."""
        log.done(self.tx, self.finished)
        log.put_back(self.tx, self.put_back)
        log.cancel_timers(self.tx, self.cancelled)
        log.set_timers(self.tx, self.timers)
        self._save()
        log.count_quiet(self.tx, self.quiet)
        self.done.quiet += sum(self.quiet.values())
        self._post(self.messages)
        told = log.append(self.tx, [row for _, row in self.told], (), self.now)
        self._clear()
        next_up = [row for row in told if row["type"] in self.listened]
        families = customers.family_of(self.tx, {row["profile_id"] for row in next_up if row["profile_id"] is not None})
        # What is told of a customer who is not of this batch takes its turn among that customer's own pending work.
        here = set() if self.is_alone else {None, *self.families}
        log.add_pending(self.tx, [row for row in next_up if families.get(row["profile_id"]) not in here])
        next_up = [row for row in next_up if families.get(row["profile_id"]) in here]
        missing = {row["order_id"] for row in next_up if row["order_id"] is not None} - set(self.orders)
        self.orders.update(facts.orders_at(self.tx, missing, self.now) if missing else {})
        strangers = {row["profile_id"] for row in next_up if row["profile_id"] is not None} - set(self.customers)
        self.customers.update(facts.customers_of(self.tx, strangers) if strangers else {})
        return [{**row, "family": families.get(row["profile_id"])} for row in next_up]

    def _save(self) -> None:
        for model, instances in self.saves.items():
            table = t.table_of(model)
            keys = [column.name for column in table.primary_key.columns]
            rows = [instance.model_dump() for instance in instances]
            is_new = [len(keys) == 1 and row[keys[0]] is None for row in rows]
            bulk.upsert(self.tx, table, keys, [row for row, new in zip(rows, is_new, strict=True) if not new])
            fresh = [{**row} for row, new in zip(rows, is_new, strict=True) if new]
            for row in fresh:
                del row[keys[0]]  # the database numbers it
            bulk.insert(self.tx, table, fresh)

    def _post(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        self._drop_repeats(rows)
        outbox.keep_templates(self.tx, template_rows(self.composer.templates))
        self.composer.templates.clear()
        outbox.add(self.tx, rows)
        settled = [row for row in rows if row["state"] in {State.SUPPRESSED, State.HELD}]
        callback.tell(self.tx, settled, self.listened, self.now)
        for row in rows:
            self.done.messages[row["state"]] += 1
        self.done.rows.extend(rows)

    def _drop_repeats(self, rows: list[dict[str, Any]]) -> None:
        """A message whose key is known already was told before: it is kept as suppressed, under a key of its own."""
        known = outbox.keys_known(self.tx, [row["key"] for row in rows])
        for row in rows:
            if row["key"] in known:
                told = f"{row['key']}#{row['interaction_id']}"
                row.update(
                    key=next(key for key in (told, *(f"{told}.{n}" for n in range(2, 1000))) if key not in known),
                    state=State.SUPPRESSED,
                    reason=Reason.DUPLICATE,
                    detail="told before",
                    settled_at=self.now,
                )
            known.add(row["key"])


def _age(row: Mapping[str, Any]) -> tuple[datetime, int]:
    return row["occurred_at"], row["id"]


def _subject(kind: type[Event], event: Event) -> str:
    """The default key of a timer: the event's type and what it is about."""
    if event.order is not None:
        return f"{kind.name}:order:{event.order.shop_id}:{event.order.external_id}"
    if event.customer is not None:
        return f"{kind.name}:customer:{event.customer.id}"
    return f"{kind.name}:shop:{event.shop.id if event.shop else CRMKIT}"
