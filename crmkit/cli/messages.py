"""`crmkit messages`: list messages, show one, try a template; what a person does to them is `intervention`'s."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output, words
from crmkit.cli.call import Call, with_call
from crmkit.cli.given import NUMBER, check
from crmkit.cli.interactions import account_of, split
from crmkit.cli.intervention import cancel, release, retry, settle
from crmkit.core.errors import AdapterError, ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crmkit.core.message import Receipt


@click.group()
def messages() -> None:
    """List messages, show one, try a template; retry, release, settle and cancel them."""


for _command in (retry, release, settle, cancel):
    messages.add_command(_command)


@messages.command("list")
@click.option("--customer", metavar="X", help="To this customer, named as for `customers find`.")
@click.option("--state", "states", metavar="A,B", help="In these states: queued, sent, held, suppressed, ...")
@click.option("--reason", "reasons", metavar="A,B", help="For these reasons: no-address, stale, ...")
@click.option("--template", metavar="NAME", help="From this template.")
@click.option("--shop", metavar="NAME", help="For this shop.")
@click.option("--order", metavar="ID", help="About this order.")
@output.limit_option()
@output.json_option
@with_call
def list_(
    call: Call,
    customer: str | None,
    states: str | None,
    reasons: str | None,
    template: str | None,
    shop: str | None,
    order: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List messages, oldest first: those that left, those that wait, and those that were not sent."""
    from crmkit.cli.whom import customer_meant
    from crmkit.core.message import Reason, State
    from crmkit.store import accounts, report
    from crmkit.store import customers as profiles

    check(split(states), [str(state) for state in State], "--state", "state")
    check(split(reasons), [str(reason) for reason in Reason], "--reason", "reason")
    with call.reading() as tx:
        check_names(call, tx, template=template)
        known = accounts.every(tx)
        names = {row["id"]: row["name"] for row in known}
        members = None
        if customer is not None:
            family = customer_meant(tx, customer)
            members = profiles.members(tx, [family])[family]
        fitting = partial(
            report.messages,
            tx,
            profiles=members,
            states=split(states),
            reasons=split(reasons),
            template=template,
            shop=account_of(known, shop),
            order=order,
        )
        rows = output.last(lambda most: fitting(limit=most), limit)
    if as_json:
        output.lines({**row, "shop": names.get(row["shop_id"])} for row in rows)
        return
    cells = [
        (
            row["id"],
            row["sent_at"] or row["decided_at"],
            row["template"],
            row["channel"],
            row["staff"] or row["address"],
            row["order"],
            row["state"],
            row["reason"],
        )
        for row in rows
    ]
    columns = ("message", "sent, else decided", "template", "channel", "to", "order", "state", "reason")
    output.table(cells, columns, zone=call.zone)


def check_names(call: Call, tx: "Connection", *, template: str | None = None, gateway: str | None = None) -> None:
    """Refuse a template or gateway that neither the configuration nor a message knows: nothing would be meant.

    Raises:
        ConfigError: it is given, and there is none.
    """
    from crmkit.store import interventions

    host = call.host
    for kind, name, known in (
        ("template", template, host.templates.names),
        ("gateway", gateway, lambda: [entry.name for entry in host.config.entries]),
    ):
        if name is not None and name not in known():
            check([name], sorted({*known(), *interventions.names(tx, kind)}), f"--{kind}", kind)


