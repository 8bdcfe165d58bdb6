"""A shop on a database that is set up for workers, and the program on it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from crmkit_cluster.address import conninfo

CONFIG = """\
[crm]
database = "{url}"

[plugins]
use = ["care"]

[shops.tea]
use = "files"
preset = "crmkit"
path = "exports"
announce_from = 2026-03-01T00:00:00Z

[[channels.email]]
use = "folder"

[[care.rules]]
on = "order-paid"
send = "order-paid"
via = ["email"]
"""


class Shop:
    """An installation in a folder, and the program on it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        (folder / "exports").mkdir()
        (folder / "crmkit.toml").write_text(CONFIG.format(url=url))
        self.orders: list[str] = []

    def paid(self, *names: str) -> None:
        """So many more orders are in the export."""
        self.orders += names
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
        rows = [f"{name},paid,{at},{at},{name.lower()}@buyers.example" for name in self.orders]
        text = "\n".join(["external_id,status,placed_at,paid_at,email", *rows, ""])
        (self.folder / "exports" / "orders.csv").write_text(text)

    @property
    def sent(self) -> int:
        return len(list((self.folder / "outbox").glob("*.eml")))

    def command(self, *words: str, first: str = "") -> list[str]:
        program = f"{first}\nfrom crmkit.cli import main; main()"
        return [sys.executable, "-c", program, "--config", str(self.folder / "crmkit.toml"), *words]

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        done = subprocess.run(self.command("cluster", "status", "--json"), capture_output=True, text=True, timeout=120)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @contextmanager
    def worker(self, first: str = "", *words: str) -> Iterator[subprocess.Popen[str]]:
        """A worker, once it is at its place; `first`: what its process does before, `words`: its options."""
        command = self.command("worker", "--log", "text", *words, first=first)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            name = f"%:{process.pid}"
            try:
                until(lambda: self.count("crmkit_cluster.worker WHERE name LIKE %s", name) == 1 or _ended(process))
                yield process
            finally:
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGCONT)
                    process.kill()

    def count(self, what: str, *values: Any) -> int:
        with psycopg.connect(conninfo(self.url)) as connection:
            row = connection.execute(f"SELECT count(*) FROM {what}".encode(), values).fetchone()
        assert row is not None
        return int(row[0])


def _ended(process: subprocess.Popen[str]) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"it ended: {process.communicate()}")
    return False


def until(holds: Callable[[], bool], seconds: float = 120.0) -> float:
    """Wait until something holds; returns how long that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began
