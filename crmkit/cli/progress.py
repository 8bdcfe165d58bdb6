"""Bars for what takes long, on stderr and on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from crmkit.cli.output import console

SyncProgress = Callable[[str, str, int, int | None], None]
DispatchProgress = Callable[[int, int], None]


@contextmanager
def sync_bars(*, shown: bool = True) -> Iterator[SyncProgress]:
    """A bar for each stream of each shop."""
    bars = _bars(shown)
    if bars is None:
        yield lambda shop, stream, done, total: None
        return
    tasks: dict[tuple[str, str], Any] = {}

    def tell(shop: str, stream: str, done: int, total: int | None) -> None:
        if (shop, stream) not in tasks:
            tasks[shop, stream] = bars.add_task(f"{shop} {stream}", total=total)
        bars.update(tasks[shop, stream], completed=done, total=total)

    with bars:
        yield tell


@contextmanager
def dispatch_bars(*, shown: bool = True) -> Iterator[DispatchProgress]:
    """Two counts: interactions decided, messages handed over."""
    bars = _bars(shown)
    if bars is None:
        yield lambda decided, delivered: None
        return
    decided_task = bars.add_task("decided", total=None)
    delivered_task = bars.add_task("handed over", total=None)

    def tell(decided: int, delivered: int) -> None:
        bars.update(decided_task, completed=decided)
        bars.update(delivered_task, completed=delivered)

    with bars:
        yield tell


@contextmanager
def page_bar(what: str, *, shown: bool = True) -> Iterator[DispatchProgress]:
    """One bar, told how far it is and of how many."""
    bars = _bars(shown)
    if bars is None:
        yield lambda done, total: None
        return
    task = bars.add_task(what, total=None)
    with bars:
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _bars(shown: bool) -> Any:
    on = console(err=True)
    if not shown or not on.is_terminal:
        return None
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=on,
        transient=True,
    )
