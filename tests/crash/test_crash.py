"""Processes are killed with `kill -9` in the middle of everything; afterwards it is all there, once: `crashkit.game`.

`make crash ROUNDS=200` runs more of it; CRMKIT_CRASH_SEED=7 begins with another round.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from crashkit.check import difference
from crashkit.figures import Figures
from crashkit.game import KINDS, NAMES, STEPS, TITLES, Game

from crmkit.testing.database import PostgresServer

pytestmark = pytest.mark.crash

#: How long `make test` plays on each kind of database, in seconds, where it does not get through ten rounds sooner.
BUDGET = 12.0


class Kept:
    """A game of each kind of database, with the run that nobody interrupts."""

    def __init__(self, keep: ExitStack, *made_of: Any) -> None:
        self.keep, self.made_of, self.games = keep, made_of, dict[str, Game]()

    def game(self, kind: str) -> Game:
        if kind not in self.games:
            game = Game(*self.made_of)
            game.reference(kind, self.keep)
            self.games[kind] = game
        return self.games[kind]


@pytest.fixture(scope="module")
def kept(nursery: Any, vendors: Any, port: int, fast: Path, postgres_server: PostgresServer) -> Iterator[Kept]:
    with ExitStack() as keep:
        yield Kept(keep, nursery, vendors, port, fast, postgres_server)


def test_sqlite_and_postgresql_leave_the_same(kept: Kept) -> None:
    games = {kind: kept.game(kind) for kind in KINDS}
    for index, step in enumerate(STEPS):
        if step.name == "dispatch":
            left = [game.after[index, kind] for kind, game in games.items()]
            assert difference(*left) == ""


# SEMANTICS 13
# SEMANTICS 22
# SEMANTICS 24
# SEMANTICS 27
@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_nothing_is_lost_and_nothing_doubled(kept: Kept, kind: str, figures: Figures) -> None:
    wanted = os.environ.get("CRMKIT_CRASH_ROUNDS")
    first = int(os.environ.get("CRMKIT_CRASH_SEED", "0"))
    rounds = 10 if wanted is None else (int(wanted) + 1) // 2
    game, began = kept.game(kind), time.monotonic()
    for number in range(first, first + rounds):
        if wanted is None and time.monotonic() - began > BUDGET:
            break
        with figures.round(TITLES[kind], number, game.counts):
            game.round(number, kind)
        figures.text = game.report()
    figures.end()
    assert figures.played > 0
    hits = game.named_hits()
    few = [name for name in NAMES if hits[name] < 5 * (figures.played // 100)]
    assert not few, f"a point was not hit often enough: {hits}"
