"""`crmkit worker` and `crmkit cluster`: many processes on one PostgreSQL, by the engine crmkit-cluster brings."""

import asyncio
import os
from datetime import timedelta
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.cli.logs import say, with_log
from crmkit.cli.serve import duration, until_stopped
from crmkit.cli.told import Told
from crmkit.core.errors import ConfigError
from crmkit.core.log import STOPPED

if TYPE_CHECKING:
    from crmkit.engine.local import Local

#: Where a distribution says that it brings a distributed engine.
GROUP, NAME = "crmkit.engine", "cluster"


class Engine(Protocol):
    """What a distributed engine is asked for."""

    def check_every(self, every: timedelta) -> None:
        """Raises ValueError, which says what is one, where a span is no schedule."""

    def set_up(self, local: "Local") -> tuple[dict[str, str], dict[str, str]]:
        """Makes what workers need in the database, or brings it up to date: the versions before, and now."""

    def take_down(self, local: "Local") -> None:
        """Takes all that away."""

    async def work(
        self, local: "Local", told: Told, stop: asyncio.Event, *, concurrency: int, every: timedelta
    ) -> bool:
        """Works until it is told to stop: whether all ended in time."""

    def standing(self, local: "Local") -> dict[str, Any]:
        """How workers, queues and lag stand."""


def engine() -> Engine:
    """The distributed engine.

    Raises:
        ConfigError: it is not installed.
    """
    for point in entry_points(group=GROUP, name=NAME):
        found: Engine = point.load()
        return found
    raise ConfigError("the distributed engine is not installed", who="cluster", do="pip install 'crmkit[cluster]'")


@click.command()
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Shops read at once by this process. Each gateway, and decisions, go on beside them.",
)
@click.option(
    "--every",
    default="1m",
    show_default=True,
    callback=duration,
    help="How often each shop is read, by whichever worker: 1m, 2m, 3m, 5m, 10m, 15m, 20m, 30m, 1h, 2h, 6h, 12h or 1d.",
)
@output.json_option
@with_log
@with_call
def worker(call: Call, concurrency: int, every: timedelta, as_json: bool) -> None:
    """Work beside other workers, on any number of machines, on one PostgreSQL.

    A worker reads shops, decides and delivers; what happens is decided within a second. SIGINT and SIGTERM end it: what
    is in flight is finished and stored first. A second one ends it at once, which loses nothing: what was in flight is
    in doubt then. `crmkit cluster setup` comes first; webhooks are heard by `crmkit serve`.
    """
    from crmkit.engine.local import Local

    if call.given_now is not None:
        raise click.UsageError("a worker runs by the wall clock; simulate with `crmkit --now TIME dispatch`")
    found = engine()
    try:
        found.check_every(every)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--every") from None
    in_time = True

    async def working(stop: asyncio.Event) -> None:
        nonlocal in_time
        in_time = await found.work(local, Told(as_json), stop, concurrency=concurrency, every=every)
        if not in_time:
            _leave(1)  # a connection that answers nothing would keep it for ever, and there is nothing to lose

    with call.open_store() as store:
        local = Local(call.host, store)
        asyncio.run(until_stopped(working, again=lambda: _leave(130)))
    say("stopped", STOPPED)


def _leave(code: int) -> None:
    """End now, as a process that is killed."""
    os._exit(code)


@click.group()
def cluster() -> None:
    """Set a database up for workers, and say how they stand."""


@cluster.command()
@click.option("--remove", is_flag=True, help="Take away all that it made.")
@output.json_option
@with_call
def setup(call: Call, remove: bool, as_json: bool) -> None:
    """Make what workers need in the database, or bring it up to date: a schema of its own, `crmkit_cluster`.

    Refused while workers are at work.
    """
    from crmkit.engine.local import Local

    found = engine()
    with call.open_store() as store:
        local = Local(call.host, store)
        before: dict[str, str] = {}
        now: dict[str, str] = {}
        if remove:
            found.take_down(local)
        else:
            before, now = found.set_up(local)
        where = store.where
    if as_json:
        output.document({"database": where, "before": before, "versions": now})
    elif remove:
        output.say(f"{where}: is set up for workers no more")
    elif before == now:
        output.say(f"{where}: is set up for workers already")
    else:
        output.say(f"{where}: is set up for workers, {', '.join(f'{name} {value}' for name, value in now.items())}")


@cluster.command()
@output.json_option
@with_call
def status(call: Call, as_json: bool) -> None:
    """Say which workers there are, what waits for them, and how late it is.

    Exit code 1 if something waits and no worker is at work, or one was lost or may not send.
    """
    from crmkit.engine.local import Local

    with call.open_store() as store:
        found = engine().standing(Local(call.host, store))
    if as_json:
        output.document(found)
    else:
        _print(call, found)
    at_work = [one for one in found["workers"] if one["state"] == "at work"]
    waiting = found["decide"]["due"] + sum(one["due"] for one in found["deliver"].values())
    if len(at_work) < len(found["workers"]) or (waiting and not at_work):
        click.get_current_context().exit(1)


def _print(call: Call, found: dict[str, Any]) -> None:
    rows = [
        (one["host"], one["pid"], one["state"], _ago(one["silent_seconds"]), one["started_at"], ", ".join(one["doing"]))
        for one in found["workers"]
    ]
    columns = ("host", "pid", "state", "heard of", "since", "doing")
    output.table(rows, columns, title="workers", zone=call.zone) if rows else output.say("no worker is at work")
    lag = [("decide", found["decide"]["due"], _late(found["decide"]), "")]
    lag += [
        (f"deliver {name}", one["due"], _late(one), one["in_doubt"] or "") for name, one in found["deliver"].items()
    ]
    lag += [(f"webhooks of {name}", one["due"], _late(one), "") for name, one in found["webhooks"].items()]
    output.heading("what is due")
    output.table(lag, ("", "due", "behind", "in doubt"), numbers=("due",))
    jobs = [(one["wake"], one["todo"], one["doing"], one["failed"]) for one in found["queues"]]
    if jobs:
        output.heading("wake-ups")
        output.table(jobs, ("", "waiting", "being answered", "failed"), numbers=("waiting", "being answered", "failed"))


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago"


def _late(queue: dict[str, Any]) -> str:
    return f"{queue['behind_seconds']:.0f} s" if queue["due"] else ""
