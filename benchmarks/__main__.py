"""Runs the rows that were asked for, or all of them, and prints the table."""

import argparse
import tempfile
import time
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks.harness import QUICK, Result, Size, show

ROWS = ("sync", "postgres", "decide", "dispatch", "cluster", "smtp", "statements", "memory", "door", "year")


def main() -> None:
    """The command."""
    reading = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    reading.add_argument("rows", nargs="*", metavar="ROW", help=f"some of: {', '.join(ROWS)}")
    reading.add_argument("--quick", action="store_true", help="little of everything: does it run?")
    asked = reading.parse_args()
    unknown = set(asked.rows) - set(ROWS)
    if unknown:
        reading.error(f"no row is called {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}")
    console, results = Console(), list[Result]()
    began = time.monotonic()
    for name in asked.rows or ROWS:
        with tempfile.TemporaryDirectory(prefix="crmkit-bench-") as folder:
            console.print(f"{time.monotonic() - began:4.0f} s  {name}", highlight=False)
            results.extend(import_module(f"benchmarks.{name}").run(Path(folder), QUICK if asked.quick else Size()))
    show(console, results)
    console.print(f"{time.monotonic() - began:.0f} s in all", highlight=False)


if __name__ == "__main__":
    main()
