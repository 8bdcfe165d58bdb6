"""The extension surface on one screen: the hooks, and what they yield.

Hooks register typed things, and the core calls each thing itself: when one implementation of a bare hook raises,
the others would not be called. So no business event is ever a hook call.

```python
from crmkit import hookimpl, on, OrderShipped, Send

@on(OrderShipped)
def tell_buyer(event, crm):
    yield Send("order-shipped", via=("sms", "email"))

@hookimpl
def crmkit_handlers():
    yield tell_buyer
```
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pluggy
from pydantic import BaseModel, ConfigDict
from sqlmodel import SQLModel

from crmkit.core.actions import Action, Send
from crmkit.core.broadcast import customer_column
from crmkit.core.errors import PluginError
from crmkit.core.events import Event, ScheduleDue
from crmkit.core.message import Reason
from crmkit.core.schedule import Schedule
from crmkit.core.survey import Survey
from crmkit.core.trouble import Trouble

if TYPE_CHECKING:
    import click

GROUP = "crmkit"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

E = TypeVar("E", bound=Event)


class Crm(Protocol):
    """What handlers and policies may read. It never writes: ask for actions instead.

    Attributes:
        now: the run's clock. Nothing else tells the time.
        settings: the plugin's own section of crmkit.toml.
    """

    now: datetime
    settings: Any

    def select(self, table: type[SQLModel], **where: Any) -> list[Any]:
        """Rows of one of the plugin's own tables whose columns equal `where`."""
        ...

    def troubles(
        self, since: datetime, until: datetime | None = None, *, grace: timedelta = timedelta(0), worst: int = 3
    ) -> list[Trouble]:
        """What staff may want to look at: late orders, messages held, in doubt, bounced, failed, who is silent.

        Args:
            since, until: what came between them is fresh; until now where None.
            grace: an order is late so long after it was promised.
            worst: how many of each kind are named.
        """
        ...


class PluginSettings(BaseModel):
    """Base of a playbook's settings: its section of crmkit.toml. Secrets are `SecretStr`."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Handler:
    """A plugin's function for one event type; still callable as the function it wraps.

    `load` names tables of the plugin's own whose rows of the event's customers it will select; `schedule` says when a
    function for `ScheduleDue` is due.
    """

    event: type[Event]
    function: Callable[[Any, Any], Iterable[Action] | None]
    load: tuple[type[SQLModel], ...] = ()
    schedule: Schedule | None = None

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", repr(self.function))

    @property
    def mark(self) -> str:
        """What it is marked with: `@on(OrderPaid)`, `@every(1d at 09:00)`."""
        if self.schedule is None:
            return f"@on({getattr(self.event, '__name__', self.event)})"
        return f"@every({str(self.schedule).removeprefix('every ')})"

    def __call__(self, event: Any, crm: Any) -> Iterable[Action] | None:
        """Call the function."""
        return self.function(event, crm)


def on(
    event: type[E], *, load: Iterable[type[SQLModel]] = ()
) -> Callable[[Callable[[E, Any], Iterable[Action] | None]], Handler]:
    """Make a function the handler of an event type. Yield it from `crmkit_handlers`, or it is never called.

    Args:
        event: the event's class.
        load: tables of the plugin's own, each with its column of customers' numbers named in `__customer__`. Their rows
            of a whole batch's customers are read by one statement, and `crm.select(Table, <that column>=...)` finds
            them there.

    Raises:
        PluginError: a table of `load` names no such column, or the event is what `@every` is for.
    """
    tables = tuple(load)
    for table in tables:
        if customer_column(table) not in table.model_fields:
            raise PluginError(
                f"load={table.__name__}, which names no column of customers",
                who=table.__module__,
                operation=f"on {event.__name__}",
                do='write __customer__ = "profile_id" into its model',
            )

    def mark(function: Callable[[E, Any], Iterable[Action] | None]) -> Handler:
        if event is ScheduleDue:
            what, do = "@on(ScheduleDue) says not when", 'write @every("1d", at="09:00")'
            raise PluginError(what, who=_place(function), operation="on", do=do)
        return Handler(event, function, tables)

    return mark


def every(
    interval: str | timedelta, *, at: str | None = None, on: str | None = None
) -> Callable[[Callable[[ScheduleDue, Any], Iterable[Action] | None]], Handler]:
    """Make a function one that is called again and again. Yield it from `crmkit_handlers`, or it never is.

    It is due once in each slot, however many processes run, for the first time in the slot after it was first seen.
    After a time when nothing ran it is due once, for the last slot that passed.

    Args:
        interval: how often, from a minute on: `15m`, `6h`, `1d`, `2w`. Whole days and weeks go by the calendar of
            `[crm] timezone`; anything else is counted in elapsed time from midnight UTC.
        at: the local time, `09:00`; for whole days, midnight by default.
        on: the day of the week, `monday`; for whole weeks, Monday by default.

    Raises:
        PluginError: one of these is not right, or the function has no name to be known by.
    """
    if callable(interval):
        raise _unscheduled(interval, "@every says not how often", 'write it like @every("1d", at="09:00")')

    def mark(function: Callable[[ScheduleDue, Any], Iterable[Action] | None]) -> Handler:
        try:
            schedule = Schedule.of(interval, at, on)
        except ValueError as error:
            what, _, do = str(error).partition("; ")
            raise _unscheduled(function, what, do) from error
        if not str(getattr(function, "__name__", "")).isidentifier():
            raise _unscheduled(function, f"{function!r} has no name to be known by", "write it with def")
        return Handler(ScheduleDue, function, schedule=schedule)

    return mark


def _unscheduled(function: Any, what: str, do: str) -> PluginError:
    return PluginError(what, who=_place(function), operation="every", do=do)


def _place(function: Any) -> str:
    """A plugin's function, by its module and name."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}".lstrip(".")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy says of a send: suppress or hold it for a reason, or defer it until a time."""

    action: str
    reason: Reason
    until: datetime | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message about to be decided, as policies are shown it.

    Attributes:
        send, event: what was asked for, and because of what.
        template, purpose: what it says, and whether that is `transactional` or `marketing`.
        channel, address_kind, address: where it would go.
        staff: the person of the staff it is for; None for customers.
        leaves_at: when it would leave.
    """

    send: Send
    event: Event
    template: str
    purpose: str
    channel: str
    address_kind: str | None
    address: str | None
    staff: str | None
    leaves_at: datetime


@dataclass(frozen=True, slots=True)
class Policy:
    """A plugin's rule on what may be sent: `check(outgoing, crm)` gives a `Verdict`, or None to let it pass."""

    name: str
    check: Callable[[Outgoing, Any], Verdict | None]


