import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

sys.path.append(str(Path(__file__).parent))

from crashkit.process import Process


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


@pytest.fixture(scope="module")
def vendors() -> Iterator[Process]:
    """Fake vendors with gateways of every kind, in a process of their own."""
    process = Process("crashkit.vendors")
    yield process
    process.stop()
