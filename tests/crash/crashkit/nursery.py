"""Forks processes that run the real engine, and kills or freezes them. One order on a line of JSON comes in, one answer
goes out.

Order: {"folder", "step": "sync" | "dispatch" | "accept", "now"}; with "calls" to accept; "flows": the clock runs on
from `now`, which was at "began" (seconds since the epoch); "lease": seconds. To kill, {"place", "times"} or {"after":
seconds since the first place}; to freeze, {"place", "times", "freezes": true}, and then the order {"resume": process
id}. "beside" is the order of a second process that runs at the same time and is left alone.

Answer: {"status": exit code, or minus the signal; None: frozen, "pid", "last": the last place passed, "passed": {place:
times}, "answered": webhooks that were, "seconds", "beside": the other's answer}.

Everything is imported before the first fork: a process is there in milliseconds, so that a kill at a random time hits
the work and not the imports.
"""

import asyncio
import json
import mmap
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosmtplib  # noqa: F401  what the gateways would import when they are first used
import psycopg  # noqa: F401

import crmkit.engine.inward
import crmkit.engine.local
import crmkit.flow.claim
import crmkit.flow.deliver
import crmkit.flow.look_up
import crmkit_care  # noqa: F401
from crashkit.gateways import POINTS
from crashkit.points import Points
from crmkit.engine.local import Local
from crmkit.host.catalogue import Catalogue
from crmkit.host.host import Host
from crmkit.host.plugins import Plugins

Order = dict[str, Any]


def flow_on(now: datetime, began: float) -> None:
    """The engine's wall clock was `now` at `began`, and runs."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return (now + timedelta(seconds=time.time() - began)).astimezone(tz or UTC)

    crmkit.engine.local.datetime = crmkit.engine.inward.datetime = Clock  # type: ignore[misc, attr-defined]


def lease(seconds: float) -> None:
    """How long claims hold, and a try may take: in the same proportion as ever."""
    crmkit.flow.deliver.LONGEST_TRY *= seconds / crmkit.flow.deliver.LEASE.total_seconds()  # type: ignore[misc]
    for module in (crmkit.flow.claim, crmkit.flow.deliver, crmkit.flow.look_up):
        module.LEASE = timedelta(seconds=seconds)  # type: ignore[attr-defined]


async def work(order: Order, engine: Local, answered: mmap.mmap) -> bool:
    now: datetime | None = datetime.fromisoformat(order["now"])
    if order["step"] == "accept":
        for number, call in enumerate(order["calls"], start=1):
            reply = await engine.accept(call["account"], call["headers"], call["body"].encode(), now=now)
            if reply.status != 200:
                raise ValueError(f"a webhook was answered {reply}")
            answered[:] = number.to_bytes(8, "big")
        return True
    if order.get("flows"):
        assert now is not None
        flow_on(now, order["began"])
        now = None
    if order["step"] == "sync":
        return not any(run.errors for run in await engine.sync(now=now))
    run = await engine.dispatch(now=now)
    for error in (*run.delivered.stopped.values(), *(error for one in run.taken for error in one.errors)):
        sys.stderr.write(f"{error}\n")
    return not run.delivered.stopped and not any(one.errors for one in run.taken)


@dataclass
class Child:
    """A process, and where it is heard."""

    pid: int
    reading: int
    note: mmap.mmap
    answered: mmap.mmap
    began: float

    def answer(self, status: int | None) -> dict[str, Any]:
        """What became of it; None: it is frozen."""
        passed = {}
        if status is not None:
            with os.fdopen(self.reading, "rb") as answer:
                passed = json.loads(answer.read() or b"{}")
        return {
            "status": None if status is None else os.waitstatus_to_exitcode(status),
            "pid": self.pid,
            "last": self.note[:64].decode().strip(),
            "passed": passed,
            "answered": int.from_bytes(self.answered[:], "big"),
            "seconds": time.monotonic() - self.began,
        }


def run(order: Order, note: mmap.mmap, answered: mmap.mmap, answers: int) -> None:
    """Run one step to its end, or to the place chosen; then the process ends."""
    status = 70
    try:
        points = Points(note, order.get("place"), order.get("times", 1), order.get("freezes", False))
        points.install()
        if "lease" in order:
            lease(order["lease"])
        host = Host.open(Path(order["folder"]) / "crmkit.toml", plugins=Plugins(Catalogue(POINTS)))
        store = host.store()
        done = asyncio.run(work(order, Local(host, store), answered))
        store.close()
        os.write(answers, json.dumps(points.passed).encode())
        status = 0 if done else 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def fork(order: Order) -> Child:
    note, answered = mmap.mmap(-1, 64), mmap.mmap(-1, 8)
    note[:] = b"start".ljust(64)
    reading, writing = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        run(order, note, answered, writing)
    os.close(writing)
    return Child(pid, reading, note, answered, began)


def outcome(order: Order, child: Child) -> dict[str, Any]:
    """Wait for a child: its end, the kill that is ordered, or its freezing."""
    if "after" in order:
        until: float | None = None
        while not os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if until is None and not child.note[:].startswith(b"start"):
                until = time.monotonic() + order["after"]
            if until is not None and time.monotonic() >= until:
                break
            time.sleep(0.001)
        os.kill(child.pid, signal.SIGKILL)  # our own child, not yet reaped: the id cannot be another's
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    return child.answer(None if os.WIFSTOPPED(status) else status)


def main() -> None:
    frozen: dict[int, Child] = {}
    answer = sys.stdout.write
    answer("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order = json.loads(line)
        if "resume" in order:
            child = frozen.pop(order["resume"])
            os.kill(child.pid, signal.SIGCONT)  # not reaped either
            _, status = os.waitpid(child.pid, 0)
            told = child.answer(status)
        else:
            other = fork(order["beside"]) if "beside" in order else None
            child = fork(order)
            told = outcome(order, child)
            if told["status"] is None:
                frozen[child.pid] = child
            if other is not None:
                told["beside"] = outcome(order["beside"], other)
        answer(json.dumps(told) + "\n")
        sys.stdout.flush()
    for child in frozen.values():
        os.kill(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
