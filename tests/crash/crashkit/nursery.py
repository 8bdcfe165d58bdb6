"""Forks processes that run the real engine, and kills them. One order on a line of JSON comes in, one answer goes out.

Order: {"folder", "step": "sync" | "dispatch", "now"} and, to kill, {"point", "times"} or {"after": seconds}.
Answer: {"status": exit code, or minus the signal, "last": the last point passed, "passed": {point: times}, "seconds"}.

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
from datetime import datetime
from pathlib import Path
from typing import Any

import aiosmtplib  # noqa: F401  what the gateways would import when they are first used
import psycopg  # noqa: F401

import crmkit_care  # noqa: F401
from crashkit.points import Points
from crmkit.engine.local import Local
from crmkit.host.host import Host


async def work(step: str, engine: Local, now: datetime) -> bool:
    if step == "sync":
        return not any(run.errors for run in await engine.sync(now=now))
    return not (await engine.dispatch(now=now)).delivered.stopped


def child(order: dict[str, Any], note: mmap.mmap, answers: int) -> None:
    """Run one step to its end, or to the point chosen."""
    status = 70
    try:
        points = Points(note, order.get("point"), order.get("times", 1))
        points.install()
        store = (host := Host.open(Path(order["folder"]) / "crmkit.toml")).store()
        done = asyncio.run(work(order["step"], Local(host, store), datetime.fromisoformat(order["now"])))
        store.close()
        os.write(answers, json.dumps(points.passed).encode())
        status = 0 if done else 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def raise_child(order: dict[str, Any], note: mmap.mmap) -> dict[str, Any]:
    note[:64] = b"start".ljust(64)
    reading, writing = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(order, note, writing)
    os.close(writing)
    if "after" in order:
        while time.monotonic() - began < order["after"] and not os.waitid(
            os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)  # our own child, not yet reaped: the id cannot be another's
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as answer:
        passed = json.loads(answer.read() or b"{}")
    return {
        "status": os.waitstatus_to_exitcode(status),
        "last": note[:64].decode().strip(),
        "passed": passed,
        "seconds": time.monotonic() - began,
    }


def main() -> None:
    note = mmap.mmap(-1, 64)
    answer = sys.stdout.write
    answer("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        answer(json.dumps(raise_child(json.loads(line), note)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
