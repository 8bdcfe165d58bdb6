"""Rounds, medians and the table. Contenders take turns, so that what else the machine does hits all of them alike."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Size:
    """How much each row does: enough to measure, or just enough to see that it works."""

    rounds: int = 5
    orders: int = 5_000
    messages: int = 3_000
    mails: int = 1_500
    few: int = 1_500  # of which peak memory takes ten times as many
    batches: tuple[int, int] = (1_000, 10_000)
    webhooks: int = 2_000


QUICK = Size(rounds=2, orders=600, messages=400, mails=200, few=200, batches=(500, 1_500), webhooks=500)


@dataclass(frozen=True, slots=True)
class Result:
    """A row of the table.

    Attributes:
        job: what was done.
        measured: how much of it, with its unit.
        beside: the peer or limit.
        ratio: to that peer; None where the row is no ratio.
        target: what the ratio is to be at least; None if nothing is asked.
        holds: for rows that are no ratio: whether what is claimed holds.
    """

    job: str
    measured: str
    beside: str = ""
    ratio: float | None = None
    target: float | None = None
    holds: bool | None = None

    @property
    def verdict(self) -> str:
        """Whether the row reaches its target."""
        holds = self.holds if self.ratio is None or self.target is None else self.ratio >= self.target
        return "" if holds is None else "yes" if holds else "no"


def timed(action: Callable[[], object]) -> float:
    """Seconds one call takes."""
    gc.collect()
    gc.freeze()  # what the benchmark itself holds is not looked through again and again
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


class Race:
    """Contenders timed in turns.

    Args:
        rounds: how many turns each gets.
        contenders: {name: one turn, which prepares what it needs and returns the seconds its work took}.
    """

    def __init__(self, rounds: int, contenders: Mapping[str, Callable[[], float]]) -> None:
        self._times: dict[str, list[float]] = {name: [] for name in contenders}
        order = list(contenders)
        for _ in range(rounds):
            for name in order:
                self._times[name].append(contenders[name]())
            order = [*order[1:], order[0]]

    def rate(self, name: str, count: int) -> float:
        """Things per second in the median round."""
        return count / median(self._times[name])

    def ratio(self, name: str, peer: str) -> float:
        """How fast `name` is beside `peer`, 1 being the same: the median over the rounds."""
        return median(theirs / ours for ours, theirs in zip(self._times[name], self._times[peer], strict=True))


def show(console: Console, results: list[Result]) -> None:
    """Print the table."""
    table = Table(title="crmkit, medians of interleaved rounds")
    for name in ("job", "measured", "beside"):
        table.add_column(name)
    for name in ("ratio", "target", "reached"):
        table.add_column(name, justify="right")
    for one in results:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        target = "" if one.target is None else f"{one.target:.2f}"
        table.add_row(one.job, one.measured, one.beside, ratio, target, one.verdict)
    console.print(table)
