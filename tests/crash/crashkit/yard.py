"""Forks workers of the distributed engine, which are killed, frozen and told to end from outside.

Orders, one to a line of JSON: {"fork": FOLDER, "now", "began", "lease", and "place", "times", "freezes" as of the
nursery} answers {"pid"}; {"signal": NUMBER, "pid"} answers {}; {"reap": [PID, ...]} answers {PID: exit code, or minus
the signal} of those that ended; {"wait": PID} answers {"status"} once it has ended, None after 60 seconds.

The clocks of workers run on from `now`, which was at `began`. What comes by the minute, a tick and a sync, comes here
every few seconds.
"""

import asyncio
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
import crmkit_cluster.worker
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


async def beat(worker: Worker, stop: asyncio.Event) -> None:
    """What comes by the minute, of each of four workers."""
    while not stop.is_set():
        worker.wake(Wake("sync", "crash"))
        for _ in range(3):
            worker.wake(Wake("tick"))
            await asyncio.sleep(1.5)


def work(order: dict[str, Any]) -> None:
    """A worker, to its end."""
    os.chdir(order["folder"])
    logging.basicConfig(filename="workers.log", level=logging.WARNING)
    note = mmap.mmap(-1, 64)
    Points(note, order.get("place"), order.get("times", 1), order.get("freezes", False)).install()
    lease(order["lease"])
    flow_on(datetime.fromisoformat(order["now"]), order["began"])
    clock = crmkit.engine.local.datetime
    crmkit.engine.steps.datetime = crmkit.engine.service.datetime = clock  # type: ignore[attr-defined]
    crmkit_cluster.post.BEAT = 0.5
    crmkit_cluster.worker.POLL = 1.0
    PlainGateway.look_up_after = timedelta(seconds=order["lease"])
    host = Host.open(Path(order["folder"]) / "crmkit.toml", plugins=Plugins(Catalogue(POINTS)))
    store = host.store()
    worker = Worker(Local(host, store), Told(), concurrency=2, every=timedelta(minutes=1))
    asyncio.run(until_stopped(worker.run, lambda stop: beat(worker, stop)))
    store.close()


def fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        work(order)
        status = 0
    except BaseException as error:
        with Path("workers.log").open("a") as file:
            traceback.print_exception(error, file=file)
    finally:
        os._exit(status)


def wait(pid: int) -> int | None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def main() -> None:
    ours: set[int] = set()
    answer = sys.stdout.write
    answer("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order, told = json.loads(line), dict[str, Any]()
        if "fork" in order:
            told["pid"] = fork({**order, "folder": order["fork"]})
            ours.add(told["pid"])
        elif "signal" in order:
            if order["pid"] in ours:  # not yet reaped: the id cannot be another's
                os.kill(order["pid"], order["signal"])
        elif "wait" in order:
            told["status"] = wait(order["wait"])
            if told["status"] is not None:
                ours.discard(order["wait"])
        else:
            for pid in order["reap"]:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    told[str(pid)] = os.waitstatus_to_exitcode(status)
                    ours.discard(pid)
        answer(json.dumps(told) + "\n")
        sys.stdout.flush()
    for pid in ours:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
