"""Old things are let go, a little at a time, so that nobody waits for it: by command, and once a day under `run`."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from crmkit.host.host import Host
from crmkit.store import accounts, prune
from crmkit.store.engine import Store

#: Told as it goes on: the kind, and how much of it was let go.
Progress = Callable[[str, int], None]
#: After each batch others have the database for as long as the batch took, and so many seconds.
REST = 0.01


class Pruning:
    """Lets go what is older than `[retention]` says.

    Args:
        host: the configuration.
        store: the open database.
    """

    def __init__(self, host: Host, store: Store) -> None:
        self.host, self.store = host, store

    @property
    def keep(self) -> Mapping[str, timedelta | None]:
        """How long each kind is kept; None: for ever."""
        return {name: getattr(self.host.config.retention, name) for name in prune.NAMES}

    def survey(self, now: datetime) -> list[prune.Old]:
        """What there is of each kind, and how much of it is old."""
        with self.store.read() as tx:
            return list(prune.survey(tx, self.keep, now))

    async def run(
        self, now: datetime, *, is_asked: bool = True, progress: Progress = lambda kind, count: None
    ) -> dict[str, int] | None:
        """Let old things go.

        Args:
            is_asked: by a person; else it is done once a day, by whichever process comes first.

        Returns:
            How much of each kind; None if it was not time.
        """
        number = await self.store.run(prune.begin, now, is_asked=is_asked)
        if number is None:
            return None
        done: dict[str, int] = {}
        outcome = "interrupted"
        try:
            for kind in prune.KINDS:
                life = self.keep[kind.name]
                if life is not None:
                    done[kind.name] = await self._let_go(kind, now - life, progress)
            for tally in prune.TALLIES:
                life = self.keep[tally.name]
                if life is not None:
                    done[tally.name] = await self.store.run(prune.let_counts_go, tally, now - life)
            outcome = "done"
        finally:
            await self.store.run(accounts.end_run, number, outcome, {"let_go": done}, now)
        return done

    async def _let_go(self, kind: prune.Kind, before: datetime, progress: Progress) -> int:
        count = after = 0
        while numbers := await asyncio.to_thread(self._some, kind, before, after):
            after = numbers[-1]
            began = time.monotonic()
            count += await self.store.run(prune.let_go, kind, numbers, before)
            progress(kind.name, count)
            await asyncio.sleep(time.monotonic() - began + REST)
        return count

    def _some(self, kind: prune.Kind, before: datetime, after: int) -> list[int]:
        with self.store.read() as tx:  # to find them may take long, and holds nobody up
            return prune.some(tx, kind, before, after)
