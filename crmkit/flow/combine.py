"""Bursts become one message: a `Send(combine=...)` holds its decision until others like it have come.

The first of a burst sets a timer; the others within its time are put into it, and kept as suppressed. When it is due,
one message is rendered that names all. The timer is the plugin's own, written in the transaction of what was decided:
nothing is lost or doubled when a process dies. A burst for the staff may be of several customers, whom several workers
decide about at once: its timer is nobody's, and is written by one worker at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.actions import Action, Send, Staff, staff
from crmkit.core.events import SUBJECTS, Event, subjects_of
from crmkit.core.inner import BundleDue
from crmkit.flow.context import plain
from crmkit.store import log


@dataclass(frozen=True, slots=True)
class Held:
    """A `Send` that waits for others like it.

    Attributes:
        event: what it is asked for by.
        at: when that was.
        timer: the timer it sets if it is the first.
        rows: how it is kept if it is put with another: messages, suppressed.
    """

    event: Event
    at: datetime
    timer: Mapping[str, Any]
    rows: Sequence[dict[str, Any]]

    @property
    def name(self) -> log.TimerName:
        """Of the timer."""
        return self.timer["plugin"], self.timer["key"]

    @property
    def age(self) -> tuple[datetime, int]:
        """What came first is put with others first."""
        return self.at, self.timer["cause_id"]


@dataclass(slots=True)
class Bundles:
    """What became of held sends: timers to set, interactions of those that ended, messages that were combined."""

    timers: dict[log.TimerName, dict[str, Any] | None] = field(default_factory=dict)
    ended: list[dict[str, Any]] = field(default_factory=list)
    combined: list[dict[str, Any]] = field(default_factory=list)


def hold(plugin: str, event: Event, cause: Mapping[str, Any], send: Send, rows: Sequence[dict[str, Any]]) -> Held:
    """A `Send` that waits for others like it.

    Args:
        cause: the interaction it is asked for by.
        rows: see `Held`.

    Raises:
        PluginError: its context cannot be kept.
    """
    payload: dict[str, Any] = {
        "template": send.template,
        "via": list(send.via),
        "staff": send.to.target if isinstance(send.to, Staff) else None,
        "key": send.key,
        "context": plain({**event.own(), **send.context}),
        "not_before": send.not_before.isoformat() if send.not_before is not None else None,
        "count": 0,
    }
    timer = {
        "plugin": plugin,
        "key": _timer_key(event, send),
        "type": BundleDue.name,
        "due_at": cause["occurred_at"] + send.combine,
        # what tells the staff of several customers is nobody's: it outlives the one who came first
        "profile_id": None if send.to is not None and event.order is None else cause["profile_id"],
        "shop_id": cause["shop_id"],
        "order_id": cause["order_id"],
        "payload": _joined({name: value for name, value in payload.items() if value is not None}, event),
        "cause_id": cause["id"],
        "depth": cause["depth"] + 1,
        "correlation_id": cause["correlation_id"],
    }
    return Held(event, cause["occurred_at"], timer, rows)


def _timer_key(event: Event, send: Send) -> str:
    """What sends that become one message have in common."""
    if event.order is not None:
        about = f"order:{event.order.shop_id}:{event.order.external_id}"
    else:
        about = f"shop:{event.shop.id if event.shop is not None else None}"
    customer = event.customer.key if event.customer is not None else None
    whom = f"staff:{send.to.target}" if isinstance(send.to, Staff) else f"customer:{customer}"
    return ":".join(("crmkit", "combine", send.template, send.key or "", whom, about))


def bundle(tx: Connection, held: Sequence[Held]) -> Bundles:
    """Put each held send with those it belongs to, the oldest first. One statement.

    Whoever calls holds the customers, and what is nobody's (see `store.log.hold_shared_timers`).
    """
    found = Bundles()
    open_timers = log.timers_named(tx, {one.name for one in held})
    for one in sorted(held, key=lambda one: one.age):
        name = one.name
        timer: Mapping[str, Any] | None = found.timers.get(name) or open_timers.get(name)
        if timer is not None and one.at >= timer["due_at"]:  # that burst is over
            found.ended.append(log.interaction_of(timer))
            timer = None
        if timer is None:
            found.timers[name] = dict(one.timer)
        else:
            found.timers[name] = {**timer, "payload": _joined(timer["payload"], one.event)}
            found.combined.extend(one.rows)
    return found


def _joined(payload: Mapping[str, Any], event: Event) -> dict[str, Any]:
    joined = {**payload, "count": payload["count"] + 1}
    for name in subjects_of(type(event)):
        subject, known = getattr(event, name), joined.get(f"{name}s", [])
        if subject is not None and subject.id not in known:
            joined[f"{name}s"] = [*known, subject.id]
    return joined


def sends(event: BundleDue, subjects: Mapping[str, Mapping[int, Any]]) -> Sequence[Action]:
    """What a bundle that is due asks for."""
    context = dict(event.context or {})
    for name in SUBJECTS:
        numbers = getattr(event, f"{name}s", None) or ()
        context[f"{name}s"] = [subjects[name][number] for number in numbers if number in subjects[name]]
    to = staff(event.staff) if event.staff is not None else None
    context["count"] = event.count
    send = Send(
        event.template, via=tuple(event.via), to=to, key=event.key, context=context, not_before=event.not_before
    )
    return (send,)
