"""`crmkit inbox`: webhooks that were kept: list them, show one, read them again."""

import asyncio
from typing import Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, plural, with_call
from crmkit.cli.given import NUMBER
from crmkit.core.duration import write_duration
from crmkit.core.errors import ConfigError

_STATES = ("waiting", "done", "failed", "expired")


@click.group()
def inbox() -> None:
    """List webhooks that were kept, show one, read them again."""


@inbox.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Only those in this state.")
@click.option("--account", metavar="NAME", help="Only those of this shop, source or gateway.")
@output.limit_option()
@output.json_option
@with_call
def list_(call: Call, state: str | None, account: str | None, limit: int, as_json: bool) -> None:
    """List webhooks, the newest last."""
    from crmkit.store import accounts
    from crmkit.store import inbox as stored

    with call.reading() as tx:
        names = {row["id"]: row["name"] for row in accounts.every(tx)}
        wanted = [number for number, name in names.items() if account in {None, name}]
        if not wanted and account is not None:
            raise ConfigError(f"there is no account {account!r}", who="inbox", do="see `crmkit shops list`")
        rows = output.last(lambda most: stored.listed(tx, wanted, state, most), limit)
    if as_json:
        output.lines({**row, "account": names.get(row["account_id"])} for row in rows)
        return
    if not rows:
        output.say("no webhooks are kept")
        return
    cells = [
        (r["id"], names.get(r["account_id"]), r["received_at"], r["size"], r["state"], r["tries"], r["error"])
        for r in rows
    ]
    output.table(cells, ("number", "account", "received", "bytes", "state", "tries", "because"), zone=call.zone)


@inbox.command()
@click.argument("number", type=NUMBER)
@output.json_option
@with_call
def show(call: Call, number: int, as_json: bool) -> None:
    """Show one webhook with its body. A body may hold personal data."""
    from crmkit.store import accounts
    from crmkit.store import inbox as stored

    with call.reading() as tx:
        names = {row["id"]: row["name"] for row in accounts.every(tx)}
        row = stored.find(tx, number)
    if row is None:
        raise _unknown(number)
    body = row["body"].decode("utf-8", "backslashreplace")
    shown: dict[str, Any] = {**row, "account": names.get(row["account_id"]), "body": body}
    if as_json:
        output.document(shown)
        return
    told = ("id", "account", "received_at", "state", "tries", "error", "settled_at", "query", "headers")
    output.facts(((name.removesuffix("_at"), shown[name]) for name in told), zone=call.zone)
    output.heading("body")
    output.say(f"let go: bodies are kept for {_kept(call)}" if row["state"] == "expired" else body)


def _kept(call: Call) -> str:
    return write_duration(call.host.config.web.keep_bodies)


def _unknown(number: int) -> ConfigError:
    return ConfigError(f"there is no webhook {number}", who="inbox", do="see `crmkit inbox list`")


@inbox.command()
@click.argument("numbers", type=NUMBER, nargs=-1)
@click.option("--failed", is_flag=True, help="All that could not be read.")
@output.json_option
@with_call
def replay(call: Call, numbers: tuple[int, ...], failed: bool, as_json: bool) -> None:
    """Read webhooks again, by the parser there is now. What was taken in before changes nothing.

    What was refused of them, and is not any more, leaves the quarantine.

    Exit code 1 if one of them cannot be read.
    """
    from crmkit.engine.local import Local
    from crmkit.store import inbox as stored

    if not (numbers or failed):
        raise click.UsageError("name webhooks by number, or give --failed")
    with call.writing() as tx:
        wanted = {row["id"] for row in stored.listed(tx, None, "failed", None)} if failed else set(numbers)
        if stored.again(tx, sorted(wanted)) < len(wanted):
            there = {number: stored.find(tx, number) for number in sorted(wanted)}
            expired = [number for number, row in there.items() if row is not None and row["state"] == "expired"]
            if not expired:
                raise _unknown(min(number for number, row in there.items() if row is None))
            what = f"webhook {expired[0]} has expired: bodies are kept for {_kept(call)}"
            raise ConfigError(what, who="inbox replay", do="read the order again: `crmkit sync SHOP --ids ID`")
    with call.open_store() as store:
        runs = asyncio.run(Local(call.host, store).take_in(now=call.given_now))
    with call.reading() as tx:
        left = [row for row in (stored.find(tx, number) for number in sorted(wanted)) if row and row["state"] != "done"]
    if as_json:
        output.document({"replayed": len(wanted), "left": [row["id"] for row in left]})
    else:
        output.say(f"{plural(len(wanted) - len(left), 'webhook')} taken in")
        for row in left:
            output.warn(f"  {row['id']}: {row['error'] or 'its account is not switched on'}")
    errors = [error for run in runs for error in run.errors]
    if left or errors:
        click.get_current_context().exit(1)