@dataclass(frozen=True, slots=True)
class Tables:
    """A plugin's own tables: their models, and the folder of their Alembic migrations."""

    models: tuple[type[SQLModel], ...]
    migrations: str


@dataclass(frozen=True, slots=True)
class Routes:
    """Web pages of a plugin's own, served under `/<plugin>/`.

    Attributes:
        router: a FastAPI router, or its dotted name, which is imported when pages are served.
        scope: what a token must allow, `<plugin>:<scope>`.
        is_public: anyone may call these; the plugin looks after who does.
        largest_body: bytes of what is sent to them; more is answered 413.
    """

    router: Any
    scope: str = "read"
    is_public: bool = False
    largest_body: int = 1024 * 1024


@hookspec
def crmkit_sources() -> Iterable[type]:
    """Yield `Source` classes: adapters that read shops, mailboxes, survey tools."""
    return ()


@hookspec
def crmkit_gateways() -> Iterable[type]:
    """Yield `Gateway` classes: adapters that deliver messages."""
    return ()


@hookspec
def crmkit_handlers(settings: Any) -> Iterable[Handler]:
    """Yield the handlers of this plugin. `settings` is its section of crmkit.toml; leave the argument out if unused."""
    return ()


@hookspec
def crmkit_policies(settings: Any) -> Iterable[Policy]:
    """Yield policies that may suppress, hold or defer a `Send`."""
    return ()


@hookspec
def crmkit_tables() -> Iterable[Tables]:
    """Yield the plugin's own tables with their migrations."""
    return ()


@hookspec
def crmkit_commands() -> "Iterable[click.Command | str]":
    """Yield commands for the `crmkit` program, or dotted names of them that are imported when used."""
    return ()


@hookspec
def crmkit_web(settings: Any) -> "Iterable[Routes | Survey]":
    """Yield web pages of the plugin's own, and surveys whose pages crmkit hosts."""
    return ()


__all__ = [
    "GROUP",
    "Crm",
    "Handler",
    "Outgoing",
    "PluginSettings",
    "Policy",
    "Routes",
    "Tables",
    "Verdict",
    "every",
    "hookimpl",
    "hookspec",
    "on",
]
