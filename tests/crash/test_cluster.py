"""Four workers of the distributed engine, and trouble of every kind: `crashkit.fleet`.

A part of `make crash`, of which these are a fifth as many rounds; `make test` plays one of each kind.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from crashkit.figures import Figures
from crashkit.fleet import KINDS, WORKERS, Fleet
from crashkit.game import Game
from crashkit.process import Process

from crmkit.testing.database import PostgresServer

pytestmark = pytest.mark.crash

#: How long `make test` plays, in seconds, where it does not get through its rounds sooner.
BUDGET = 20.0


@pytest.fixture(scope="module")
def yard() -> Iterator[Process]:
    process = Process("crashkit.yard")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that may be restarted: nobody else uses it."""
    server = PostgresServer()
    yield server
    server.stop()


# SEMANTICS 13
# SEMANTICS 22
# SEMANTICS 26
# SEMANTICS 27
def test_whatever_happens_to_four_workers_nothing_is_lost_doubled_or_out_of_order(
    nursery: Any,
    vendors: Any,
    yard: Any,
    port: int,
    fast: Path,
    own_server: PostgresServer,
    figures: Figures,
) -> None:
    wanted = os.environ.get("CRMKIT_CRASH_ROUNDS")
    first = int(os.environ.get("CRMKIT_CRASH_SEED", "0"))
    fleet = Fleet(Game(nursery, vendors, port, fast, own_server), yard)
    began, kinds = time.monotonic(), Counter[str]()
    rounds = len(KINDS) if wanted is None else max(len(KINDS), int(wanted) // 5)
    with fleet.base() as base:
        for number in range(first, first + rounds):
            if wanted is None and time.monotonic() - began > BUDGET:
                break
            kind = KINDS[number % len(KINDS)]
            with figures.round(f"PostgreSQL, {WORKERS} workers: {kind}", number, fleet.counts, fleet.done):
                fleet.round(number, base)
            kinds[kind] += 1
            figures.text = fleet.report()
    figures.end()
    assert figures.played > 0
    assert fleet.done["killed at a place"] >= kinds["kill"], fleet.done
    assert fleet.done["frozen at a place"] >= kinds["freeze"], fleet.done


def test_with_what_a_worker_ended_is_answered_however_often_it_is_asked(yard: Any, tmp_path: Path) -> None:
    now = datetime.now(UTC).isoformat()  # there is no configuration: it ends
    pid = yard.ask(fork=str(tmp_path), now=now, began=time.time(), lease=4.0)["pid"]
    ended = {"status": 70, "at_place": False}
    assert yard.ask(wait=pid) == ended
    assert yard.ask(reap=[pid]) == {str(pid): ended}
    assert yard.ask(wait=pid) == ended
    assert yard.ask(signal=9, pid=pid) == {}
