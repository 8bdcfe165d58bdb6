"""What rounds came to, in a short table: where, how often processes were killed, what was lost or doubled by it."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

#: Columns: what is counted, and how it is called.
COLUMNS: Mapping[str, str] = {
    "rounds": "rounds",
    "killed at a place": "killed at a place",
    "killed at random": "at a random time",
    "left": "messages sent",
    "lost": "lost",
    "doubled": "doubled",
    "out of order": "out of order",
    "doubt": "in doubt",
    "wrong": "rounds gone wrong",
}
#: So many rounds may go wrong before a test ends: each says another thing of the cause.
MOST_WRONG = 3

Row = dict[str, Any]


class Figures:
    """Rows of the table, one for each sort of rounds.

    Attributes:
        text: what else is to be said.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Counter[str]] = {}
        self.seconds: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.text = ""

    @contextmanager
    def round(self, sort: str, number: int, *counts: Counter[str]) -> Iterator[None]:
        """Count a round: what is added to `counts` meanwhile. Raises AssertionError once too many went wrong."""
        row, began = self.rows.setdefault(sort, Counter()), time.monotonic()
        before = sum(map(Counter, counts), Counter[str]())
        try:
            yield
        except AssertionError as error:
            row["wrong"] += 1
            self.wrong.append(f"{sort}, round {number} (CRMKIT_CRASH_SEED={number}): {error}")
            if len(self.wrong) >= MOST_WRONG:
                self.end()
        finally:
            row["rounds"] += 1
            row.update(sum(map(Counter, counts), Counter[str]()) - before)
            self.seconds[sort] += time.monotonic() - began

    @property
    def played(self) -> int:
        """How many rounds."""
        return sum(row["rounds"] for row in self.rows.values())

    def end(self) -> None:
        """Raises AssertionError where rounds went wrong."""
        if self.wrong:
            raise AssertionError("\n\n".join(self.wrong))

    def properties(self) -> list[Row]:
        """The rows, as what may be sent to another process."""
        return [
            {"sort": sort, "seconds": self.seconds[sort], **{name: row[name] for name in COLUMNS}}
            for sort, row in self.rows.items()
        ]


def table(rows: Sequence[Row]) -> str:
    """As Markdown, with a line for all of them."""
    names = ["", *COLUMNS.values(), "seconds each"]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    total: Row = {"sort": "all", "seconds": sum(row["seconds"] for row in rows)}
    total |= {name: sum(row[name] for row in rows) for name in COLUMNS}
    for row in [*sorted(rows, key=lambda row: str(row["sort"])), total]:
        each = f"{row['seconds'] / max(1, row['rounds']):.1f}"
        cells = [row["sort"], *(f"{row[name]:,}" for name in COLUMNS), each]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
