"""A dry run: the code of a run, in transactions that are always rolled back."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.engine import Connection

from crmkit.core.message import State
from crmkit.flow.claim import claim
from crmkit.flow.decide import Decided, decide
from crmkit.flow.deliver import CLAIM
from crmkit.flow.setup import Setup
from crmkit.store import outbox, slices
from crmkit.store.slices import Slice

#: Interactions one decide step takes.
STEP = 500


class Rehearsing(Protocol):
    """An open database, as far as a plan needs it."""

    def rehearse(self) -> AbstractContextManager[Connection]:
        """A write transaction that is always rolled back."""

    def read(self) -> AbstractContextManager[Connection]:
        """A read transaction."""


class Setting(Protocol):
    """Gives what the steps are set up with, for the shops a database knows."""

    def __call__(self, tx: Connection) -> Setup: ...


def decided(tx: Connection, setup: Setup, now: datetime, only: Slice | None = None) -> Iterator[Decided]:
    """Decide until nothing is left, step by step."""
    while (step := decide(tx, setup, now, STEP, only=only)).interactions:
        yield step


def handed(
    tx: Connection,
    setup: Setup,
    names: frozenset[str],
    at: datetime,
    *,
    is_paced: bool,
    only: Sequence[int] | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Take off the queue what would be handed over, of these; gives those that would be, and those that are kept.

    An empty list says that others moved: to another gateway, or to another time.

    Args:
        names: gateways that are asked though none of these messages is due by them as yet.
        only: of these messages.
    """
    left = None if only is None else set(only)
    is_moving = True
    while is_moving:
        is_moving = False
        for name in sorted(names.union(outbox.gateways_due(tx, at, only))):
            while left is None or left:
                found = claim(tx, setup, name, "plan", at, CLAIM, is_paced=is_paced, is_rehearsed=True, only=only)
                is_moving = is_moving or found.moved > 0
                sent = {"state": State.SENT, "reason": None, "detail": None, "leaves_at": at}
                moved = [*found.kept, *({**row, **sent} for row in found.rows)]
                if found.rows:
                    slices.hand_over(tx, [row["id"] for row in found.rows])
                if not moved and not found.moved:
                    break
                if left is not None:
                    left.difference_update(row["id"] for row in moved)
                yield moved
