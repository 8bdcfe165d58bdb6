"""`crmkit links`: addresses of customers' own pages, made by hand. Whoever has one is taken for the customer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, read_time, with_call
from crmkit.cli.whom import profile_meant
from crmkit.core.errors import ConfigError
from crmkit.core.link import PURPOSES, Links

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

shop_option = click.option("--shop", metavar="NAME", help="The shop, where it is not clear.")


@click.group()
def links() -> None:
    """Make addresses of customers' own pages. Whoever has one is taken for the customer."""


@links.command()
@click.argument("number", metavar="ORDER")
@shop_option
@output.json_option
@with_call
def order(call: Call, number: str, shop: str | None, as_json: bool) -> None:
    """Print the address of the page of ORDER, named by its number or the shop's id for it."""
    _print_of_order(call, "order", number, shop, as_json)


@links.command()
@click.argument("number", metavar="ORDER")
@shop_option
@output.json_option
@with_call
def contact(call: Call, number: str, shop: str | None, as_json: bool) -> None:
    """Print the address where the buyer of ORDER leaves an e-mail address or a phone number."""
    _print_of_order(call, "contact", number, shop, as_json)


@links.command()
@click.argument("customer")
@shop_option
@output.json_option
@with_call
def statement(call: Call, customer: str, shop: str | None, as_json: bool) -> None:
    """Print the address of CUSTOMER's account with a shop (named as for `customers find`)."""
    made = _links(call)
    with call.reading() as tx:
        profile = _alive(tx, profile_meant(tx, customer), customer)
        number, name = _shop_of(tx, profile, shop)
    _print(call, made, "statement", profile, as_json, {"shop": name}, subject=number)


@links.command()
@click.argument("customer")
@output.json_option
@with_call
def preferences(call: Call, customer: str, as_json: bool) -> None:
    """Print the address where CUSTOMER says what to be told (named as for `customers find`)."""
    made = _links(call)
    with call.reading() as tx:
        profile = _alive(tx, profile_meant(tx, customer), customer)
    _print(call, made, "preferences", profile, as_json, {})


@links.command()
@click.argument("customer")
@click.option("--channel", default="email", show_default=True, help="The channel to hear no more offers by.")
@output.json_option
@with_call
def unsubscribe(call: Call, customer: str, channel: str, as_json: bool) -> None:
    """Print the address where CUSTOMER unsubscribes from offers (named as for `customers find`)."""
    made = _links(call)
    known = sorted(call.host.setup({}).channels)
    if channel not in known:
        raise ConfigError(f"there is no channel {channel!r}", who="links", do=f"known are {', '.join(known) or 'none'}")
    with call.reading() as tx:
        profile = _alive(tx, profile_meant(tx, customer), customer)
    _print(call, made, "unsubscribe", profile, as_json, {"channel": channel}, word=channel)


@links.command("list")
@click.argument("purpose", type=click.Choice(["contact", "order"]))
@click.option("--shop", required=True, metavar="NAME", help="The shop whose orders they are of.")
@click.option("--since", required=True, metavar="TIME", help="Orders placed since then: 2026-05-07, or with a time.")
@output.json_option
@with_call
def list_(call: Call, purpose: str, shop: str, since: str, as_json: bool) -> None:
    """Print a CSV of orders and the addresses of their pages: for codes on parcel inserts."""
    from crmkit.store import customers
    from crmkit.store import statement as orders

    made = _links(call)
    moment = read_time(since, "--since", call.zone)
    with call.reading() as tx:
        number = _shop_called(tx, shop)
        found = orders.orders_since(tx, number, moment)
        buyers = customers.by_id(tx, {row["profile_id"] for row in found})
    told = [
        (row["number"] or row["external_id"], made.make(purpose, row["profile_id"], call.now, subject=row["id"]))
        for row in found
        if buyers[row["profile_id"]]["forgotten_at"] is None
    ]
    if as_json:
        output.lines({"order": name, "link": url} for name, url in told)
    else:
        output.sheet(("order", "link"), told)


