import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from crashkit.figures import Figures, table
from crashkit.process import Process


@pytest.fixture(scope="module")
def fast() -> Iterator[Path]:
    """A folder in memory where there is one: a killed process needs no disk, and every commit waits for it."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="crmkit-crash-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """What the rounds of a test come to; they are in the table in the end, whichever process plays them."""
    figures = Figures()
    request.node._crash = figures
    return figures


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    found: Figures | None = getattr(item, "_crash", None)
    if found is not None and call.when == "call":
        item.user_properties += [("crash", row) for row in found.properties()]
        item.user_properties.append(("crash-text", found.text))
    return (yield)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What there was, where rounds were asked for."""
    if "CRMKIT_CRASH_ROUNDS" not in os.environ:
        return
    reports = [one for some in terminalreporter.stats.values() for one in some if getattr(one, "when", "") == "call"]
    said = [(name, value) for report in reports for name, value in report.user_properties]
    for name, text in said:
        if name == "crash-text" and text:
            terminalreporter.write_line(text)
    rows = [value for name, value in said if name == "crash"]
    if rows:
        terminalreporter.write_line(f"\n{table(rows)}")


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
