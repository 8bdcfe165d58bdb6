import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))


class Process:
    """A helper process that prints a line when it is ready."""

    def __init__(self, *command: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.first = self.line()

    def line(self) -> str:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, f"{self.popen.args} ended with {self.popen.wait(10)}"
        return line.strip()

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(order) + "\n")
        self.popen.stdin.flush()
        answer: dict[str, Any] = json.loads(self.line())
        return answer

    def stop(self) -> None:
        self.popen.kill()
        self.popen.communicate()


@pytest.fixture(scope="module")
def fast() -> Iterator[Path]:
    """A folder in memory where there is one: a killed process needs no disk, and every commit waits for it."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="crmkit-crash-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def ledgers(fast: Path) -> Path:
    (fast / "ledgers").mkdir()
    return fast / "ledgers"


@pytest.fixture(scope="module")
def port(ledgers: Path) -> Iterator[int]:
    """Of an SMTP server in a process of its own."""
    sink = Process("crashkit.sink", str(ledgers))
    yield int(sink.first)
    sink.stop()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Process]:
    process = Process("crashkit.nursery")
    yield process
    process.stop()
