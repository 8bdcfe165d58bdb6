"""`crmkit run`: sync and dispatch for ever, until it is stopped."""

import asyncio
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from crmkit.cli import output
from crmkit.cli.call import Call, of, told, with_call
from crmkit.core.duration import parse_duration

if TYPE_CHECKING:
    from crmkit.engine.inward import ShopRun
    from crmkit.engine.local import DispatchRun
    from crmkit.engine.service import Service
    from crmkit.flow.ingest import Tally


def _duration(_: click.Context, __: click.Parameter, written: str) -> timedelta:
    try:
        return parse_duration(written)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--every", default="60s", show_default=True, callback=_duration, help="How long to rest between rounds.")
@output.json_option
@with_call
def run(call: Call, every: timedelta, as_json: bool) -> None:
    """Sync and dispatch in turn, for ever; adapters that hold a connection open are heard at once.

    SIGINT and SIGTERM end it: what is in flight may end first. Says something where something happened.
    """
    from crmkit.engine.local import Local
    from crmkit.engine.service import Service

    if call.given_now is not None:
        raise click.UsageError("a service runs by the wall clock; simulate with `crmkit --now TIME dispatch`")
    with call.open_store() as store:
        asyncio.run(_run(Service(Local(call.host, store), every, _Log(as_json))))
    output.warn("stopped")


async def _run(service: "Service") -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await service.run(stop)


class _Log:
    """Says what the service did, in a line each."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.failing: dict[str, str] = {}
        self.stopped: set[str] = set()

    def synced(self, runs: "list[ShopRun]") -> None:
        for run in runs:
            for error in run.errors:
                self._down(run.shop, str(error))
            if not run.errors:
                self._up(run.shop)
            self._news(run.shop, run.tally)

    def dispatched(self, run: "DispatchRun") -> None:
        for name, error in run.delivered.stopped.items():
            self._down(name, str(error))
        for name in self.stopped - set(run.delivered.stopped):
            self._up(name)
        self.stopped = set(run.delivered.stopped)
        self._say("dispatch", {str(state): count for state, count in sorted(run.delivered.states.items()) if count})

    def heard(self, account: str, tally: "Tally") -> None:
        self._news(account, tally)

    def failed(self, what: str, error: Exception) -> None:
        self._down(what, told(error)[0])

    def _news(self, account: str, tally: "Tally") -> None:
        self._say(account, dict(sorted(tally.interactions.items())))

    def _say(self, what: str, counts: dict[str, int]) -> None:
        if not counts:
            return
        if self.as_json:
            output.lines([{"what": what, **counts}])
        else:
            output.say(f"{what}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))

    def _down(self, what: str, why: str) -> None:
        """What fails is said once, until it fails otherwise or works again."""
        if self.failing.get(what) != why:
            self.failing[what] = why
            output.warn(f"error: {of(what, why)}")

    def _up(self, what: str) -> None:
        if self.failing.pop(what, None) is not None:
            output.warn(f"{what}: works again")
