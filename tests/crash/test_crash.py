"""Processes are killed with `kill -9` in the middle of sync and dispatch; afterwards everything is there, once.

A small shop has two days: sync and dispatch, the exports grow, sync and dispatch again. One run of them is left alone:
it is the reference, and its database after each step is kept. A round begins at one of these steps. Its process is
killed, at a point chosen among those the reference passed or at a random time, every third round twice; then the step
is run again until it is done, with the clock past every lease, and after a sync the dispatch that follows. What is then
in the database must be what the reference had, and the mail server must have each mail once.

`make crash ROUNDS=200` runs more of it; CRMKIT_CRASH_SEED=7 begins with another round.
"""

import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from crashkit import shop
from crashkit.check import check, difference

from crmkit.testing.database import PostgresServer

pytestmark = pytest.mark.crash

#: How long `make test` plays, in seconds, where it does not get through its twenty rounds sooner.
BUDGET = 40.0
PAST_LEASES = timedelta(minutes=6)
STEPS = (("sync", 0), ("dispatch", 0), ("sync", 1), ("dispatch", 1))
KINDS = ("sqlite", "postgresql")
#: Where a kill puts messages in doubt: hit more often than the rest.
ON_THE_WIRE = frozenset(
    ("mark committed", "before gateway.deliver", "after mail written", "after gateway.deliver", "record uncommitted")
)


@dataclass
class World:
    """A folder with configuration and exports, and its database."""

    folder: Path
    url: str
    ledger: Path
    database: str | None


class Game:
    """Plays rounds, and keeps what they found."""

    def __init__(self, nursery: Any, port: int, folder: Path, server: PostgresServer) -> None:
        self.nursery, self.port, self.folder, self.server = nursery, port, folder, server
        self.points: dict[int, list[tuple[str, int]]] = {}
        self.seconds: dict[tuple[int, str], float] = {}
        self.before: dict[tuple[int, str], World] = {}
        self.after: dict[tuple[int, str], dict[str, list[str]]] = {}
        self.hit: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    @contextmanager
    def world(self, name: str, kind: str, like: World | None = None) -> Iterator[World]:
        """A world of its own: with nothing in it yet, or a copy."""
        folder, sender = self.folder / name, f"{name}@crash.example"
        ledger, database = self.folder / "ledgers" / sender, None
        if kind == "sqlite":
            url = f"sqlite:///{folder / 'crm.db'}"
        else:
            database = self.server.create(like.database or "" if like is not None else "template1")
            url = self.server.url(database)
        shop.write(folder, database=url, port=self.port, sender=sender)
        if like is not None:
            shutil.copy(like.ledger, ledger)
            if kind == "sqlite" and (like.folder / "crm.db").exists():
                shutil.copy(like.folder / "crm.db", folder / "crm.db")
        try:
            yield World(folder, url, ledger, database)
        finally:
            shutil.rmtree(folder)
            if database is not None:
                self.server.drop(database)

    def reference(self, kind: str, keep: ExitStack) -> None:
        """The run that nobody interrupts: what there must be, which points there are, how long it takes."""
        world = keep.enter_context(self.world(f"reference-{kind}", kind))
        world.ledger.touch()
        for index, (step, day) in enumerate(STEPS):
            self.before[index, kind] = keep.enter_context(self.world(f"before-{index}-{kind}", kind, world))
            shop.export(world.folder, day)
            answer = self.nursery.ask(folder=str(world.folder), step=step, now=shop.DAYS[day].isoformat())
            assert answer["status"] == 0, answer
            self.seconds[index, kind] = answer["seconds"]
            self.points[index] = sorted(answer["passed"].items())
            if step == "dispatch":
                self.after[index, kind], counts = check(world.url, world.ledger)
                assert counts["sent"] > 10
                assert counts["doubt"] == 0

    def round(self, number: int) -> None:
        """One round: the same number is the same round, but for the timing of random kills."""
        dice = random.Random(number)
        kind, victim = KINDS[number % 2], dice.randrange(len(STEPS))
        kills = [self._kill(dice, victim, kind)]
        if number % 3 == 0:  # the second kill early in the rest
            kills.insert(0, self._kill(dice, victim, kind, share=0.1))
        with self.world(f"round-{number}", kind, self.before[victim, kind]) as world:
            self._run(world, victim, kills)
            if STEPS[victim][0] == "sync":
                victim += 1
                self._run(world, victim, [])
            dump, counts = check(world.url, world.ledger)
            wrong = difference(self.after[victim, kind], dump)
            assert not wrong, f"not what the uninterrupted run left:\n{wrong}"
        self.counts.update(counts)

    def _kill(self, dice: random.Random, victim: int, kind: str, share: float = 1.0) -> dict[str, Any]:
        """At a point or at a random time, in the first `share` of the step."""
        if dice.random() < 0.3:
            return {"after": share * dice.uniform(0.0, self.seconds[victim, kind])}
        points = [found for found in self.points[victim] if found[0] in ON_THE_WIRE] if dice.random() < 0.4 else []
        point, times = dice.choice(points or self.points[victim])
        return {"point": point, "times": dice.randint(1, max(1, int(times * share)))}

    def _run(self, world: World, index: int, kills: list[dict[str, Any]]) -> None:
        """Run a step until it is done, killed as often as `kills` says."""
        step, day = STEPS[index]
        shop.export(world.folder, day)
        for tries in range(10):
            now = shop.DAYS[day] + tries * PAST_LEASES
            kill = kills.pop() if kills else {}
            answer = self.nursery.ask(folder=str(world.folder), step=step, now=now.isoformat(), **kill)
            if answer["status"] == 0:
                if kill:
                    self.hit[f"{step}: done before it was hit"] += 1
                if not kills:
                    return
                continue
            assert answer["status"] == -9, f"{step} ended with {answer} (its error is above)"
            self.hit[f"{step}: {'' if 'point' in kill else 'some time later than '}{answer['last']}"] += 1
        raise AssertionError(f"{step} is not done after ten runs")

    def report(self, rounds: int) -> str:
        """Where it hit, and how it ended."""
        lines = [f"{count:5} {'#' * min(count, 10):10} {where}" for where, count in sorted(self.hit.items())]
        end = f"lost {self.counts['lost']}, doubled {self.counts['doubled']}, in doubt {self.counts['doubt']}"
        taken = f"{self.counts['sent']} mails sent; of those in doubt {self.counts['taken']} had been taken"
        return "\n".join(["", *lines, taken, f"rounds {rounds}, {end}"])


def test_killed_anywhere_nothing_is_lost_and_nothing_doubled(
    nursery: Any, port: int, fast: Path, postgres_server: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = os.environ.get("CRMKIT_CRASH_ROUNDS")
    first = int(os.environ.get("CRMKIT_CRASH_SEED", "0"))
    game, began, played = Game(nursery, port, fast, postgres_server), time.monotonic(), 0
    with ExitStack() as keep:
        for kind in KINDS:
            game.reference(kind, keep)
        for index in (1, 3):
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
    assert sum(game.hit.values()) >= played
