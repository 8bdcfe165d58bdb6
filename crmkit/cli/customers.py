"""`crmkit customers`: find customers, show one, count whom can be reached."""

from typing import Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.cli.export import export
from crmkit.cli.family import apart, merge, review, unmerge
from crmkit.cli.forget import forget
from crmkit.cli.given import COUNT
from crmkit.cli.whom import customer_meant


@click.group()
def customers() -> None:
    """Find customers, show one, count whom can be reached, say who is one and who is not."""


@customers.command()
@click.argument("text")
@click.option("--limit", type=COUNT, default=50, show_default=True, help="At most so many.")
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


for _command in (review, merge, unmerge, apart, export, forget):
    customers.add_command(_command)
