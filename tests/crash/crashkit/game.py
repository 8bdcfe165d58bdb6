"""Rounds of kills. A small shop has two days: sync and dispatch, vendors call with receipts and replies, dispatch; the
exports grow, sync and dispatch again.

One run of these steps is left alone: it is the reference, and its database before each step is kept. A round begins at
one of the steps. Its process is killed, at a place of a point's choosing among those the reference passed, or at a
random time; every third round twice. Then the step is run again until it is done, with the clock past every lease, and
what follows up to the next dispatch. What is then in the database must be what the reference had, and every vendor's
ledger must bear it out.

In some rounds a second process works at the same time and is not killed. Their clocks run, and everything is due at
once; they are held against a run of that kind.
"""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from crashkit import shop, vendors
from crashkit.check import MAIL, Dump, Found, Offered, check, difference, size
from crashkit.gateways import GATEWAYS, webhook
from crashkit.points import LOOKING_UP, named
from crmkit.testing.copy import take_on
from crmkit.testing.database import PostgresServer
from crmkit.testing.ledger import Ledger

#: Past every lease, and what it takes until a vendor may be asked.
PAST_LEASES = timedelta(minutes=8)
KINDS = ("sqlite", "postgresql")
TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
#: The points every one of which is hit: a round in ten for each, and the rest at random times.
NAMES = ("claim", "mark", "send", "receipt", "commit", "ingest", "decide")
#: How many rounds of dispatch, or of webhooks, are played by two processes.
SHARED = 0.3
Kill = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What a process is run for."""

    name: str
    day: int
    now: datetime


_DAY, _NEXT = shop.DAYS
STEPS = (
    Step("sync", 0, _DAY),
    Step("dispatch", 0, _DAY),
    Step("accept", 0, _DAY + timedelta(minutes=20)),
    Step("dispatch", 0, _DAY + timedelta(minutes=40)),
    Step("sync", 1, _NEXT),
    Step("dispatch", 1, _NEXT),
)
#: What customers answer: {gateway: (buyer, text)}.
REPLIES = {"plain": ((0, "thanks"), (1, "STOP")), "asking": ((2, "thanks"), (0, "when?"))}


@dataclass
class World:
    """A folder with configuration, exports and the vendors' ledgers, and its database."""

    folder: Path
    url: str
    ledgers: dict[str, Ledger]
    database: str | None
    offered: Offered = field(default_factory=Offered)

    def calls(self, at: datetime, replies: bool) -> list[dict[str, Any]]:
        """What vendors have to say: the last first, and every receipt twice, in other company."""
        calls = []
        for kind in GATEWAYS:
            receipts = [
                {"id": f"r{number}", "key": entry.key, "vendor_id": entry.vendor_id, "state": "delivered"}
                for number, entry in enumerate(self.ledgers[kind].entries("accepted"), start=1)
            ][::-1]
            for several in (4, 5):
                calls += [webhook(kind, at, receipts[i : i + several]) for i in range(0, len(receipts), several)]
            if replies:
                for number, (buyer, text) in enumerate(REPLIES.get(kind, ())):
                    reply = {"id": f"i{number}", "from": f"buyer{buyer}@buyers.example", "text": text}
                    calls.append(webhook(kind, at, replies=[reply]))
        return calls

    def answered(self, calls: Sequence[dict[str, Any]]) -> None:
        """These webhooks were answered: what they say must not be lost any more."""
        for call in calls:
            told = json.loads(call["body"])
            self.offered.receipts |= {(call["account"], one["id"]) for one in told["receipts"]}
            self.offered.replies |= {(call["account"], one["id"]) for one in told["replies"]}


class Missed(Exception):
    """A process was done before it came to the place where it was to die."""


