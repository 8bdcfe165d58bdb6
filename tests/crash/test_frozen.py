"""A process that was frozen past its lease sends nothing when it wakes: what it had is another's by then.

It is frozen the first time it comes to a place, when nothing is in flight yet. What freezes in the very moment of being
written is written when it wakes: between the last look at the clock and the write nothing can stand.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from crashkit.check import Found, check
from crashkit.game import STEPS, Game, World

from crmkit.testing.database import PostgresServer

pytestmark = pytest.mark.crash

#: Of the frozen process, in seconds.
LEASE = 1.0
DISPATCH = STEPS[1]


@pytest.fixture
def game(nursery: Any, vendors: Any, port: int, fast: Path, postgres_server: PostgresServer) -> Game:
    return Game(nursery, vendors, port, fast, postgres_server)


@contextmanager
def synced(game: Game, kind: str, name: str) -> Iterator[World]:
    """A world in which everything is to be decided and sent."""
    with game.world(f"{name}-{kind}", kind) as world:
        game.run(world, 0, [])
        yield world


def requests(world: World) -> Counter[str]:
    return sum((ledger.requests() for ledger in world.ledgers.values()), Counter())


def freeze(game: Game, world: World, place: str) -> Found:
    """Freeze a dispatch past its lease, let another do all there is, and wake it."""
    began = time.time()
    order = {"folder": str(world.folder), "step": "dispatch", "flows": True, "began": began}
    now = DISPATCH.now
    frozen = game.nursery.ask(**order, now=now.isoformat(), lease=LEASE, place=place, freezes=True)
    assert frozen["status"] is None, f"it was done before it came to that place: {frozen}"
    time.sleep(LEASE + 0.1)
    for minutes in (0, 4):  # vendors are asked about what was lost once they can know of it
        other = game.nursery.ask(**order, now=(now + timedelta(minutes=minutes)).isoformat())
        assert other["status"] == 0, other
    before = requests(world)
    woken = game.nursery.ask(resume=frozen["pid"])
    assert woken["status"] == 0, woken
    game.vendors.ask(settle=str(world.folder))
    assert requests(world) == before, "it sent something when it woke"
    last = game.nursery.ask(**order, now=(now + timedelta(minutes=6)).isoformat())
    assert last["status"] == 0, last
    assert requests(world) == before, "there was something left to send"
    return check(world.url, world.ledgers, world.offered)


# SEMANTICS 22
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_process_frozen_past_its_lease_sends_nothing_when_it_wakes(game: Game, kind: str) -> None:
    with synced(game, kind, "claimed") as world:
        found = freeze(game, world, "claim committed")
    assert found.wrong == []
    assert found.counts["doubt"] == 0, "what was not marked is not in doubt"
    assert found.counts["left"] > 5


# SEMANTICS 22
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_process_frozen_after_the_mark_leaves_doubt_and_sends_nothing(game: Game, kind: str) -> None:
    with synced(game, kind, "marked") as world:
        found = freeze(game, world, "mark committed")
    assert found.wrong == []
    assert found.counts["taken"] == 0, "the doubt is about what was never sent"
