"""`crmkit quarantine`: what was refused: list it, show it, read it again."""

import asyncio
from collections import defaultdict
from typing import Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, plural, with_call
from crmkit.cli.given import COUNT, NUMBER
from crmkit.cli.interactions import account_of
from crmkit.core.errors import ConfigError


@click.group()
def quarantine() -> None:
    """List what was refused, show it, read it again."""


@quarantine.command("list")
@click.option("--shop", metavar="NAME", help="Of this shop.")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="The oldest so many.")
@output.json_option
@with_call
def list_(call: Call, shop: str | None, limit: int, as_json: bool) -> None:
    """List what is in quarantine: records that were refused, and fields that were left out of one."""
    from crmkit.store import accounts

    with call.reading() as tx:
        known = accounts.every(tx)
        names = {row["id"]: row["name"] for row in known}
        rows = accounts.open_quarantine(tx, account_of(known, shop))
    if as_json:
        output.lines({**row, "shop": names.get(row["account_id"])} for row in rows[:limit])
        return
    if not rows:
        output.say("nothing is in quarantine")
        return
    cells = [
        (row["id"], names.get(row["account_id"]), row["kind"], row["scope"], row["place"], row["reason"], row["tries"])
        for row in rows[:limit]
    ]
    output.table(cells, ("number", "shop", "record", "refused", "where", "because", "tries"))
    if len(rows) > limit:
        output.say(f"and {len(rows) - limit:,} more")


@quarantine.command()
@click.argument("number", type=NUMBER)
@output.json_option
@with_call
def show(call: Call, number: int, as_json: bool) -> None:
    """Show one refusal with its raw record."""
    from crmkit.store import accounts, report

    with call.reading() as tx:
        known = accounts.every(tx)
        names = {row["id"]: row["name"] for row in known}
        rows = report.quarantine_rows(tx, [number])
    if not rows:
        raise _unknown(number)
    row = {**rows[0], "shop": names.get(rows[0]["account_id"])}
    if as_json:
        output.document(row)
        return
    shown = (
        *("id", "shop", "stream", "webhook", "kind", "scope", "ref", "place", "reason"),
        *("seen_at", "tries", "resolved_at"),
    )
    told = {**row, "webhook": row["inbox_id"]}
    output.facts(((name.removesuffix("_at"), told[name]) for name in shown), zone=call.zone)
    if row["raw"]:
        output.heading("raw")
        output.say(row["raw"])


def _unknown(number: int) -> ConfigError:
    return ConfigError(f"there is no refusal {number}", who="quarantine", do="see `crmkit quarantine list`")


@quarantine.command()
@click.argument("numbers", type=NUMBER, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that is in quarantine.")
@click.option("--shop", metavar="NAME", help="Everything of this shop.")
@output.json_option
@with_call
def retry(call: Call, numbers: tuple[int, ...], everything: bool, shop: str | None, as_json: bool) -> None:
    """Read refused records again, by id; what can be taken now leaves the quarantine.

    Exit code 1 if something stays in quarantine.
    """
    from crmkit.store import accounts, report

    if not (numbers or everything or shop):
        raise click.UsageError("name refusals by number, or give --shop NAME or --all")
    with call.reading() as tx:
        known = accounts.every(tx)
        names = {row["id"]: row["name"] for row in known}
        rows = report.quarantine_rows(tx, numbers) if numbers else accounts.open_quarantine(tx, account_of(known, shop))
    for missing in set(numbers) - {row["id"] for row in rows}:
        raise _unknown(missing)
    rows = [row for row in rows if row["resolved_at"] is None]
    readable = [row for row in rows if row["ref"] is not None and names.get(row["account_id"]) in call.host.shops]
    for row in rows:
        if row not in readable:
            why = "it has no id to be read by" if row["ref"] is None else "its shop is not switched on"
            do = "correct it at its source and sync again"
            if row["inbox_id"] is not None:
                do = f"it came by a webhook, which `crmkit inbox replay {row['inbox_id']}` reads again"
            output.warn(f"{row['id']}: {row['place']}: {why}; {do}")
    told = asyncio.run(_read(call, names, readable))
    with call.reading() as tx:
        left = [row for row in report.quarantine_rows(tx, [row["id"] for row in rows]) if row["resolved_at"] is None]
    if as_json:
        output.document({"retried": len(readable), "resolved": len(rows) - len(left), "left": [r["id"] for r in left]})
    else:
        output.say(f"{plural(len(rows) - len(left), 'record')} taken, {len(left):,} still refused")
        for row in left:
            output.warn(f"  {row['id']}: {row['place']}: {row['reason']}")
    for error in told:
        output.warn(f"error: {error}")
    if left or told:
        click.get_current_context().exit(1)


async def _read(call: Call, names: dict[int, str], rows: list[Any]) -> list[str]:
    """Read these again, shop by shop. Returns what went wrong."""
    from crmkit.adapters.stream import Ref
    from crmkit.engine.local import Local
    from crmkit.store import accounts

    by_shop = defaultdict(list)
    for row in rows:
        by_shop[names[row["account_id"]]].append(row)
    told = []
    with call.open_store() as store:
        local = Local(call.host, store)
        for shop, refused in by_shop.items():
            refs = list(dict.fromkeys(Ref(row["kind"], row["ref"]) for row in refused))
            try:
                run = await local.retry_quarantine(shop, refs, now=call.given_now)
            except NotImplementedError:
                told.append(f"{shop}: its adapter cannot read by id; correct it at its source and sync again")
                continue
            told += [f"{shop}: {error}" for error in run.errors]
            await store.run(accounts.tried, [row["id"] for row in refused])
    return told
