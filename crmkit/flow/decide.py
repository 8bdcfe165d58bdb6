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
from crmkit.core.errors import CrmkitError, PluginError
from crmkit.core.events import EVENTS, Event
from crmkit.core.interaction import CRMKIT, DEPTH_LIMIT, TRIES_LIMIT
from crmkit.core.message import Reason, State
from crmkit.core.order import Order
from crmkit.flow.compose import Composer, template_rows
from crmkit.flow.setup import Plugin, Setup, backoff
from crmkit.store import bulk, facts, log, outbox
from crmkit.store import tables as t
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
    log.fire_timers(tx, now, setup.listened, limit)
    rows = log.due(tx, now, limit, setup.shops)
    if not rows:
        return Decided()
    try:
        with tx.begin_nested():
            return _Batch(tx, setup, now, rows).run()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
    # The database refused something a plugin asked for: one by one, then plugin by plugin, to name the culprit.
    done = Decided()
    for row in rows:
        done.add(_alone(tx, setup, now, row))
    return done


def _alone(tx: Connection, setup: Setup, now: datetime, row: dict[str, Any]) -> Decided:
    try:
        with tx.begin_nested():
            return _Batch(tx, setup, now, [row]).run()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
    refused: dict[str, str] = {}
    for plugin in setup.plugins:
        trial = tx.begin_nested()
        try:
            _Batch(tx, setup, now, [row], only={plugin.name}).run()
        except DBAPIError as error:
            refused[plugin.name] = f"the database refused it: {str(error.orig).strip().splitlines()[0]}"
        finally:
            trial.rollback()
    with tx.begin_nested():
        return _Batch(tx, setup, now, [row], refused=refused).run()


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
    ) -> None:
        self.tx, self.setup, self.now = tx, setup, now
        self.rows, self.refused = rows, refused
        self.plugins = [plugin for plugin in setup.plugins if only is None or plugin.name in only]
        self.done = Decided()
        self.orders: dict[int, Order] = {}
        self.composer = Composer(setup, Reach({}, {}, {}, {}), now)
        self.reachable: set[int] = set()
        self.retrying = log.retrying(tx, {row["profile_id"] for row in rows if row["profile_id"] is not None}, now)
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
        for row in sorted(self.rows, key=lambda row: (row["occurred_at"], row["id"])):
            owner = row["family"] if row["family"] is not None else ("order", row["order_id"], row["id"])
            queues.setdefault(owner, deque()).append(row)
        while queues:
            for queue in queues.values():
                self._decide(queue.popleft())
            for owner_row in self._write():
                owner = owner_row["family"] if owner_row["family"] is not None else ("cause", owner_row["id"])
                queues.setdefault(owner, deque()).appendleft(owner_row)
            queues = {owner: queue for owner, queue in queues.items() if queue}
        return self.done

    def _decide(self, row: dict[str, Any]) -> None:
        self.done.interactions += 1
        if row.get("pending_id") is not None:
            self.finished.append(row["pending_id"])
        kind = EVENTS.get(row["type"])
        if kind is None:
            return  # its plugin is gone
        shop = self.setup.shops.get(row["shop_id"]) if row["shop_id"] is not None else None
        work = _Work(row, self._event(kind, row, shop), shop is not None and row["occurred_at"] < shop.announce_from)
        for plugin in self.plugins:
            if row.get("plugin") not in {None, plugin.name}:
                continue
            handlers = [handler for handler in plugin.handlers if handler.event is kind]
            if not handlers:
                continue
            if row["depth"] > DEPTH_LIMIT:
                self._again(row, plugin.name, 0, f"a chain of effects deeper than {DEPTH_LIMIT}")
                continue
            pair = (row["profile_id"], plugin.name)
            if row.get("plugin") is None and pair in self.retrying:
                self._again(row, plugin.name, 0, "waits for an earlier interaction of this customer to be retried")
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
            raise
        except Exception as error:  # a plugin's code: what it breaks is its own pair only
            self._failed(plugin, work, error)
            return
        for apply in effects:
            apply()

    def _check_keys(self, plugin: Plugin, work: _Work, asked: Iterable[Action]) -> None:
        counts = Counter((a.key or a.template, a.to) for a in asked if isinstance(a, Send))
        twice = next((key for (key, _), count in counts.items() if count > 1), None)
        if twice is not None:
            raise PluginError(
                f"sends {twice!r} twice to one recipient",
                who=plugin.name,
                operation=work.event.name,
                do="give each Send a key of its own",
            )

    def _failed(self, plugin: Plugin, work: _Work, error: Exception) -> None:
        tries = work.row.get("tries", 0) + 1 if work.row.get("plugin") == plugin.name else 1
        text = str(error) if isinstance(error, CrmkitError) else f"{type(error).__name__}: {error}"
        self.done.failed.append((plugin.name, work.row["id"], text))
        self._again(work.row, plugin.name, tries, text)
        if tries < TRIES_LIMIT and work.row["profile_id"] is not None:
            self.retrying.add((work.row["profile_id"], plugin.name))

    def _again(self, row: dict[str, Any], plugin: str, tries: int, error: str) -> None:
        parked = tries >= TRIES_LIMIT or row["depth"] > DEPTH_LIMIT
        chance = (row["id"] * 2654435761 % 1000) / 1000  # of the interaction, so that a run can be repeated
        self.put_back.append(
            {
                "interaction_id": row["id"],
                "profile_id": row["profile_id"],
                "plugin": plugin,
                "due_at": self.now + backoff(max(tries, 1), chance),
                "tries": tries,
                "error": error,
                "parked_at": self.now if parked else None,
            }
        )

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
            return lambda: self._later(plugin, work, action)
        if isinstance(action, Cancel):
            key = action.key if isinstance(action.key, str) else _subject(action.key, event)
            return lambda: self._cancel(plugin, key)
        if isinstance(action, Save):
            return lambda: self.saves.setdefault(type(action.row), []).append(action.row)
        raise PluginError(f"{type(action).__name__} is no action crmkit knows", who=plugin.name, operation=event.name)

    def _send(self, plugin: Plugin, work: _Work, action: Send, crm: _Crm) -> Callable[[], None]:
        if work.is_quiet:
            counted = (work.row["shop_id"], plugin.name, action.template)
            return lambda: self.quiet.update([counted])
        if work.event.customer is not None and work.event.customer.id not in self.reachable:
            self.reachable = {customer.id for customer in self.customers.values()}
            self.composer.reach = facts.reach_of(self.tx, self.reachable, self.now)
        rows = [{**row, "depth": work.row["depth"]} for row in self.composer.compose(plugin, work.event, action, crm)]
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

    def _later(self, plugin: Plugin, work: _Work, action: Later) -> None:
        caused = self._caused(plugin, work, action.event.name, action.event.payload(), None, action.event)
        key = action.key or _subject(type(action.event), work.event)
        self.cancelled = [pair for pair in self.cancelled if pair != (plugin.name, key)]
        self.timers.append(
            {
                "plugin": plugin.name,
                "key": key,
                "type": caused["type"],
                "due_at": action.at,
                "profile_id": caused["profile_id"],
                "shop_id": caused["shop_id"],
                "order_id": caused["order_id"],
                "payload": caused["payload"],
                "cause_id": caused["cause_id"],
                "depth": 0,
            }
        )

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
        next_up = [row for row in told if row["type"] in self.setup.listened]
        families = log.family_of(self.tx, {row["profile_id"] for row in next_up if row["profile_id"] is not None})
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
            unnumbered = [row for row in rows if len(keys) == 1 and row[keys[0]] is None]
            for number, row in zip(bulk.next_ids(self.tx, table, len(unnumbered)), unnumbered, strict=True):
                row[keys[0]] = number
            bulk.upsert(self.tx, table, keys, rows)

    def _post(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        self._drop_repeats(rows)
        outbox.keep_templates(self.tx, template_rows(self.composer.templates))
        self.composer.templates.clear()
        outbox.add(self.tx, rows)
        for row in rows:
            self.done.messages[row["state"]] += 1
        self.done.rows.extend(rows)

    def _drop_repeats(self, rows: list[dict[str, Any]]) -> None:
        """A message whose key is known already was told before: it is kept as suppressed, under a key of its own."""
        known = outbox.keys_known(self.tx, [row["key"] for row in rows])
        for row in rows:
            if row["key"] in known:
                row.update(
                    key=f"{row['key']}#{row['interaction_id']}",
                    state=State.SUPPRESSED,
                    reason=Reason.DUPLICATE,
                    detail="told before",
                    settled_at=self.now,
                )
            known.add(row["key"])


def _subject(kind: type[Event], event: Event) -> str:
    """The default key of a timer: the event's type and what it is about."""
    if event.order is not None:
        return f"{kind.name}:order:{event.order.shop_id}:{event.order.external_id}"
    if event.customer is not None:
        return f"{kind.name}:customer:{event.customer.id}"
    return f"{kind.name}:shop:{event.shop.id if event.shop else CRMKIT}"
