"""`crmkit interactions`: what happened, and what plugins failed at decided again."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, plural, read_time, with_call
from crmkit.cli.given import NUMBER, check
from crmkit.core.errors import ConfigError


@click.group()
def interactions() -> None:
    """List what happened; decide again what was parked."""


def _what(row: Mapping[str, Any]) -> str:
    """What happened; of a schedule, which."""
    name = (row["payload"] or {}).get("schedule") if row["type"] == "schedule-due" else None
    return f"{row['type']} {name}" if name else str(row["type"])


@interactions.command("list")
@click.option("--customer", metavar="X", help="Of this customer, named as for `customers find`.")
@click.option("--type", "types", metavar="A,B", help="Of these types: order-shipped, ...")
@click.option("--shop", metavar="NAME", help="At this shop.")
@click.option("--order", metavar="ID", help="About this order.")
@click.option("--since", metavar="TIME", help="At or after this time.")
@output.limit_option()
@output.json_option
@with_call
def list_(
    call: Call,
    customer: str | None,
    types: str | None,
    shop: str | None,
    order: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List interactions, oldest first."""
    from crmkit.cli.whom import customer_meant
    from crmkit.store import accounts, report
    from crmkit.store import customers as profiles

    wanted = split(types)
    with call.reading() as tx:
        _check_types(wanted)
        known = accounts.every(tx)
        names = {row["id"]: row["name"] for row in known}
        members = None
        if customer is not None:
            family = customer_meant(tx, customer)
            members = profiles.members(tx, [family])[family]
        fitting = partial(
            report.interactions,
            tx,
            profiles=members,
            types=wanted,
            shop=account_of(known, shop),
            order=order,
            since=None if since is None else read_time(since, "--since", call.zone),
        )
        rows = output.last(lambda most: fitting(limit=most), limit)
    if as_json:
        output.lines({**row, "shop": names.get(row["shop_id"])} for row in rows)
        return
    cells = [
        (
            row["id"],
            row["occurred_at"],
            _what(row),
            row["profile_id"],
            names.get(row["shop_id"]),
            row["order"],
            row["actor"],
        )
        for row in rows
    ]
    columns = ("interaction", "at", "what", "profile", "shop", "order", "by")
    output.table(cells, columns, zone=call.zone)


@interactions.command()
@click.argument("numbers", type=NUMBER, nargs=-1, metavar="[INTERACTION]...")
@click.option("--plugin", metavar="NAME", help="What this plugin failed at.")
@click.option("--all", "everything", is_flag=True, help="Whatever failed too often.")
@output.json_option
@with_call
def retry(call: Call, numbers: tuple[int, ...], plugin: str | None, everything: bool, as_json: bool) -> None:
    """Let plugins decide again what they failed at too often and was parked; `crmkit dispatch` does.

    Only the plugin that failed is asked: what others made of it stands. Exit code 1 if nothing is parked of what is
    named by number.
    """
    from crmkit.cli.whom import typist
    from crmkit.store import accounts, log

    if not (numbers or plugin or everything):
        raise click.UsageError("name interactions by number, or give --plugin NAME or --all")
    with call.writing() as tx:
        rows = log.parked(tx, numbers=numbers or None, plugin=plugin)
        missing = sorted(set(numbers) - {row["interaction_id"] for row in rows})
        log.unpark(tx, [row["id"] for row in rows], call.now)
        if rows:
            run = accounts.begin_run(tx, "interactions retry", call.now)
            accounts.end_run(tx, run, "done", {"by": typist(), "decisions": len(rows)}, call.now)
    told = [{"interaction": r["interaction_id"], "plugin": r["plugin"], "type": r["type"]} for r in rows]
    if as_json:
        output.document({"retried": told, "not_parked": missing})
    else:
        for row in told:
            output.say(f"{row['plugin']} on {row['type']} #{row['interaction']}")
        count = plural(len(rows), "decision")
        output.say(f"{count} due again with the next `crmkit dispatch`" if rows else "nothing is parked")
        for number in missing:
            output.warn(f"nothing of interaction #{number} is parked")
    if missing:
        click.get_current_context().exit(1)


def split(written: str | None) -> list[str]:
    """The parts of a list given as `a,b`."""
    return [part.strip() for part in (written or "").split(",") if part.strip()]


def account_of(accounts: Iterable[Mapping[str, Any]], name: str | None, option: str = "--shop") -> int | None:
    """The number of a shop that was synced; gateways have accounts too, and are none.

    Args:
        option: by which it was named.

    Raises:
        ConfigError: none of this name was.
    """
    if name is None:
        return None
    shops: dict[str, int] = {row["name"]: row["id"] for row in accounts if row["kind"] != "gateway"}
    if name in shops:
        return shops[name]
    known = ", ".join(shops) or "none"
    raise ConfigError(f"no shop {name!r} was ever synced", who=option, do=f"known are: {known}")


def _check_types(types: list[str]) -> None:
    from crmkit.core.events import EVENTS

    check(types, list(EVENTS), "--type", "interaction")
