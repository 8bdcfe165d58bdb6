"""`crmkit explain`: why a customer or a message is as it is, in words."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from crmkit.cli import output, words
from crmkit.cli.call import Call, plural, with_call
from crmkit.cli.given import NUMBER
from crmkit.cli.output import moment
from crmkit.core.message import Reason

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

#: (heading, sentences)
Story = list[tuple[str, list[str]]]


@click.group()
def explain() -> None:
    """Say why a customer or a message is as it is."""


def _print(title: str, story: Story, as_json: bool, facts: dict[str, Any]) -> None:
    if as_json:
        output.document({**facts, "story": [{"about": about, "sentences": told} for about, told in story]})
        return
    output.say(title)
    for about, told in story:
        if told:
            output.heading(about)
            for sentence in told:
                output.say(f"- {sentence}")


# --- a message --------------------------------------------------------------------------------------------------------


@explain.command()
@click.argument("message", type=NUMBER)
@output.json_option
@with_call
def message(call: Call, message: int, as_json: bool) -> None:
    """Say what caused a message, what it was made of, what let it pass or kept it, and what became of it."""
    from crmkit.cli.messages import unknown
    from crmkit.store import report

    with call.reading() as tx:
        found = report.message(tx, message)
        if found is None:
            raise unknown(message)
        chain = report.causes(tx, found["interaction_id"])
        names = _shops(tx)
    zone = call.zone
    story: Story = [
        ("what caused it", list(_cause(found, chain, names, zone))),
        ("what it was made of", list(_made_of(found))),
        ("where it was to go", list(_destination(found))),
        ("what the policies said", list(_policies(found, zone))),
        ("what became of it", [*_fate(found, zone), *_doubt(call, found, zone)]),
    ]
    title = f"Message #{message} ({found['template']}) {words.state(found['state'])}."
    facts = {name: found[name] for name in ("id", "key", "template", "state", "reason", "detail", "correlation_id")}
    _print(title, story, as_json, {**facts, "causes": chain})


def _shops(tx: "Connection") -> dict[int, str]:
    from crmkit.store import accounts

    return {row["id"]: row["name"] for row in accounts.every(tx)}


def _cause(found: dict[str, Any], chain: list[Any], names: dict[int, str], zone: ZoneInfo) -> Iterator[str]:
    shop = names.get(found["shop_id"])
    about = f" about order {found['order']}" if found["order"] else ""
    at_shop = f" at {shop}" if shop else ""
    if not chain:
        yield f"The interaction that caused it is not in the log{about}{at_shop}."
    for number, row in enumerate(chain):
        begin = "It was caused by" if number == 0 else "That was caused by"
        yield f"{begin} {words.interaction(row, zone)}{(about + at_shop) if number == 0 else ''}."
    yield f"The plugin {found['plugin']} asked for it when that was decided, {moment(found['decided_at'], zone)}."
    yield f"Its key is {found['key']}: the same key is never told twice."
    if found["correlation_id"] is not None:
        yield f"In the log it is {found['correlation_id']}, as is the webhook, or the page of a sync, it came of."


def _made_of(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"Template {found['template']}, {found['purpose']}"
        + (f", for readers of {found['locale']}" if found["locale"] else "")
        + (f", version {found['template_hash'][:12]}" if found["template_hash"] else "")
        + "."
    )
    if found["milestone"]:
        yield f"It tells that the order is {found['milestone']}; later news of the same order overtakes it."
    if found["text"] is None:
        yield "It was not rendered."
    elif found["segments"]:
        yield f"Rendered as {plural(found['segments'], 'segment')} ({found['encoding']}); what leaves is frozen."
    else:
        yield "Rendered when it was decided; what leaves is frozen."


def _destination(found: dict[str, Any]) -> Iterator[str]:
    who = f"{found['staff']} of the staff" if found["staff"] else f"customer profile {found['profile_id']}"
    if found["staff"] is None and found["profile_id"] is None:
        who = "who left an address on a page, to prove that it is theirs"
    if found["address"]:
        yield f"To {who}, {found['address_kind']} {found['address']}, over {found['channel']}."
    else:
        yield f"To {who}, over {found['channel']}; no address was chosen."
    if found["gateways"]:
        yield f"Gateways in order: {', '.join(found['gateways'])}."


def _policies(found: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    reason, detail = found["reason"], found["detail"]
    more = f" ({detail})" if detail else ""
    state = found["state"]
    if state == "suppressed":
        yield f"{reason}: {words.reason(reason)}{more}."
    elif state == "held":
        yield f"Held for {reason}: {words.reason(reason)}{more}."
    elif state == "queued" and reason is not None:
        yield f"It may leave from {moment(found['not_before'], zone)} on: {reason}, {words.reason(reason)}{more}."
    else:
        yield "Consent, suppression, age, later news, hours: each was asked when it was decided, and let it pass."
        if found["attempts"]:
            yield "Each was asked once more before it left, and let it pass."
    if found["not_before"] > found["decided_at"] and reason != "retry":
        yield f"It was not to leave before {moment(found['not_before'], zone)}."
    if found["expires_at"]:
        yield f"It is news until {moment(found['expires_at'], zone)}."


def _fate(found: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    for attempt in found["attempts"]:
        because = f", {attempt['reason']}: {words.reason(attempt['reason'])}" if attempt["reason"] else ""
        detail = f" ({attempt['detail']})" if attempt["detail"] else ""
        vendor = f"; the vendor calls it {attempt['vendor_id']}" if attempt["vendor_id"] else ""
        at = moment(attempt["started_at"], zone)
        yield f"Try {attempt['number']} by {attempt['gateway']}, {at}: {attempt['outcome']}{because}{detail}{vendor}."
    for receipt in found["receipts"]:
        because = f", {receipt['reason']}" if receipt["reason"] else ""
        detail = f" ({receipt['detail']})" if receipt["detail"] else ""
        yield f"The vendor said {receipt['state']}{because}{detail}, {moment(receipt['occurred_at'], zone)}."
    if not found["attempts"]:
        yield "It was never handed to a gateway."
    yield f"It {words.state(found['state'])}."


def _doubt(call: Call, found: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    """How it will be known what became of a message that is in doubt."""
    from crmkit.flow.record import looks_up
    from crmkit.flow.verdict import TRIES

    if found["state"] != "in-doubt":
        return
    name, asked = found["gateway"], found["look_ups"]
    do = "look for it in the vendor's own log"
    adapter = next((one.adapter for many in call.host.channels.values() for one in many if one.name == name), None)
    if adapter is None:
        yield f"The gateway {name} is not switched on, so its vendor is not asked; {do}."
    elif not looks_up(adapter):
        yield f"The vendor of {name} cannot be asked what became of it: a receipt may still tell; else {do}."
    elif asked >= TRIES:
        yield f"The vendor of {name} was asked {asked} times what became of it, and is asked no more; {do}."
    else:
        times = f", {plural(asked, 'time')} so far" if asked else ""
        when = words.due(found["not_before"], call.now, zone)
        yield f"The vendor of {name} is asked by a dispatch what became of it, {when}{times}."


# --- a customer -------------------------------------------------------------------------------------------------------


@explain.command()
@click.argument("customer")
@output.json_option
@with_call
def customer(call: Call, customer: str, as_json: bool) -> None:
    """Say who a customer is, what may be said to them and why, what was said and what was not, and what is to come."""
    from crmkit.cli.permission import PURPOSES, Way, ways
    from crmkit.cli.whom import customer_meant
    from crmkit.store import accounts, facts, report, search

    with call.reading() as tx:
        family = customer_meant(tx, customer)
        found = search.dossier(tx, family)
        members = [profile["id"] for profile in found["profiles"]]
        shared = search.shared_between(tx, family)
        setup = call.setup(tx)
        reach = facts.reach_of(tx, [family], call.now)
        sent = report.messages(tx, profiles=members, limit=200)
        timers, pending = search.timers_of(tx, members), search.pending_of(tx, members)
        names = _shops(tx)
        begins = {row["name"]: row["announce_from"] or call.now for row in accounts.every(tx)}
        unasked = [names[shop] for shop, is_known in accounts.opt_outs(tx).items() if not is_known]
    allowed: list[Way] = [way for purpose in PURPOSES for way in ways(setup, reach, family, purpose)]
    zone = call.zone
    story: Story = [
        ("who this is", list(_who(found, shared, names, zone))),
        ("what may be said", [*_may_be_said(found, allowed, names, zone), *_waits(allowed, unasked)]),
        ("what was said, and what was not", list(_said(sent, found["orders"], names, begins, zone))),
        ("what is to come", list(_to_come(timers, pending, call, zone))),
    ]
    name = found["name"] or "a customer without a known name"
    title = f"Customer #{family} is {name}, in stage {found['stage']} of cycle {found['cycle']}."
    _print(title, story, as_json, {"customer": family, "profiles": members, "ways": allowed})


def _who(found: dict[str, Any], shared: list[Any], names: dict[int, str], zone: ZoneInfo) -> Iterator[str]:
    for profile in found["profiles"]:
        if profile["forgotten_at"] is not None:
            at = moment(profile["forgotten_at"], zone)
            yield f"Profile {profile['id']} was forgotten {at}: nothing is known of it."
            continue
        strong = [one for one in profile["identities"] if one["is_strong"]]
        weak = [one for one in profile["identities"] if not one["is_strong"] and one["kind"] != "order"]
        told = f"Profile {profile['id']} is {_recorded(profile['key'], names)}"
        if strong:
            told += ", told by the shop's own buyer id"
        if weak:
            told += ", seen with " + ", ".join(f"{one['kind']} {one['value']}" for one in weak)
        yield f"{told}; first stored {moment(profile['created_at'], zone)}."
        if profile["merged_into"] is not None:
            yield f"A person merged it into profile {profile['merged_into']}."
    own = {profile["id"] for profile in found["profiles"]}
    for one in shared:
        together = set(one["profiles"]) & own
        if one["is_shared_by_too_many"]:
            count = plural(len(one["profiles"]), "profile")
            yield f"{one['kind']} {one['value']} is shared by {count}, too many to be one person's: it joins nobody."
        elif len(together) > 1:
            listed = ", ".join(map(str, sorted(together)))
            yield f"Profiles {listed} are one customer because all were seen with {one['kind']} {one['value']}."
        else:
            others = ", ".join(f"#{number}" for number in one["families"] if number != found["customer"])
            yield f"{one['kind']} {one['value']} is also seen with customer {others}, who is not the same: see review."
    if found["needs_review"]:
        yield "On the review list: links that were found are not followed; `crmkit customers review` says why."
    if len(own) == 1 and not shared:
        yield "Nothing links it to another profile."
    for order in found["orders"]:
        placed = f", placed {moment(order['placed_at'], zone)}" if order["placed_at"] else ""
        shop = names.get(order["shop_id"], "a shop")
        yield f"Order {order['number'] or order['external_id']} at {shop}: {order['status']}{placed}."


def _recorded(key: str, names: dict[int, str]) -> str:
    """What a profile is recorded under, in words."""
    kind, _, rest = key.partition(":")
    if kind == "buyer":
        scope, _, value = rest.rpartition(":")
        number = scope.removeprefix("shop:")
        where = names.get(int(number), scope) if scope.startswith("shop:") and number.isdigit() else scope
        return f"buyer {value} of {where}"
    if kind == "order":
        return f"the unnamed buyer of order {rest.partition(':')[2]}"
    return f"a guest with {kind} {rest}"


def _may_be_said(found: dict[str, Any], allowed: list[Any], names: dict[int, str], zone: ZoneInfo) -> Iterator[str]:
    if not found["addresses"]:
        yield "No address is known, so nothing can be said."
    elif not allowed:
        kinds = ", ".join(sorted({row["kind"] for row in found["addresses"]}))
        yield f"No configured gateway reaches what is known ({kinds}), so nothing can be said."
    for way in allowed:
        only = f", about order {way.scope.partition(':')[2]} only" if way.scope else ""
        what = f"{way.purpose} news by {way.channel} to {way.address}{only}"
        if way.reason is None:
            yield f"Yes: {what}."
        else:
            yield f"No: {what}: {way.reason}, {words.named(way.detail, names) or words.reason(way.reason)}."
    for row in found["consent"]:
        about = f" for {row['address']}" if row["address"] else ""
        wording = f' ("{row["wording"]}")' if row["wording"] else ""
        yield (
            f"{row['purpose']} over {row['channel']}{about} was {row['state']}"
            f" {moment(row['occurred_at'], zone)}, by {words.named(row['source'], names)}{wording}."
        )


def _waits(allowed: list[Any], shops: list[str]) -> Iterator[str]:
    """What marketing waits for that may be said otherwise.

    Args:
        shops: those of which nobody said yet who wanted none before.
    """
    if shops and any(way.reason is None and way.purpose == "marketing" for way in allowed):
        reason = words.reason(Reason.OPT_OUTS_UNKNOWN)
        do = "run `crmkit consent import FILE`, or `crmkit consent none-before --reason TEXT`"
        yield f"Of {', '.join(sorted(shops))} {reason}; {do}."


def _said(
    sent: list[Any], orders: list[Any], names: dict[int, str], begins: dict[str, datetime], zone: ZoneInfo
) -> Iterator[str]:
    for shop in sorted({names.get(order["shop_id"], "") for order in orders}):
        if any(
            names.get(order["shop_id"]) == shop and order["placed_at"] and order["placed_at"] < begins[shop]
            for order in orders
        ):
            yield f"What happened at {shop} before {moment(begins[shop], zone)} is history and was told nobody."
    if not sent:
        yield "Nothing was said, and nothing was held back."
    for row in sent[-20:]:
        about = f" about order {row['order']}" if row["order"] else ""
        because = f" ({row['reason']}: {words.reason(row['reason'])})" if row["reason"] else ""
        at = moment(row["sent_at"] or row["decided_at"], zone)
        yield f"#{row['id']} {row['template']}{about}, {at}: {words.state(row['state'])}{because}."
    if len(sent) > 20:
        counts = Counter(row["state"] for row in sent[:-20])
        earlier = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        yield f"Earlier: {earlier}."


def _to_come(timers: list[Any], pending: list[Any], call: Call, zone: ZoneInfo) -> Iterator[str]:
    for row in timers:
        yield f"{row['type']} for the plugin {row['plugin']}, {words.due(row['due_at'], call.now, zone)}."
    for row in pending:
        plugin = f" for the plugin {row['plugin']}" if row["plugin"] else ""
        error = f"; last error: {row['error']}" if row["error"] else ""
        if row["parked_at"] is not None:
            tries = plural(row["tries"], "try", "tries")
            yield f"{row['type']} (#{row['interaction_id']}){plugin} is parked after {tries}{error}."
        else:
            when = words.due(row["due_at"], call.now, zone)
            yield f"{row['type']} (#{row['interaction_id']}){plugin} is still to be decided, {when}{error}."
    if not timers and not pending:
        yield "Nothing is to be decided, and nothing is to happen later."
