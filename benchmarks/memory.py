"""Peak memory of `sync` and of `dispatch`, each in a process of its own, for a little and for ten times as much."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import shop
from benchmarks.adapters import MemorySource
from benchmarks.harness import Result, Size
from benchmarks.house import House
from crmkit.adapters.stream import Page

CHANNEL = '[[channels.sms]]\nuse = "null"\nconcurrency = 50'
#: Ten times the data may take this many megabytes more: SQLite's page cache has 64, and other caches are bounded too.
BOUND = 96


def run(folder: Path, size: Size) -> Iterator[Result]:
    """A row for each command."""
    few, many = size.few, size.few * 10
    for command in ("sync", "dispatch"):
        peaks = {count: _peak(folder / str(count), command, count) for count in (few, many)}
        said = ", ".join(f"{peak:.0f} MB for {count:,} orders" for count, peak in peaks.items())
        more = peaks[many] - peaks[few]
        yield Result(f"peak memory, {command}", said, f"{more:.0f} MB more, at most {BOUND}", holds=more <= BOUND)


def _peak(folder: Path, command: str, orders: int) -> float:
    """Megabytes at the most."""
    told = [sys.executable, "-m", "benchmarks.memory", str(folder), command, str(orders)]
    return float(subprocess.run(told, check=True, capture_output=True, text=True, timeout=300).stdout)


class _Pages:
    """The shop's pages, made as they are asked for."""

    def __init__(self, orders: int) -> None:
        self.orders = orders

    def __iter__(self) -> Iterator[Page]:
        return shop.pages(self.orders)


def _child(folder: Path, command: str, orders: int) -> None:
    MemorySource.pages = _Pages(orders)
    place = House(folder, channel=CHANNEL)
    if command == "sync":
        place.create()
        place.sync()
    else:
        place.dispatch()
    print(_peak_bytes() / 1e6)


def _peak_bytes() -> int:
    """Of this process: on Linux `getrusage` also counts what its parent had when it was forked."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    _child(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
