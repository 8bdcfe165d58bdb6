"""`crmkit run`: sync and dispatch for ever, until it is stopped; and the door, where it is asked for."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.cli.logs import say, with_log
from crmkit.cli.serve import door, duration, host_option, linger_option, port_option, server_of, until_stopped
from crmkit.cli.told import Told
from crmkit.core.log import STOPPED

if TYPE_CHECKING:
    from crmkit.cli.serve import Part


@click.command()
@click.option("--every", default="60s", show_default=True, callback=duration, help="How long to rest between rounds.")
@click.option("--serve", is_flag=True, help="Be the server too: `crmkit serve` in the same process.")
@host_option
@port_option
@linger_option
@output.json_option
@with_log
@with_call
def run(call: Call, every: timedelta, serve: bool, host: str, port: int, linger: timedelta, as_json: bool) -> None:
    """Sync and dispatch in turn, for ever; adapters that hold a connection open, and webhooks, are heard at once.

    SIGINT and SIGTERM end it: what is in flight may end first. Says something where something happened.
    """
    from crmkit.engine.keeper import Keeper
    from crmkit.engine.local import Local
    from crmkit.engine.service import Service

    if call.given_now is not None:
        raise click.UsageError("a service runs by the wall clock; simulate with `crmkit --now TIME dispatch`")
    with call.open_store() as store:
        local, says = Local(call.host, store), Told(as_json)
        parts: list[Part] = [Service(local, every, says).run]
        if serve:
            local.prepare()
            server = server_of(local, host, port, linger)
            parts += [door(local, server), Keeper(local, says).run]
        asyncio.run(until_stopped(*parts))
    say("stopped", STOPPED)
