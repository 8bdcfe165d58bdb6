"""Where a process can be made to kill itself. The product knows nothing of this: its functions are wrapped here.

Every transaction has three points: it began, it is about to be committed, it is committed; the work within has some of
its own, and so has a mail on its way: not begun, written without a verdict, accepted.
"""

import functools
import inspect
import os
import signal
from collections import Counter
from collections.abc import Callable
from mmap import mmap
from typing import Any

import crmkit.engine.local
import crmkit.flow.deliver
import crmkit_email.connection
import crmkit_email.smtp
import crmkit_marketplace.files.orders
import crmkit_marketplace.files.run
from crmkit.store import accounts, log, migrate, orders, outbox
from crmkit.store.engine import Store

WITHIN = [
    (accounts, "move_cursor"),
    (accounts, "quarantine"),
    (log, "append"),
    (log, "done"),
    (log, "fire_timers"),
    (log, "set_timers"),
    (orders, "write"),
    (outbox, "add"),
    (outbox, "record"),
    (outbox, "claim"),
    (outbox, "mark"),
    (migrate, "_run"),
]


class Points:
    """Counts the points passed, notes the last one where the parent can see it, and dies at the one chosen.

    Args:
        note: shared memory for the name of the last point.
        fatal: the point to die at.
        times: at which passing of it, from 1.
    """

    def __init__(self, note: mmap, fatal: str | None, times: int) -> None:
        self.note, self.fatal, self.times = note, fatal, times
        self.passed: Counter[str] = Counter()

    def at(self, point: str) -> None:
        self.passed[point] += 1
        self.note[:64] = point.encode().ljust(64)
        if point == self.fatal and self.passed[point] == self.times:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Wrap the product's functions, and make its batches small, so that there are many points."""
        crmkit.engine.local.DECIDE = 8
        crmkit.flow.deliver.CLAIM, crmkit.flow.deliver.RECORD = 6, 3
        crmkit_marketplace.files.run.PAGE = crmkit_marketplace.files.orders.PAGE = 7
        self._transactions()
        for module, name in WITHIN:
            setattr(module, name, self.around(getattr(module, name), f"{module.__name__.split('.')[-1]}.{name}"))
        gateway, connection = crmkit_email.smtp.SmtpGateway, crmkit_email.connection.Connection
        gateway.deliver = self.around(gateway.deliver, "gateway.deliver")  # type: ignore[method-assign]
        connection._write = self.around(connection._write, "mail written")  # type: ignore[method-assign]

    def around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """A function with a point before and a point after."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped_async(*args: Any, **kwargs: Any) -> Any:
                self.at(f"before {name}")
                result = await function(*args, **kwargs)
                self.at(f"after {name}")
                return result

            return wrapped_async

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.at(f"before {name}")
            result = function(*args, **kwargs)
            self.at(f"after {name}")
            return result

        return wrapped

    def _transactions(self) -> None:
        whole = Store._in_transaction

        def in_transaction(store: Store, step: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            name = step.__name__.strip("_")

            def watched(*args: Any, **kwargs: Any) -> Any:
                self.at(f"{name} begun")
                result = step(*args, **kwargs)
                self.at(f"{name} uncommitted")
                return result

            result = whole(store, watched, args, kwargs)
            self.at(f"{name} committed")
            return result

        Store._in_transaction = in_transaction  # type: ignore[method-assign, assignment]
