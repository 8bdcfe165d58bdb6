"""Rounds with four workers of the distributed engine on one PostgreSQL, from an empty database to the last receipt.

In each, while they sync, decide and deliver, one kind of trouble comes several times: workers are killed, at a place
of a point's choosing or at a random time, and others take their places; PostgreSQL is restarted, in good order or as if
it had crashed; a worker is frozen until its leases are over, and goes on; the server ends connections. Then it is calm,
the vendors say what they delivered, and what is there must be whole.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

import crmkit_cluster.schema
from crashkit import shop
from crashkit.check import Found, check
from crashkit.game import STEPS, Game, World
from crashkit.playbook import migrations
from crashkit.points import SENDING
from crmkit.store import migrate
from crmkit.store import tables as t
from crmkit.store.engine import Store

WORKERS = 4
#: Leases hold for so long, in seconds: longer than a machine that is busy with other things takes over a claim.
LEASE = 4.0
#: So long a round may take until it is calm, in seconds.
PATIENCE = 120.0
KINDS = ("kill", "restart", "freeze", "cut")
ORDERS = 40
#: Places a worker dies or freezes at; each is passed in every round.
PLACES = (
    "claim committed",
    "mark committed",
    "record uncommitted",
    "decide uncommitted",
    "decide committed",
    "ingest uncommitted",
    "ingest committed",
    "sweep committed",
    *(f"plain: {where}" for where in SENDING),
    *(f"deduplicating: {where}" for where in SENDING),
    *(f"asking: {where}" for where in SENDING),
    "smtp: written",
)
#: Who freezes within a transaction holds its locks, until the server ends it.
FROZEN = ("claim committed", "mark committed", "decide uncommitted", "decide committed", "record uncommitted")

#: Who is at work, what each is woken for, and how each connection stands.
_AT_WORK = (
    "SELECT name, beat_at, doing FROM crmkit_cluster.worker",
    "SELECT id, queueing_lock, status, worker_id, attempts FROM crmkit_cluster.procrastinate_jobs",
    "SELECT pid, application_name, state, wait_event, now() - state_change, query FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
)


class Fleet:
    """Plays rounds, and keeps what they found.

    Args:
        game: makes worlds; its server is restarted.
        yard: forks workers.
    """

    def __init__(self, game: Game, yard: Any) -> None:
        self.game, self.yard = game, yard
        self.done: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.longest = 0.0

    @contextmanager
    def base(self) -> Iterator[World]:
        """An empty database that is set up for workers: what rounds copy."""
        with self.game.world("fleet", "postgresql", is_kept=True) as world:
            histories = migrations(world.folder)
            migrate.upgrade(world.url, {"calls": histories})
            crmkit_cluster.schema.set_up(world.url)
            yield world

    def round(self, number: int, base: World) -> Found:
        """One round: the same number is the same trouble, but for its timing."""
        dice, kind = random.Random(number), KINDS[number % len(KINDS)]
        with self.game.world(f"fleet-{number}", "postgresql", base) as world:
            assert world.database is not None
            self.game.server.synchronous(world.database)
            self.game.server.put(world.database, "idle_in_transaction_session_timeout", f"{LEASE:.0f}s")
            shop.export(world.folder, 0, ORDERS)
            round_ = _Round(self, world, dice)
            try:
                getattr(round_, kind)()
                round_.calm()
                round_.hear_vendors()
                round_.calm()
            finally:
                round_.end()
            found = check(world.url, world.ledgers, world.offered)
            assert found.counts["left"] > 20, f"hardly anything left: {found.counts}\n{round_.said()}"
            self.counts.update(found.counts)
            assert not found.wrong, "\n".join([*found.wrong[:20], round_.said()])
            return found

    def report(self) -> str:
        """What was done to them, and how it ended."""
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.done.items()))
        return f"{WORKERS} workers, PostgreSQL: {told}; longest until calm {self.longest:.0f} s"


class _Round:
    def __init__(self, fleet: Fleet, world: World, dice: random.Random) -> None:
        self.fleet, self.world, self.dice, self.yard = fleet, world, dice, fleet.yard
        self.began = time.time()
        self.pids: list[int] = []
        self.store = Store(world.url)

    # what is done to them

    def kill(self) -> None:
        """Workers die, and others take their places; the first is alone, and comes to any place."""
        self.fork(place=self.dice.choice(PLACES))
        self.until_at_place(self.pids[0])
        self.replace()
        for _ in range(WORKERS - 2):
            aimed = self.dice.random() < 0.7
            self.fork(**({"place": self.dice.choice(PLACES), "times": self.dice.randint(1, 3)} if aimed else {}))
        self.fork()
        for _ in range(self.dice.randint(2, 4)):
            time.sleep(self.dice.uniform(0.1, 0.8))
            self.replace()
            pid = self.dice.choice(self.pids)
            self.signal(pid, signal.SIGKILL)
            was_sooner = self.yard.ask(wait=pid)["at_place"]
            self.pids.remove(pid)
            self.fleet.done["killed at a place" if was_sooner else "killed at random"] += 1
            self.fork()

    def restart(self) -> None:
        """PostgreSQL goes and comes again."""
        self.fork_all()
        self.until_at_work()
        for _ in range(self.dice.randint(1, 2)):
            self.until_begun()
            time.sleep(self.dice.uniform(0.0, 0.6))
            at_once = self.dice.random() < 0.5
            self.store.engine.dispose()
            self.fleet.game.server.restart(at_once=at_once)
            self.fleet.done["PostgreSQL crashed" if at_once else "PostgreSQL restarted"] += 1

    def freeze(self) -> None:
        """Workers stand still until their leases are over, and go on; the first is alone, and comes to any place."""
        self.fork(place=self.dice.choice(FROZEN), times=self.dice.randint(1, 2), freezes=True)
        self.until_at_place(self.pids[0])
        self.fork_all()
        self.until_at_work()
        self.until_begun()  # he may have been reading the account: then another does
        time.sleep(self.dice.uniform(0.0, 0.3))
        other = self.dice.choice(self.pids[1:])
        self.signal(other, signal.SIGSTOP)
        time.sleep(1.3 * LEASE)
        for pid in (other, self.pids[0]):
            self.signal(pid, signal.SIGCONT)
        self.fleet.done["frozen at a place"] += 1
        self.fleet.done["frozen at random"] += 1

    def cut(self) -> None:
        """The server ends connections."""
        self.fork_all()
        self.until_at_work()
        self.until_begun()
        assert self.world.database is not None
        for _ in range(self.dice.randint(2, 5)):
            time.sleep(self.dice.uniform(0.0, 0.5))
            cut = self.fleet.game.server.cut(self.world.database, self.dice.choice((0.2, 0.5, 1.0)))
            self.fleet.done["connections cut"] += cut

    def fork(self, **order: Any) -> None:
        step = STEPS[0]
        answer = self.yard.ask(
            fork=str(self.world.folder), now=step.now.isoformat(), began=self.began, lease=LEASE, **order
        )
        self.pids.append(answer["pid"])

    def fork_all(self) -> None:
        while len(self.pids) < WORKERS:
            self.fork()

    def signal(self, pid: int, number: int) -> None:
        self.yard.ask(signal=int(number), pid=pid)

    def replace(self) -> None:
        """Whoever ended has another in its place."""
        for pid, one in self.yard.ask(reap=self.pids).items():
            assert one == {"status": -9, "at_place": True}, f"a worker ended: {one}\n{self.said()}"
            self.fleet.done["killed at a place"] += 1
            self.pids.remove(int(pid))
            self.fork()

    # how it stands

    def until_at_place(self, pid: int) -> None:
        """Wait until a worker dies or stands still at its place."""
        until = time.monotonic() + PATIENCE
        while not self.yard.ask(look=pid)["at_place"]:
            assert time.monotonic() < until, f"a worker does not come to its place\n{self.said()}"
            time.sleep(0.02)

    def until_at_work(self) -> None:
        """Wait until each has its place: whoever cannot begin ends, and is begun again by whoever began it."""
        names = [f"%:{pid}" for pid in self.pids]
        self._until("SELECT count(*) FROM crmkit_cluster.worker WHERE name LIKE ANY(%s)", names, count=len(names))

    def until_begun(self) -> None:
        """Wait until something is there."""
        self._until("SELECT count(*) FROM message")

    def _until(self, counts: str, *values: Any, count: int = 1) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with self.store.read() as tx:
                if tx.exec_driver_sql(counts, values).scalar_one() >= count:
                    return
            time.sleep(0.02)
        raise AssertionError(f"nothing begins: {counts}\n{self.said()}")

    def calm(self) -> None:
        """Wait until nothing is left to do."""
        began = time.monotonic()
        while True:
            self.replace()
            left = self._left()
            if not left:
                break
            if time.monotonic() - began >= PATIENCE:
                said = self.said()
                self.yard.ask(stacks=self.pids)
                raise AssertionError(f"not calm: {left}\n{self.waiting()}\n{said}\n{self.said(60_000)}")
            time.sleep(0.1)
        self.fleet.longest = max(self.fleet.longest, time.monotonic() - began)

    def _left(self) -> dict[str, int]:
        m, i = t.message.c, t.inbox.c
        count, a = sa.func.count(), t.account.c
        asked = {
            "pending": sa.select(count).select_from(t.pending),
            "messages": sa.select(count).where(m.state.in_(("queued", "sending"))),
            "in doubt": sa.select(count).where(m.state == "in-doubt", m.gateway == "asking"),
            "webhooks": sa.select(count).where(i.state == "waiting"),
            "hints": sa.select(count).select_from(t.hint),
            "sync": sa.select(1 - count).where(a.kind == "shop", a.synced_at.is_not(None)),
        }
        try:  # all at one moment: what is taken in from one is in another
            with self.store.read() as tx:
                found = tx.execute(sa.select(*(one.scalar_subquery().label(name) for name, one in asked.items()))).one()
        except Exception as error:  # it was restarted just now
            return {str(error): 1}
        return {name: count for name, count in found._mapping.items() if count}

    def waiting(self) -> str:
        """What messages wait for, how their gateways stand, and what workers are woken for and are doing."""
        m = t.message.c
        what = m.state, m.reason, m.gateway, m.not_before, m.tries, m.claim_id, m.lease_until, m.started_at
        with self.store.read() as tx:
            rows = tx.execute(sa.select(*what).where(m.state.in_(("queued", "sending"))).limit(5)).all()
            quotas = tx.execute(sa.select(t.quota)).mappings().all()
            rest = [row for statement in _AT_WORK for row in tx.exec_driver_sql(statement).all()]
        return "\n".join(map(str, [*rows, *({k: v for k, v in row.items() if v} for row in quotas), *rest]))

    def hear_vendors(self) -> None:
        """Vendors tell what they delivered, and what was answered."""
        self.fleet.game.vendors.ask(settle=str(self.world.folder))
        at = STEPS[0].now + timedelta(seconds=time.time() - self.began)
        calls = self.world.calls(at, replies=True)
        order = {"folder": str(self.world.folder), "step": "accept", "now": at.isoformat(), "calls": calls}
        answer = self.fleet.game.nursery.ask(**order)
        assert answer["status"] == 0, answer
        self.world.answered(calls)

    def end(self) -> None:
        """All end in their own time."""
        self.store.close()
        for pid in self.pids:
            self.signal(pid, signal.SIGCONT)
            self.signal(pid, signal.SIGTERM)
        ended = {pid: self.yard.ask(wait=pid)["status"] for pid in self.pids}
        for pid, status in ended.items():
            if status is None:
                self.signal(pid, signal.SIGKILL)
        self.fleet.game.vendors.ask(settle=str(self.world.folder))
        wrong = {pid: status for pid, status in ended.items() if status not in (0, -9)}
        assert not wrong, f"did not end well: {wrong}\n{self.said()}"

    def said(self, most: int = 6000) -> str:
        """What failed in the workers: the last so many characters."""
        path = self.world.folder / "workers.log"
        return path.read_text()[-most:] if path.exists() else "no worker said anything"
