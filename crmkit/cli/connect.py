"""`crmkit connect`: give an account what it needs to be used: a code is exchanged for tokens, which are remembered."""

import asyncio

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call


@click.command()
@click.argument("account")
@with_call
def connect(call: Call, account: str) -> None:
    """Connect an account whose vendor wants more than settings: what is asked here is kept, locked with CRMKIT_KEY."""
    from crmkit.engine.local import Local

    with call.open_store() as store:
        asyncio.run(Local(call.host, store).connect(account, _ask, now=call.given_now))
    output.say(f"{account} is connected")


async def _ask(question: str, *, secret: bool = False) -> str:
    answer: str = await asyncio.to_thread(click.prompt, question, hide_input=secret)
    return answer
