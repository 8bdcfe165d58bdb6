"""Processes are killed with `kill -9` in the middle of everything; afterwards it is all there, once: `crashkit.game`.

`make crash ROUNDS=200` runs more of it; CRMKIT_CRASH_SEED=7 begins with another round.
"""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from crashkit.check import difference
from crashkit.game import KINDS, NAMES, STEPS, Game

from crmkit.testing.database import PostgresServer

pytestmark = pytest.mark.crash

#: How long `make test` plays, in seconds, where it does not get through its twenty rounds sooner.
BUDGET = 40.0


# SEMANTICS 13
# SEMANTICS 22
# SEMANTICS 24
# SEMANTICS 27
def test_killed_anywhere_nothing_is_lost_and_nothing_doubled(
    nursery: Any,
    vendors: Any,
    port: int,
    fast: Path,
    postgres_server: PostgresServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = os.environ.get("CRMKIT_CRASH_ROUNDS")
    first = int(os.environ.get("CRMKIT_CRASH_SEED", "0"))
    game, began, played = Game(nursery, vendors, port, fast, postgres_server), time.monotonic(), 0
    with ExitStack() as keep:
        for kind in KINDS:
            game.reference(kind, keep)
        for index, step in enumerate(STEPS):
            if step.name == "dispatch":
                differs = difference(game.after[index, "sqlite"], game.after[index, "postgresql"])
                assert not differs, f"SQLite and PostgreSQL differ:\n{differs}"
        try:
            for number in range(first, first + int(wanted or 20)):
                if wanted is None and time.monotonic() - began > BUDGET:
                    break
                try:
                    game.round(number)
                except AssertionError as error:
                    raise AssertionError(f"round {number} (CRMKIT_CRASH_SEED={number}): {error}") from error
                played += 1
        finally:
            with capsys.disabled():
                sys.stdout.write(f"{game.report(played)}\n")
    assert played > 0
    hits = game.named_hits()
    assert not [name for name in NAMES if hits[name] < 5 * (played // 100)], f"a point was not hit often enough: {hits}"
