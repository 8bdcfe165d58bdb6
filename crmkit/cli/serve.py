"""`crmkit serve`: the door to the outside, until it is stopped."""

import asyncio
import signal
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING

import click

from crmkit.cli import output
from crmkit.cli.call import Call, told, with_call
from crmkit.cli.logs import say, with_log
from crmkit.cli.told import Told
from crmkit.core.duration import parse_duration
from crmkit.core.errors import ConfigError, CrmkitError
from crmkit.core.log import LISTENING, STEP_FAILED, STOPPED, told_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crmkit.engine.local import Local
    from crmkit.web.server import Server

    #: Something that goes on until it is told to stop.
    Part = Callable[[asyncio.Event], Awaitable[None]]


def duration(_: click.Context, __: click.Parameter, written: str) -> timedelta:
    """An option's span of time."""
    try:
        return parse_duration(written)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


host_option = click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
port_option = click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="Its port.")

linger_option = click.option(
    "--linger",
    default="0s",
    show_default=True,
    callback=duration,
    help="How long to let callers in once it is to end, so that a balancer may look elsewhere.",
)


@click.command()
@host_option
@port_option
@linger_option
@output.json_option
@with_log
@with_call
def serve(call: Call, host: str, port: int, linger: timedelta, as_json: bool) -> None:
    """Take in vendors' webhooks and show customers their pages, for ever.

    What comes in is taken in at once; shops are read, and messages sent, by `crmkit run` or `sync` and `dispatch`
    beside it. SIGINT and SIGTERM end it: what is in flight may end first.
    """
    from crmkit.engine.keeper import Keeper
    from crmkit.engine.local import Local

    if call.given_now is not None:
        raise click.UsageError("a server runs by the wall clock")
    with call.open_store() as store:
        local = Local(call.host, store)
        local.prepare()
        server = server_of(local, host, port, linger)
        asyncio.run(until_stopped(door(local, server), Keeper(local, Told(as_json)).run))
    say("stopped", STOPPED)


def server_of(local: "Local", host: str, port: int, linger: timedelta) -> "Server":
    """A server of an installation, which listens from now on.

    Raises:
        ConfigError: it cannot, or what it needs is not installed.
    """
    try:
        found: Server = import_module("crmkit.web.server").of(local, host, port, linger.total_seconds())
    except ModuleNotFoundError as error:
        if (error.name or "crmkit").partition(".")[0] == "crmkit":
            raise
        raise ConfigError(f"{error.name} is not installed", who="serve", do="pip install 'crmkit[web]'") from None
    where = f"http://{f'[{host}]' if ':' in host else host}:{found.port}"
    say(f"listening on {where}", LISTENING, host=host, port=found.port)
    return found


def door(local: "Local", server: "Server") -> "Part":
    """Serves; when it is told to stop, what was verified is kept before it ends."""
    from sqlalchemy.exc import SQLAlchemyError

    async def serving(stop: asyncio.Event) -> None:
        try:
            await server.run(stop)
        finally:
            try:
                await local.doors.close()
            except (CrmkitError, SQLAlchemyError) as error:
                say(f"error: {told(error)[0]}", STEP_FAILED, what="door", **told_of(error))

    return serving


async def until_stopped(*parts: "Part", again: "Callable[[], None] | None" = None) -> None:
    """Run parts side by side until SIGINT or SIGTERM, or until one of them ends; then all may end in their own time.

    Args:
        again: called for every signal after the first.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopped() -> None:
        if again is not None and stop.is_set():
            again()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped)

    async def run(part: "Part") -> None:
        try:
            await part(stop)
        finally:
            stop.set()

    ended = await asyncio.gather(*(run(part) for part in parts), return_exceptions=True)
    for result in ended:
        if isinstance(result, BaseException):
            raise result
