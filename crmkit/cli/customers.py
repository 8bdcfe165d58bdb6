"""`crmkit customers`: find customers, show one, count whom can be reached."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.core.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


class _Customers(click.Group):
    """The commands of this module, and those that are in modules of their own."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "review": "crmkit.cli.family",
        "merge": "crmkit.cli.family",
        "unmerge": "crmkit.cli.family",
        "apart": "crmkit.cli.family",
        "forget": "crmkit.cli.forget",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order they are written in."""
        return [*self.commands, *self.elsewhere]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command when it is called."""
        if cmd_name in self.elsewhere:
            command: click.Command = getattr(import_module(self.elsewhere[cmd_name]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Customers)
def customers() -> None:
    """Find customers, show one, count whom can be reached, say who is one and who is not."""


def customer_meant(tx: "Connection", text: str) -> int:
    """The one customer a text means.

    Raises:
        ConfigError: there is none, or more than one.
    """
    from crmkit.store import search

    found = search.families_meant(tx, text, limit=6)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(
            f"nobody is known as {text!r}",
            who="customers",
            do="give a number, an e-mail address, a phone number, a buyer id, an order, or part of a name",
        )
    several = ", ".join(f"#{row['customer']} {row['name'] or ''}".strip() for row in search.overview(tx, found[:5]))
    more = ", ..." if len(found) > 5 else ""
    raise ConfigError(f"{text!r} fits more than one customer: {several}{more}", who="customers", do="say which: '#5'")


@customers.command()
@click.argument("text")
@click.option("--limit", default=50, show_default=True, help="At most so many.")
@output.json_option
@with_call
def find(call: Call, text: str, limit: int, as_json: bool) -> None:
    """Find customers by number ('#5'), e-mail, phone, buyer id, order, or part of a name or address."""
    from crmkit.store import search

    with call.reading() as tx:
        rows = search.overview(tx, search.families_meant(tx, text, limit)[:limit])
    if as_json:
        output.lines(rows)
        return
    if not rows:
        output.say(f"nobody is known as {text!r}")
        return
    shown = ("customer", "name", "stage", "cycle", "email", "phone", "orders", "last_order_at")
    cells = [tuple(row[name] for name in shown) for row in rows]
    output.table(cells, (*shown[:-1], "last order"), zone=call.zone, numbers=("orders",))


@customers.command()
@click.argument("customer")
@output.json_option
@with_call
def show(call: Call, customer: str, as_json: bool) -> None:
    """Show everything that is known of a customer (named as for `find`)."""
    from crmkit.store import accounts, report, search

    with call.reading() as tx:
        family = customer_meant(tx, customer)
        found = search.dossier(tx, family)
        members = [profile["id"] for profile in found["profiles"]]
        found["interactions"] = [dict(row) for row in report.interactions(tx, profiles=members, limit=30)]
        found["messages"] = [_short(row) for row in report.messages(tx, profiles=members, limit=30)]
        shops = {row["id"]: row["name"] for row in accounts.every(tx)}
    if as_json:
        output.document(found)
        return
    zone = call.zone
    head = (("customer", f"#{family}"), ("name", found["name"]), ("stage", f"{found['stage']}, cycle {found['cycle']}"))
    output.facts(head, zone=zone)
    output.heading("profiles")
    profiles = [
        (one["id"], one["key"], one["name"], one["locale"], one["city"], one["country"]) for one in found["profiles"]
    ]
    output.table(profiles, ("profile", "recorded as", "name", "locale", "city", "country"))
    if found["addresses"]:
        output.heading("addresses")
        addresses = [
            (row["kind"], row["value"], row["scope"], row["purposes"], row["valid_until"], row["seen_at"])
            for row in found["addresses"]
        ]
        columns = ("kind", "address", "only for", "purposes", "valid until", "last seen")
        output.table(addresses, columns, zone=zone)
    if found["orders"]:
        output.heading("orders")
        orders = [
            (
                shops.get(row["shop_id"]),
                row["number"] or row["external_id"],
                row["status"],
                output.money(row["total_minor"], row["currency"]),
                row["lines"],
                row["placed_at"],
            )
            for row in found["orders"]
        ]
        output.table(orders, ("shop", "order", "status", "total", "lines", "placed"), zone=zone, numbers=("total",))
    if found["interactions"]:
        output.heading("last interactions")
        events = [(row["occurred_at"], row["type"], row["order"], row["actor"]) for row in found["interactions"]]
        output.table(events, ("at", "what", "order", "by"), zone=zone)
    if found["messages"]:
        output.heading("last messages")
        sent = [
            (row["id"], row["decided_at"], row["template"], row["channel"], row["state"], row["reason"])
            for row in found["messages"]
        ]
        output.table(sent, ("message", "decided", "template", "channel", "state", "reason"), zone=zone)


def _short(row: Any) -> dict[str, Any]:
    left_out = ("text", "html", "params", "headers")
    return {name: value for name, value in row.items() if name not in left_out}


@customers.command()
@output.json_option
@with_call
def reach(call: Call, as_json: bool) -> None:
    """Count customers by the best way to reach them, for each purpose. Each column adds up to all customers."""
    from crmkit.cli.permission import PURPOSES, census

    with call.reading() as tx:
        counts = census(tx, call.setup(tx), call.now)
    ways = sorted(
        {way for purpose in PURPOSES for way in counts[purpose]},
        key=lambda way: ("(" not in way, -counts[PURPOSES[0]][way], way),
    )
    total = sum(counts[PURPOSES[0]].values())
    if as_json:
        output.document({"customers": total, **{purpose: dict(counts[purpose]) for purpose in PURPOSES}})
        return
    rows: list[tuple[Any, ...]] = [
        (way if "(" in way else f"nobody: {way}", *(counts[purpose][way] for purpose in PURPOSES)) for way in ways
    ]
    rows.append(("all customers", *(sum(counts[purpose].values()) for purpose in PURPOSES)))
    output.table(rows, ("reached by", *PURPOSES), numbers=PURPOSES)