def _links(call: Call) -> Links:
    """What makes the links of this installation.

    Raises:
        ConfigError: its address, or a key to sign with, is missing.
    """
    config = call.host.config
    if config.web.url is None:
        what = "customers cannot reach this installation: [web] url is not set"
        raise ConfigError(what, who=str(config.path), do='set it: url = "https://crm.example.com"')
    if config.links is None:
        what = "there is no key to sign links with"
        raise ConfigError(what, who=str(config.path), do='set [crm] key = "env:CRMKIT_KEY", or [web] link_keys')
    return config.links


def _print_of_order(call: Call, purpose: str, text: str, shop: str | None, as_json: bool) -> None:
    made = _links(call)
    with call.reading() as tx:
        row = _order_meant(tx, text, shop)
        profile = _alive(tx, row["profile_id"], text)
    told = {"order": row["number"] or row["external_id"]}
    _print(call, made, purpose, profile, as_json, told, subject=row["id"])


def _print(
    call: Call, made: Links, purpose: str, profile: int, as_json: bool, told: Mapping[str, Any], **about: Any
) -> None:
    url = made.make(purpose, profile, call.now, **about)
    if not as_json:
        output.say(url)
        return
    letter, _ = PURPOSES[purpose]
    until = made.read(letter, url.rpartition("/")[2], call.now).until
    output.document({"purpose": purpose, "profile": profile, **told, "until": until, "link": url})


def _order_meant(tx: "Connection", text: str, shop: str | None) -> Mapping[str, Any]:
    """The one order a text means.

    Raises:
        ConfigError: there is none, or more than one, or nobody is known to have placed it.
    """
    from crmkit.store import accounts, report

    names = {row["id"]: row["name"] for row in accounts.every(tx)}
    at = _shop_called(tx, shop) if shop is not None else None
    found = [row for row in report.orders_called(tx, text) if at is None or row["shop_id"] == at]
    if not found:
        where = f" at {shop}" if shop is not None else ""
        raise ConfigError(f"no order{where} is called {text!r}", who="links", do="give its number or the shop's id")
    if len(found) > 1:
        several = ", ".join(f"{row['external_id']} at {names.get(row['shop_id'], '?')}" for row in found)
        raise ConfigError(f"{text!r} is more than one order: {several}", who="links", do="say --shop, or the shop's id")
    if found[0]["profile_id"] is None:
        raise ConfigError(f"nobody is known to have placed {text!r}", who="links", do="wait until its shop says who")
    return found[0]


def _alive(tx: "Connection", profile: int, text: str) -> int:
    """The profile, unless its customer was forgotten: then no page would open."""
    from crmkit.store import customers

    if customers.is_forgotten(tx, profile):
        raise ConfigError(f"{text!r} was forgotten; no page opens for them", who="links", do="leave them alone")
    return profile


def _shop_called(tx: "Connection", name: str) -> int:
    from crmkit.store import accounts

    shops = {row["name"]: row["id"] for row in accounts.every(tx) if row["kind"] == "shop"}
    if name not in shops:
        known = ", ".join(sorted(shops)) or "none"
        raise ConfigError(f"no shop is called {name!r}", who="links", do=f"known are {known}")
    number: int = shops[name]
    return number


def _shop_of(tx: "Connection", profile: int, name: str | None) -> tuple[int, str]:
    """The shop that was said, else the only one the customer bought at."""
    from crmkit.store import accounts, search

    names: dict[int, str] = {row["id"]: row["name"] for row in accounts.every(tx) if row["kind"] == "shop"}
    if name is not None:
        return _shop_called(tx, name), name
    bought = sorted({row["shop_id"] for row in search.dossier(tx, _family(tx, profile))["orders"]} & set(names))
    if len(bought) == 1:
        return bought[0], names[bought[0]]
    at = ", ".join(names[one] for one in bought) or "no shop"
    raise ConfigError(f"the customer bought at {at}", who="links", do="say which: --shop NAME")


def _family(tx: "Connection", profile: int) -> int:
    from crmkit.store import customers

    return customers.family_of(tx, [profile])[profile]
