"""The gateways of one run, each opened when it is first needed, and closed with the run."""

import os
import secrets
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from crmkit.adapters.gateway import Gateway
from crmkit.core.errors import ConfigError, CrmkitError
from crmkit.engine.accounts import Accounts
from crmkit.flow.deliver import Delivered
from crmkit.flow.hold import Hold
from crmkit.flow.look_up import Fresh
from crmkit.flow.setup import Setup
from crmkit.flow.sync import Run, guarded


class Gateways:
    """The gateways of one run, each opened when it is first needed."""

    def __init__(self, accounts: Accounts, setup: Setup, run: Run, now: datetime) -> None:
        self.accounts, self.setup, self.run, self.now = accounts, setup, run, now
        self.opened: dict[str, Gateway] = {}
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"
        self.holds: dict[str, Hold] = {}
        self.busy: dict[str, str] = {}
        #: messages tried in a simulated run
        self.fresh: Fresh | None = None

    def usable(self, stopped: Iterable[str], strays: frozenset[str]) -> frozenset[str]:
        """Names of gateways that have not stopped, and that no other process has to itself.

        Args:
            strays: names that messages wait at; of a gateway that is configured no more they are sent on their way.
        """
        names = {entry.name for entries in self.setup.channels.values() for entry in entries}
        return frozenset(names.union(strays) - set(stopped) - set(self.busy))

    async def open(self, name: str) -> Gateway | None:
        """The gateway of this name; None if another process has it to itself."""
        if name not in self.opened:
            entry = self.setup.entry(name)
            if entry is None:
                raise ConfigError("is not configured any more", who=name, operation="open")
            if entry.adapter.exclusive and not await self._hold(name):
                return None
            gateway = self.accounts.host.gateway(entry)
            try:
                number, _ = await self.accounts.meet(entry, None, self.run, self.now)
                await self.accounts.recall(gateway, entry, number, self.run)
                await guarded(gateway.open(), who=name, operation="open")
            except BaseException:
                await gateway.http.aclose()
                raise
            self.opened[name] = gateway
        return self.opened[name]

    async def _hold(self, name: str) -> bool:
        """Take the lease on an exclusive gateway, unless another process has it."""
        hold = self.holds.setdefault(name, Hold(self.run, name, self.holder, lambda: datetime.now(UTC)))
        other = await hold.take()
        if other is not None:
            self.busy[name] = other
        return other is None

    async def close(self, done: Delivered) -> None:
        """Close all that were opened; one that cannot be closed keeps no other open, nor its lease."""
        async with AsyncExitStack() as closing:  # in reverse: every gateway, then every lease
            for hold in self.holds.values():
                closing.push_async_callback(hold.release)
            for name, gateway in self.opened.items():
                closing.push_async_callback(gateway.http.aclose)
                closing.push_async_callback(self._close, name, gateway, done)

    async def _close(self, name: str, gateway: Gateway, done: Delivered) -> None:
        try:
            await guarded(gateway.close(), who=name, operation="close")
        except CrmkitError as error:
            done.stopped.setdefault(name, error)