class Game:
    """Plays rounds, and keeps what they found.

    Args:
        nursery, vendors: the helper processes.
        port: of the mail server.
        folder: for worlds; the mail server's ledgers are in `ledgers` in it.
        server: makes PostgreSQL databases.
    """

    def __init__(self, nursery: Any, vendors: Any, port: int, folder: Path, server: PostgresServer) -> None:
        self.nursery, self.vendors, self.port, self.folder, self.server = nursery, vendors, port, folder, server
        self.passed: dict[int, dict[str, int]] = {}
        self.seconds: dict[tuple[int, str], float] = {}
        self.before: dict[tuple[int, str], World] = {}
        self.after: dict[tuple[int, str], Dump] = {}
        self.shop = 0
        self._at_once: dict[tuple[int, str], Dump] = {}
        self.hit: Counter[tuple[str, str]] = Counter()
        self.counts: Counter[str] = Counter()

    # worlds

    @contextmanager
    def world(self, name: str, kind: str, like: World | None = None, *, is_kept: bool = False) -> Iterator[World]:
        """A world of its own: with nothing in it yet, or a copy; `is_kept`: nothing happens in it."""
        folder, sender = self.folder / name, f"{name}@crash.example"
        folder.mkdir()
        ledgers = {kind: Ledger(vendors.ledger(folder, kind)) for kind in GATEWAYS}
        ledgers[MAIL] = Ledger(self.folder / "ledgers" / sender)
        database = None
        if kind == "sqlite":
            url = f"sqlite:///{folder / 'crm.db'}"
        else:
            database = self.server.create(like.database or "" if like is not None else "template1")
            url = self.server.url(database)
        world = World(folder, url, ledgers, database)
        if like is not None:
            world.offered = deepcopy(like.offered)
            pairs = [(like.ledgers[entry].path, ledger.path) for entry, ledger in ledgers.items()]
            for old, new in [*pairs, (like.folder / "crm.db", folder / "crm.db")]:
                if old.exists():
                    shutil.copy(old, new)
            if database is not None or (folder / "crm.db").exists():
                take_on(url)  # a copy would only plan
        try:
            if is_kept:
                yield world
                return
            urls = self.vendors.ask(open=str(folder))
            try:
                shop.write(folder, database=url, port=self.port, sender=sender, vendors=urls)
                yield world
            finally:
                self.vendors.ask(close=str(folder))
        finally:
            shutil.rmtree(folder)
            ledgers[MAIL].path.unlink(missing_ok=True)
            if database is not None:
                self.server.drop(database)

    def reference(self, kind: str, keep: ExitStack) -> None:
        """The run that nobody interrupts: what there must be, which places there are, how long it takes."""
        with self.world(f"reference-{kind}", kind) as world:
            for index, step in enumerate(STEPS):
                kept = self.world(f"before-{index}-{kind}", kind, world, is_kept=True)
                self.before[index, kind] = keep.enter_context(kept)
                answer = self.run(world, index, [])
                self.passed[index] = answer["passed"]
                if step.name == "dispatch":
                    found = check(world.url, world.ledgers, world.offered)
                    assert not found.wrong, "\n".join(found.wrong)
                    assert not found.counts["doubt"]
                    self.after[index, kind] = found.dump
                    self.shop = found.shop
            assert min(found.counts[f"left by {name}"] for name in world.ledgers) > 3, found.counts

    def at_once(self, index: int, kind: str) -> Dump:
        """What a dispatch leaves that nobody interrupts, and whose clock runs."""
        if (index, kind) not in self._at_once:
            with self.world(f"at-once-{index}-{kind}", kind, self.before[index, kind]) as world:
                self.run(world, index, [], flows=True)
                found = check(world.url, world.ledgers, world.offered)
                assert not found.wrong, "\n".join(found.wrong)
                self._at_once[index, kind] = found.at_once
        return self._at_once[index, kind]

    # rounds

    def round(self, number: int, kind: str) -> None:
        """One round: the same number is the same round, but for the timing of random kills."""
        dice = random.Random(f"{number} {kind}")
        name = NAMES[number % 10] if number % 10 < len(NAMES) else "random"
        victim, kill = self._random(dice, kind) if name == "random" else self._aimed(dice, name)
        kills = [kill]
        if number % 3 == 0:
            kills.insert(0, self._second(dice, victim, kill))
        is_shared = STEPS[victim].name != "sync" and dice.random() < SHARED
        is_early = STEPS[victim].name == "dispatch" and dice.random() < 0.5
        try:
            found = self._play(f"round-{number}", kind, victim, kills, is_shared=is_shared, is_early=is_early)
        except Missed:  # the work was shared out otherwise this time; the first passing is always there
            sooner = {**kill, "times": 1} if "place" in kill else {**kill, "after": kill["after"] / 4}
            try:
                found = self._play(f"round-{number}", kind, victim, [sooner], is_early=is_early)
            except Missed:  # by the clock of a busy machine a time may pass unseen; what is named is counted at the end
                self.hit[name, "(done before it was hit)"] += 1
                found = self._play(f"round-{number}", kind, victim, [], is_early=is_early)
        self.counts.update(found.counts)

    def _aimed(self, dice: random.Random, name: str) -> tuple[int, Kill]:
        """A step, and a place in it that the reference passed and that is of this name."""
        of_step = {index: named(passed)[name] for index, passed in self.passed.items()}
        place = dice.choice(sorted({place for places in of_step.values() for place in places}))
        victim = dice.choice([index for index, places in of_step.items() if place in places])
        return victim, {"name": name, "place": place, "times": dice.randint(1, self.passed[victim][place])}

    def _random(self, dice: random.Random, kind: str) -> tuple[int, Kill]:
        victim = dice.randrange(len(STEPS))
        return victim, {"name": "random", "after": dice.uniform(0.0, 0.8 * self.seconds[victim, kind])}

    def _second(self, dice: random.Random, victim: int, first: Kill) -> Kill:
        """Killed again: as a vendor is asked what became of a message, or early in the rest."""
        if first.get("place", "").startswith("asking: ") and dice.random() < 0.7:
            return {"name": "again", "place": dice.choice(LOOKING_UP), "times": 1}
        place, times = dice.choice(sorted(self.passed[victim].items()))
        return {"name": "again", "place": place, "times": dice.randint(1, max(1, times // 10))}

    def _play(
        self, name: str, kind: str, victim: int, kills: list[Kill], *, is_shared: bool = False, is_early: bool = False
    ) -> Found:
        flows = is_shared and STEPS[victim].name == "dispatch"
        with self.world(name, kind, self.before[victim, kind]) as world:
            self.run(world, victim, kills, flows=flows, is_shared=is_shared, is_early=is_early)
            last = victim
            while STEPS[last].name != "dispatch":
                last += 1
                self.run(world, last, [])
            found = check(world.url, world.ledgers, world.offered)
        wrong = "\n".join(found.wrong)
        expected, dump = self.after[last, kind], found.dump
        if flows:
            expected, dump = self.at_once(victim, kind), found.at_once
        if found.shop == self.shop:
            wrong += difference(expected, dump)
        elif size(expected) != size(dump):
            wrong += f"not as much of each: {size(dump)} instead of {size(expected)}"
        if wrong:
            self.counts.update(found.counts)
            raise AssertionError(f"not what the uninterrupted run left:\n{wrong}")
        return found

    def run(
        self,
        world: World,
        index: int,
        kills: list[Kill],
        *,
        flows: bool = False,
        is_shared: bool = False,
        is_early: bool = False,
    ) -> dict[str, Any]:
        """Run a step until it is done, killed as often as `kills` says. Returns what the last run answered.

        Args:
            flows: with a clock that runs.
            is_shared: a second process is at work at first.
            is_early: after a kill vendors call before anything else happens.
        """
        step, kind, is_first = STEPS[index], "sqlite" if world.database is None else "postgresql", True
        shop.export(world.folder, step.day)
        calls = world.calls(step.now, replies=True) if step.name == "accept" else []
        for tries in range(10):
            order = self._order(world, step, step.now + tries * PAST_LEASES, flows)
            if is_shared and tries == 0:
                other = step if step.name == "dispatch" else STEPS[index + 1]
                order["beside"] = self._order(world, other, other.now, flows)
            kill = kills.pop() if kills else {}
            answer = self.nursery.ask(**order, calls=calls, **kill)
            self.vendors.ask(settle=str(world.folder))
            if "beside" in answer:
                assert answer["beside"]["status"] == 0, f"{step.name} beside ended with {answer} (its error is above)"
            world.answered(calls[: answer["answered"]])
            calls = calls[answer["answered"] :]
            if answer["status"] == 0:
                self.seconds[index, kind] = min(answer["seconds"], self.seconds.get((index, kind), 999.0))
                if kill and is_first:
                    raise Missed
                if kill:
                    self.hit[kill["name"], "(done before it was hit)"] += 1
                if not kills:
                    return dict(answer)
            else:
                assert answer["status"] == -9, f"{step.name} ended with {answer} (its error is above)"
                beside = " (two at work)" if "beside" in answer else ""
                self.hit[kill["name"], f"{step.name}: {answer['last']}{beside}"] += 1
                self.counts["killed at a place" if "place" in kill else "killed at random"] += 1
                if is_early:
                    self._call_early(world, step.now)
            is_first = False
        raise AssertionError(f"{step.name} is not done after ten runs")

    def _order(self, world: World, step: Step, now: datetime, flows: bool) -> dict[str, Any]:
        order = {"folder": str(world.folder), "step": step.name, "now": now.isoformat()}
        return {**order, "flows": True, "began": time.time()} if flows else order

    def _call_early(self, world: World, at: datetime) -> None:
        """Vendors tell what they delivered, whatever the sender knows of it."""
        calls = world.calls(at, replies=False)
        order = {"folder": str(world.folder), "step": "accept", "now": at.isoformat(), "calls": calls}
        answer = self.nursery.ask(**order)
        assert answer["status"] == 0, f"accept ended with {answer} (its error is above)"
        world.answered(calls)

    # what came of it

    def named_hits(self) -> Counter[str]:
        """How often a process died at each named point."""
        hits: Counter[str] = Counter()
        for (name, place), times in self.hit.items():
            hits[name] += 0 if place.startswith("(") else times
        return hits

    def report(self) -> str:
        """Where it hit, and how it ended."""
        lines = []
        for name, total in sorted(self.named_hits().items()):
            lines.append(f"{total:5} {'#' * total} {name}")
            places = [(place, times) for (of, place), times in sorted(self.hit.items()) if of == name]
            lines += [f"      {times:5} {place}" for place, times in places]
        counts = self.counts
        by = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()) if name.startswith("left by "))
        told = f"{counts['left']} messages left ({by}); of those in doubt {counts['taken']} had been taken"
        return "\n".join(["", *lines, told])
