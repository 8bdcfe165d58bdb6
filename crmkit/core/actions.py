"""What a handler may ask for. Handlers do no I/O: they return these, and the core carries them out in one transaction.

`Send` a message · `Broadcast` it to many · `Note` something on the timeline · `Emit` another event · `Later` an event ·
`Cancel` it · `Save` a row of the plugin's own table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import SQLModel

from crmkit.core.broadcast import Audience
from crmkit.core.events import Event
from crmkit.core.records import Address


class Action:
    """Base of all actions."""


@dataclass(frozen=True, slots=True)
class Staff:
    """Persons of the shop: a team, or one by name."""

    target: str


def staff(target: str) -> Staff:
    """Address a message to staff: a team's name, or a person's (`[[staff]]` in crmkit.toml)."""
    return Staff(target)


@dataclass(frozen=True, slots=True)
class Send(Action):
    """Send a message from a template.

    Attributes:
        template: the template's name, `order-shipped`.
        via: channels by preference; the first with an address, permission and a gateway is taken. One `Send` is one
            message (to staff: one for each person).
        to: `staff(...)`; in answer to `contact-left` the address that was left (`event.contact.address`), without a
            `key` and not combined; the event's customer where None.
        key: what makes this message one of a kind for its recipient. Default: the interaction; a key of your own holds
            for ever, once a message of that key left or may still leave.
        context: further variables for the template.
        not_before: hold it back until then.
        combine: wait so long for others like it (same template, recipient and order) and send them as one: its template
            finds what they are about in `parcels`, `refunds` and `reviews`, and in `count` how many they are.
    """

    template: str
    via: Sequence[str] = ("sms", "email")
    to: Staff | Address | None = None
    key: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None
    combine: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Broadcast(Action):
    """Send a message to everybody of an audience, frozen at this moment: each customer once, each address once.

    Members are decided one by one like any other interaction: consent, caps and policies hold for each.

    Attributes:
        audience: whom it is for.
        template, via, context, not_before: as of `Send`.
        key: what makes this broadcast one of a kind, for ever: asked for again, it is not repeated. Default: the
            interaction and the template.
        hold_out: this share of those who would be told is not, by chance but always the same ones (0.1: one in ten).
    """

    audience: Audience
    template: str
    via: Sequence[str] = ("sms", "email")
    key: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None
    hold_out: float = 0.0


@dataclass(frozen=True, slots=True)
class Note(Action):
    """Put a remark on the customer's timeline."""

    text: str


@dataclass(frozen=True, slots=True)
class Emit(Action):
    """Tell another event, dated as its cause. With a `key`, only the first of that key ever happens.

    The event's customer, order and shop are its cause's unless it names its own.
    """

    event: Event
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Later(Action):
    """Tell an event at a later time. One timer for each plugin and key; asking again moves it.

    The key is, if not given, the event's type and what it is about (its order, else its customer).
    """

    event: Event
    at: datetime
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel(Action):
    """Remove a timer: by the key it was set with, or by an event type whose default key is meant."""

    key: str | type[Event]


@dataclass(frozen=True, slots=True)
class Save(Action):
    """Write a row of the plugin's own table: inserted, or updated where its primary key is known."""

    row: SQLModel
