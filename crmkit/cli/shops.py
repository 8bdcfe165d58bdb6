"""`crmkit shops`: the shops and sources a database knows, and what becomes of one that is renamed or has moved."""

from typing import Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.core.errors import ConfigError


@click.group()
def shops() -> None:
    """List the shops that are known, rename one."""


@shops.command("list")
@output.json_option
@with_call
def list_(call: Call, as_json: bool) -> None:
    """List shops and sources: those of the configuration, and those the database knows from before."""
    from crmkit.store import accounts, migrate, report

    stored: list[Any] = []
    moved: dict[int, Any] = {}
    with call.open_store() as store:
        if not migrate.is_empty(store):
            migrate.check(store, call.host.migrations)
            with store.read() as tx:
                stored = [row for row in accounts.every(tx) if row["kind"] != "gateway"]
                moved = report.last_moved(tx)
    configured = {account.name: account for account in call.host.config.accounts}
    rows = [
        {
            "name": row["name"],
            "kind": row["kind"],
            "adapter": row["adapter"],
            "account": row["vendor_account"],
            "announce_from": row["announce_from"],
            "last_news": moved.get(row["id"]),
            "state": "not in the configuration"
            if row["name"] not in configured
            else "on"
            if row["name"] in call.host.shops
            else "off",
        }
        for row in stored
    ]
    known = {row["name"] for row in rows}
    rows += [
        {"name": shop.name, "kind": shop.kind, "adapter": shop.adapter.name, "state": "never synced"}
        for shop in call.host.shops.values()
        if shop.name not in known
    ]
    if as_json:
        output.lines(rows)
        return
    names = ("name", "kind", "adapter", "account", "state", "announce_from", "last_news")
    cells = [tuple(row.get(name) for name in names) for row in rows]
    output.table(cells, (*names[:5], "announces from", "last news"), zone=call.zone)


@shops.command()
@click.argument("old")
@click.argument("new")
@output.json_option
@with_call
def rename(call: Call, old: str, new: str, as_json: bool) -> None:
    """Go on as NEW with what was synced as OLD, after its section in crmkit.toml was renamed."""
    from crmkit.store import accounts

    names = [account.name for account in call.host.config.accounts]
    if new not in names:
        raise ConfigError(
            f"there is no section of the name {new!r}",
            who="shops",
            operation="rename",
            do=f"rename the section in crmkit.toml first; there are {', '.join(names) or 'none'}",
        )
    with call.writing() as tx:
        number = accounts.rename(tx, old, new)
    if as_json:
        output.document({"account": number, "old": old, "new": new})
    else:
        output.say(f"{old} is {new} from now on; what was read of it, and what was told, stays as it is")


@shops.command()
@click.argument("shop")
@output.json_option
@with_call
def moved(call: Call, shop: str, as_json: bool) -> None:
    """Take what SHOP reads now for the same shop as before, though its vendor calls it otherwise."""
    from crmkit.store import accounts

    with call.writing() as tx:
        number = accounts.moved(tx, shop)
    if as_json:
        output.document({"account": number, "shop": shop})
    else:
        output.say(f"the next sync learns what {shop} is called now")