@messages.command()
@click.argument("message", type=NUMBER)
@output.json_option
@with_call
def show(call: Call, message: int, as_json: bool) -> None:
    """Show a message with its text, its tries and its receipts."""
    from crmkit.store import report

    with call.reading() as tx:
        found = report.message(tx, message)
    if found is None:
        raise unknown(message)
    if as_json:
        output.document(found)
        return
    zone = call.zone
    pairs = [
        ("message", f"#{found['id']}"),
        ("state", f"{found['state']}: {words.state(found['state'])}"),
        ("reason", f"{found['reason']}: {words.reason(found['reason'])}" if found["reason"] else None),
        ("detail", found["detail"]),
        ("template", f"{found['template']} ({found['locale']}, {found['purpose']}), by {found['plugin']}"),
        ("to", f"{found['staff'] or ''} {found['address'] or ''}".strip()),
        ("channel", f"{found['channel']} by {', '.join(found['gateways']) or 'no gateway'}"),
        ("order", found["order"]),
        ("decided", found["decided_at"]),
        ("not before", found["not_before"]),
        ("valid until", found["expires_at"]),
        ("sent", found["sent_at"]),
        ("segments", f"{found['segments']} ({found['encoding']})" if found["segments"] else None),
        ("key", found["key"]),
        ("correlation", found["correlation_id"]),
        ("subject", found["subject"]),
    ]
    output.facts(pairs, zone=zone)
    if found["text"]:
        output.heading("text")
        output.say(found["text"])
    for name, columns in (("attempts", _ATTEMPT), ("receipts", _RECEIPT), ("interventions", _INTERVENTION)):
        if found[name]:
            output.heading(name)
            if name == "attempts" and any(row["redirected_to"] for row in found[name]):
                columns = (*columns, "redirected_to")
            cells = [tuple(row[column] for column in columns) for row in found[name]]
            output.table(cells, [column.removesuffix("_at") for column in columns], zone=zone)


_ATTEMPT = ("number", "started_at", "finished_at", "gateway", "outcome", "reason", "vendor_id", "detail")
_INTERVENTION = ("at", "actor", "action", "was", "reason")
_RECEIPT = ("occurred_at", "received_at", "state", "reason", "vendor_id", "detail")


def unknown(message: int) -> ConfigError:
    """There is no such message."""
    return ConfigError(f"there is no message #{message}", who="messages", do="find it with `crmkit messages list`")


@messages.command()
@click.argument("template", required=False)
@click.option("--template", "named", metavar="NAME", help="The template, where it is not named before.")
@click.option("--channel", default="email", show_default=True, help="The channel whose text is meant.")
@click.option(
    "--order", "--as", metavar="ID", help="Fill it in as for this order, by number or id; else for a made-up one."
)
@click.option("--locale", help="The reader's language.")
@click.option("--shop", metavar="NAME", help="The shop it is sent for.")
@click.option(
    "--to",
    metavar="WHOM",
    help="Really send it: to an address, to somebody of [[staff]], or to `me`, over the channel's first gateway.",
)
@output.json_option
@with_call
def test(
    call: Call,
    template: str | None,
    named: str | None,
    channel: str,
    order: str | None,
    locale: str | None,
    shop: str | None,
    to: str | None,
    as_json: bool,
) -> None:
    """Fill in a template and show what it says; with --to, send it. Nothing is stored."""
    from crmkit.cli.sample import Sample

    if (template is None) == (named is None):
        raise click.UsageError("name one template")
    sample = Sample.of(call, template or named or "", channel, order=order, locale=locale, shop=shop)
    rendered = sample.render()
    receipt = None if to is None else asyncio.run(sample.send(rendered, to))
    shown: dict[str, Any] = {
        "template": sample.template.file,
        "purpose": sample.template.purpose,
        "locale": sample.template.locale,
        "subject": rendered.subject,
        "text": rendered.text,
        "html": rendered.html,
        "encoding": rendered.encoding,
        "segments": rendered.segments,
    }
    if receipt is not None:
        shown["receipt"] = {"outcome": receipt.outcome, "vendor_id": receipt.vendor_id, "detail": receipt.detail}
    if as_json:
        output.document(shown)
    else:
        for name in ("text", "html", "receipt"):
            shown.pop(name, None)
        output.facts(shown.items())
        output.say("")
        output.say(rendered.text)
        if receipt is not None:
            output.say("")
            output.say(_told(receipt))
    if receipt is not None and receipt.outcome != "accepted":
        raise AdapterError(receipt.detail or receipt.outcome, who=channel, operation="test")


def _told(receipt: "Receipt") -> str:
    detail = f": {receipt.detail}" if receipt.detail else ""
    return f"{receipt.outcome} for {receipt.message.address}{detail}"
