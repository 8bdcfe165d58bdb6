"""Where a process can be made to kill or freeze itself. The product knows nothing of this: its functions are wrapped.

Every transaction has three places: it began, it is about to be committed, it is committed; the work within has some of
its own, and so has a message on its way: not begun, written, answered. `NAMED` says which of them are a point of the
promise's own words: claim, mark, send, receipt, commit, ingest, decide.
"""

import functools
import inspect
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from mmap import mmap
from typing import Any

import aiohttp

import crmkit.engine.local
import crmkit.flow.deliver
import crmkit_email.connection
import crmkit_email.smtp
import crmkit_marketplace.files.orders
import crmkit_marketplace.files.run
from crashkit.gateways import GATEWAYS, PlainGateway
from crmkit.store import accounts, inbox, log, migrate, orders, outbox
from crmkit.store.engine import Store

WITHIN = [
    (accounts, "move_cursor"),
    (accounts, "quarantine"),
    (inbox, "keep"),
    (inbox, "settle"),
    (log, "append"),
    (log, "done"),
    (log, "fire_timers"),
    (log, "set_timers"),
    (orders, "write"),
    (outbox, "add"),
    (outbox, "add_receipts"),
    (outbox, "begin_look_ups"),
    (outbox, "claim"),
    (outbox, "mark"),
    (outbox, "move"),
    (outbox, "record"),
    (migrate, "_run"),
]


def _whole(*steps: str) -> set[str]:
    return {f"{step} {when}" for step in steps for when in ("begun", "uncommitted", "committed")}


def _around(*functions: str) -> set[str]:
    return {f"{when} {function}" for function in functions for when in ("before", "after")}


#: Within `send`: nothing written yet; on the wire; the vendor took it and we have not read its answer; answered.
SENDING = ("not begun", "written", "answered", "handed over")
_SMTP = ("not begun", "written", "handed over")
NAMED: dict[str, frozenset[str]] = {
    "claim": frozenset(_whole("claim") | _around("outbox.claim")),
    "mark": frozenset(_whole("mark") | _around("outbox.mark")),
    "send": frozenset(
        {f"{kind}: {where}" for kind in GATEWAYS for where in SENDING} | {f"smtp: {where}" for where in _SMTP}
    ),
    "receipt": frozenset(
        _whole("record", "keep", "inbox.take", "look_up.begin", "look_up.record")
        | _around("outbox.record", "inbox.keep", "inbox.settle", "outbox.add_receipts", "outbox.move")
        | _around("outbox.begin_look_ups")
    ),
    "ingest": frozenset(_whole("ingest") | _around("accounts.move_cursor", "accounts.quarantine", "orders.write")),
    "decide": frozenset(_whole("decide") | _around("log.done", "log.fire_timers", "log.set_timers", "outbox.add")),
}
#: Asking a vendor what became of a message: passed only where a process was killed before.
LOOKING_UP = ("look_up.begin uncommitted", "look_up.begin committed", "asked", "look_up.record uncommitted")


def named(places: Iterable[str]) -> dict[str, list[str]]:
    """Places by the name of their point; `commit` is each transaction just before and just after."""
    found = {name: sorted(within & set(places)) for name, within in NAMED.items()}
    found["commit"] = sorted(place for place in places if place.endswith(("uncommitted", " committed")))
    return found


_by: ContextVar[str | None] = ContextVar("crashkit_by", default=None)


class Points:
    """Counts the places passed, notes the last one where the parent can see it, and dies at the one chosen.

    Args:
        note: shared memory for the name of the last place.
        fatal: the place to die at.
        times: at which passing of it, from 1.
        freezes: whether it stops there instead, until it is continued.
    """

    def __init__(self, note: mmap, fatal: str | None, times: int, freezes: bool = False) -> None:
        self.note, self.fatal, self.times = note, fatal, times
        self.signal = signal.SIGSTOP if freezes else signal.SIGKILL
        self.passed: Counter[str] = Counter()

    def at(self, place: str) -> None:
        self.passed[place] += 1
        self.note[:64] = place.encode().ljust(64)
        if place == self.fatal and self.passed[place] == self.times:
            signal.pthread_kill(threading.get_ident(), self.signal)  # this thread goes no step further

    def install(self) -> None:
        """Wrap the product's functions, and make its batches small, so that there are many places."""
        crmkit.engine.local.DECIDE = crmkit.engine.local.SMALLEST = 8
        crmkit.flow.deliver.CLAIM, crmkit.flow.deliver.RECORD = 6, 3
        crmkit_marketplace.files.run.PAGE = crmkit_marketplace.files.orders.PAGE = 7
        self._transactions()
        for module, name in WITHIN:
            what = f"{module.__name__.split('.')[-1]}.{name}"
            setattr(module, name, self.around(getattr(module, name), f"before {what}", f"after {what}"))
        self._sending()

    def _sending(self) -> None:
        smtp, connection = crmkit_email.smtp.SmtpGateway, crmkit_email.connection.Connection
        smtp.deliver = self.by(smtp.deliver)  # type: ignore[method-assign]
        PlainGateway.deliver = self.by(PlainGateway.deliver)  # type: ignore[method-assign]
        connection._write = self.on_the_way(connection._write, "written")  # type: ignore[method-assign]
        request, response = aiohttp.ClientRequest, aiohttp.ClientResponse
        request.write_bytes = self.on_the_way(request.write_bytes, "written")  # type: ignore[method-assign]
        response.start = self.on_the_way(response.start, "answered", "asked")  # type: ignore[method-assign]

    def by(self, deliver: Callable[..., Any]) -> Callable[..., Any]:
        """A gateway's `deliver`, with a place before and after; what it calls knows whose it is."""

        @functools.wraps(deliver)
        async def wrapped(gateway: Any, *args: Any) -> Any:
            token = _by.set(gateway.name)
            try:
                self.at(f"{gateway.name}: not begun")
                result = await deliver(gateway, *args)
                self.at(f"{gateway.name}: handed over")
                return result
            finally:
                _by.reset(token)

        return wrapped

    def on_the_way(self, function: Callable[..., Any], where: str, otherwise: str = "") -> Callable[..., Any]:
        """A function with a place after it, named for the gateway that delivers; `otherwise` where none does."""

        def passed() -> None:
            if (by := _by.get()) is not None:
                self.at(f"{by}: {where}")
            elif otherwise:
                self.at(otherwise)

        return _then(function, passed)

    def around(self, function: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
        """A function with a place before and a place after."""
        then = _then(function, lambda: self.at(after))

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.at(before)
            return then(*args, **kwargs)

        return wrapped

    def _transactions(self) -> None:
        whole = Store._in_transaction

        def in_transaction(store: Store, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            name = step.__name__
            if name.startswith("_"):  # a module's own: other modules may have one of that name
                name = f"{step.__module__.split('.')[-1]}.{name.strip('_')}"

            def watched(*args: Any, **kwargs: Any) -> Any:
                self.at(f"{name} begun")
                result = step(*args, **kwargs)
                self.at(f"{name} uncommitted")
                return result

            result = whole(store, watched, args, kwargs)
            self.at(f"{name} committed")
            return result

        Store._in_transaction = in_transaction  # type: ignore[method-assign, assignment]


def _then(function: Callable[..., Any], passed: Callable[[], None]) -> Callable[..., Any]:
    """A function after which `passed` is called."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapped_async(*args: Any, **kwargs: Any) -> Any:
            result = await function(*args, **kwargs)
            passed()
            return result

        return wrapped_async

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        passed()
        return result

    return wrapped
