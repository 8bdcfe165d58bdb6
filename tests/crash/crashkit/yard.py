"""Forks workers of the distributed engine, which are killed, frozen and told to end from outside.

Orders, one to a line of JSON: {"fork": FOLDER, "now", "began", "lease", and "place", "times", "freezes" as of the
nursery} answers {"pid"}; {"signal": NUMBER, "pid"} answers {}; {"reap": [PID, ...]} answers {PID: {"status": exit code,
or minus the signal, "at_place": whether it came to its place}} of those that ended; {"wait": PID} answers the same once
it has ended, with a status of None after 60 seconds; {"look": PID} answers {"at_place"}; {"stacks": [PID, ...]} has
each write into its log where its threads and tasks are, and answers {}.

The clocks of workers run on from `now`, which was at `began`. What comes by the minute, a tick and a sync, comes here
every few seconds.
"""

import asyncio
import faulthandler
import io
import json
import logging
import mmap
import os
import signal
import sys
import time
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import crmkit.engine.service
import crmkit.engine.steps
import crmkit_cluster.post
import crmkit_cluster.taker
from crashkit.gateways import POINTS, PlainGateway
from crashkit.nursery import flow_on, lease
from crashkit.points import Points
from crmkit.cli.serve import until_stopped
from crmkit.engine.local import Local
from crmkit.host.catalogue import Catalogue
from crmkit.host.host import Host
from crmkit.host.plugins import Plugins
from crmkit_cluster.jobs import Wake
from crmkit_cluster.worker import Worker

#: Told to say where its threads are, and its tasks.
THREADS, TASKS = signal.SIGUSR1, signal.SIGUSR2


class Noted(Points):
    """Notes that it came to its place, before it dies or freezes there."""

    def at(self, place: str) -> None:
        if place == self.fatal and self.passed[place] + 1 == self.times:
            self.note[64:65] = b"!"
        super().at(place)


class Told:
    """Says what failed."""

    def synced(self, runs: Any) -> None:
        for run in runs:
            for error in run.errors:
                self.failed(run.shop, error)

    def dispatched(self, run: Any) -> None: ...

    def heard(self, account: str, tally: Any) -> None: ...

    def failed(self, what: str, error: Exception) -> None:
        with Path("workers.log").open("a") as file:
            file.write(f"{os.getpid()} {what}: {type(error).__name__}: {str(error)[:300]}\n")


def tell_stacks() -> None:
    """Say where every task of this worker is."""
    said = io.StringIO()
    for task in asyncio.all_tasks():
        task.print_stack(file=said)
    with Path("workers.log").open("a") as file:
        file.write(f"{os.getpid()} tasks:\n{said.getvalue()}")


async def beat(worker: Worker, stop: asyncio.Event) -> None:
    """What comes by the minute, of each of four workers."""
    asyncio.get_running_loop().add_signal_handler(TASKS, tell_stacks)
    while not stop.is_set():
        worker.wake(Wake("sync", "crash"))
        for _ in range(3):
            worker.wake(Wake("tick"))
            await asyncio.sleep(1.5)


def work(order: dict[str, Any], note: mmap.mmap) -> None:
    """A worker, to its end."""
    os.chdir(order["folder"])
    logging.basicConfig(filename="workers.log", level=logging.WARNING)
    faulthandler.register(THREADS, Path("workers.log").open("a"))  # noqa: SIM115  it is written to the end
    Noted(note, order.get("place"), order.get("times", 1), order.get("freezes", False)).install()
    lease(order["lease"])
    flow_on(datetime.fromisoformat(order["now"]), order["began"])
    clock = crmkit.engine.local.datetime
    crmkit.engine.steps.datetime = crmkit.engine.service.datetime = clock  # type: ignore[attr-defined]
    crmkit_cluster.post.BEAT, crmkit_cluster.post.LOST = 0.5, order["lease"]
    crmkit_cluster.taker.POLL = 1.0
    PlainGateway.look_up_after = timedelta(seconds=order["lease"])
    host = Host.open(Path(order["folder"]) / "crmkit.toml", plugins=Plugins(Catalogue(POINTS)))
    store = host.store()
    worker = Worker(Local(host, store), Told(), concurrency=2, every=timedelta(minutes=1))
    asyncio.run(until_stopped(worker.run, lambda stop: beat(worker, stop)))
    store.close()


#: The notes of those we forked, and what those that ended did.
notes: dict[int, mmap.mmap] = {}
ended: dict[int, int] = {}


def fork(order: dict[str, Any]) -> int:
    note = mmap.mmap(-1, 65)
    pid = os.fork()
    if pid:
        notes[pid] = note
        ended.pop(pid, None)  # of an earlier one of that id
        return pid
    status = 70
    try:
        work(order, note)
        status = 0
    except BaseException as error:
        with Path("workers.log").open("a") as file:
            traceback.print_exception(error, file=file)
    finally:
        os._exit(status)


def reap(pid: int) -> int | None:
    """With what it ended, however often that is asked; None while it runs."""
    if pid not in ended:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended.get(pid)


def wait(pid: int) -> int | None:
    until = time.monotonic() + 60
    while (status := reap(pid)) is None and time.monotonic() < until:
        time.sleep(0.01)
    return status


def was_at_place(pid: int) -> bool:
    return notes[pid][64:65] == b"!"


def main() -> None:
    answer = sys.stdout.write
    answer("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order, told = json.loads(line), dict[str, Any]()
        if "fork" in order:
            told["pid"] = fork({**order, "folder": order["fork"]})
        elif "signal" in order:
            if order["pid"] in notes and order["pid"] not in ended:  # not yet reaped: the id cannot be another's
                os.kill(order["pid"], order["signal"])
        elif "wait" in order:
            told = {"status": wait(order["wait"]), "at_place": was_at_place(order["wait"])}
        elif "look" in order:
            told["at_place"] = was_at_place(order["look"])
        elif "stacks" in order:
            for pid in order["stacks"]:
                if reap(pid) is None:
                    os.kill(pid, THREADS)
                    os.kill(pid, TASKS)
            time.sleep(1)
        else:
            for pid in order["reap"]:
                if (status := reap(pid)) is not None:
                    told[str(pid)] = {"status": status, "at_place": was_at_place(pid)}
        answer(json.dumps(told) + "\n")
        sys.stdout.flush()
    for pid in notes.keys() - ended.keys():
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
