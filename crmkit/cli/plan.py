"""What `crmkit dispatch` is asked of a part of what is due, and what it says of plans: made, and applied."""

import socket
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output, words
from crmkit.cli.call import Call, plural
from crmkit.cli.given import check
from crmkit.cli.interactions import account_of
from crmkit.core.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crmkit.engine.apply import Applied
    from crmkit.engine.local import Local
    from crmkit.engine.plan import Plan
    from crmkit.store.choice import Choice
    from crmkit.store.engine import Store

#: Files of plans are removed after so long: when the next is made.
RETENTION = timedelta(days=7)
#: Rows of a plan that are shown; a file or JSON has all.
_SHOWN = 50
#: By what messages are chosen.
_KINDS = ("template", "channel", "gateway", "customer", "order", "shop")
#: What of a message has changed, in words.
_WHAT = {
    "new": "is new",
    "missing": "is missing",
    "address": "another address",
    "content_hash": "another text",
    "gateways": "other gateways",
    "not_before": "another time",
}


# --- what is chosen ---------------------------------------------------------------------------------------------------


def choice_of(tx: "Connection", only: Iterable[str], limit: int | None) -> "Choice":
    """The messages that `--only KIND=NAME` and `--limit N` leave.

    Raises:
        click.BadParameter: one is not written so.
        ConfigError: it names what there is not.
    """
    from crmkit.cli.whom import customer_meant
    from crmkit.store import accounts, customers, report
    from crmkit.store.choice import Choice

    named: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for text in only:
        kind, mark, name = text.partition("=")
        if not mark or not name or kind not in named:
            raise click.BadParameter(
                f"{text!r}; write {', '.join(f'{one}=...' for one in _KINDS)}", param_hint="--only"
            )
        named[kind].append(name)
    families = {customer_meant(tx, name) for name in named["customer"]}
    members = customers.members(tx, families)
    orders = [row for name in named["order"] for row in _orders(report.orders_called(tx, name), name)]
    known = accounts.every(tx) if named["shop"] else []
    shops = [account_of(known, name, "--only") for name in named["shop"]]
    of = customers.family_of(tx, [row["profile_id"] for row in orders if row["profile_id"] is not None])
    return Choice(
        templates=frozenset(named["template"]),
        channels=frozenset(named["channel"]),
        gateways=frozenset(named["gateway"]),
        customers=frozenset(families) if named["customer"] else None,
        profiles=frozenset(profile for family in families for profile in members[family]),
        orders=frozenset(row["id"] for row in orders) if named["order"] else None,
        buyers=frozenset(of.get(row["profile_id"]) for row in orders),
        shops=frozenset(number for number in shops if number is not None) if named["shop"] else None,
        limit=limit,
    )


def _orders(rows: "list[Mapping[str, Any]]", name: str) -> "list[Mapping[str, Any]]":
    if not rows:
        raise ConfigError(f"there is no order {name!r}", who="--only")
    return rows


def must_be_known(call: Call, choice: "Choice") -> None:
    """Refuse names of templates, channels and gateways that there are not: what is misspelt would choose nothing.

    Raises:
        ConfigError: one is not known.
    """
    channels = call.host.channels
    names = {entry.name for many in channels.values() for entry in many}
    for kind, given, known in (
        ("template", choice.templates, set(call.host.templates.names())),
        ("channel", choice.channels, set(channels)),
        ("gateway", choice.gateways, names),
    ):
        check(sorted(given), sorted(known), "--only", kind)


# --- made -------------------------------------------------------------------------------------------------------------


def must_be_free(call: Call, file: Path) -> None:
    """Refuse a file that a plan would take the place of, before it is made: all but another plan.

    Raises:
        ConfigError: it would.
    """
    from crmkit.engine import plan_file
    from crmkit.store.backup import belongs_to

    with call.open_store() as store:
        if store.file is not None and belongs_to(file, store.file):
            raise ConfigError("belongs to the database", who=str(file), do="name another file")
    plan_file.must_be_free(file)


def keep(local: "Local", store: "Store", plan: "Plan", file: Path) -> None:
    """Write a plan to its file, and note where: what is in it may have to be forgotten.

    Raises:
        ConfigError: it cannot be written.
    """
    from crmkit.engine import plan_file
    from crmkit.engine.apply import facts
    from crmkit.store import instance, plans

    wall = datetime.now(UTC)
    reach(store, None, before=wall - RETENTION)
    with store.begin() as tx:
        database, schema = facts(tx, local, wall)
        name = instance.name(tx)
        plans.note(tx, str(file.absolute()), socket.gethostname(), wall)
    plan_file.write(file, plan, plan_file.Made(name, database, schema, plan.now, wall), output.line)


def reach(store: "Store", profiles: Collection[int] | None, *, before: datetime | None = None) -> list[str]:
    """Remove plans of this machine that name somebody, or that are old; and what was left half written.

    Args:
        profiles: who is to be named; None: whoever it is.
        before: made before then.

    Returns:
        The files that were not reached, with their machines where those are others.
    """
    from crmkit.engine import plan_file
    from crmkit.store import plans

    host = socket.gethostname()
    with store.read() as tx:
        noted = plans.every(tx)
        named = None if profiles is None else plans.named(tx, profiles)
    plan_file.tidy([Path(row["path"]) for row in noted if row["host"] == host])
    rows = [row for row in noted if before is None or row["made_at"] < before]
    here = {Path(row["path"]): row for row in rows if row["host"] == host}
    gone, left = plan_file.forget(list(here), named)
    with store.begin() as tx:
        plans.drop(tx, [here[path] for path in gone])
    return [*map(str, left), *(f"{row['host']}:{row['path']}" for row in rows if row["host"] != host)]


def show(call: Call, plan: "Plan", file: Path | None) -> None:
    """Say what would leave and what would not, and why."""
    from crmkit.engine.plan import staying, totals

    rows = sorted(plan.rows, key=lambda row: (row["leaves_at"] is None, str(row["leaves_at"]), row["id"]))
    leaving = [row for row in rows if row["leaves_at"] is not None]
    output.say(f"{plural(len(leaving), 'message')} would leave, {len(rows) - len(leaving):,} would not")
    if leaving:
        columns = ("leaves at", "template", "channel", "to", "staff", "says")
        cells = [
            (
                row["leaves_at"],
                row["template"],
                row["channel"],
                row["address"],
                row["staff"],
                row["subject"] or row["text"],
            )
            for row in leaving[:_SHOWN]
        ]
        output.table(cells, columns, zone=call.zone)
        if len(leaving) > _SHOWN:
            output.say(f"and {len(leaving) - _SHOWN:,} more; all with --plan FILE or --json")
        output.heading("by gateway")
        added = [
            (one["channel"], one["gateway"], one["messages"], one["segments"], _price(one)) for one in totals(rows)
        ]
        names = ("channel", "gateway", "messages", "segments", "price")
        output.table(added, names, numbers=("messages", "segments"))
    stay = staying(rows)
    if stay:
        output.heading("would not leave")
        grouped = [(one["messages"], one["template"], one["state"], _because(one)) for one in stay]
        output.table(grouped, ("messages", "template", "state", "because"), numbers=("messages",))
    if plan.beyond:
        output.say(f"{plural(plan.beyond, 'customer')} more with something due, beyond the limit")
    if file is not None:
        output.say(f"written to {file}")
    if plan.decided.quiet:
        output.say(f"history tells nobody: {plural(plan.decided.quiet, 'message')} would have been sent")
    what = "nothing was decided" if file is not None else "nothing was written to the database"
    output.say(f"a plan: nothing was sent, and {what}")


def _price(total: Mapping[str, Any]) -> str:
    known = ", ".join(f"{amount} {currency}" for currency, amount in total["price"].items())
    if not known:
        return "not known"
    return f"{known}, {total['unpriced']:,} not known" if total["unpriced"] else known


def _because(one: Mapping[str, Any]) -> str:
    return words.reason(one["reason"]) or words.state(one["state"])


# --- applied ----------------------------------------------------------------------------------------------------------


def applied_facts(done: "Applied") -> dict[str, Any]:
    """What came of a plan, for programs."""
    return {
        "slices": done.slices,
        "again": done.again,
        "refused": sorted(done.refused),
        "differences": done.differences,
        "kept": dict(sorted(done.kept.items())),
        "waiting": done.waiting,
        "in_hand": done.in_hand,
        "in_hand_until": done.in_hand_until,
        "unchosen": done.unchosen,
    }


def show_applied(call: Call, done: "Applied", file: Path) -> None:
    """Say what came of a plan, and what has changed since it was made."""
    held = done.slices - len(done.refused)
    output.say(f"{file}: {held:,} of {plural(done.slices, 'slice')} as planned")
    for state, count in sorted(done.kept.items()):
        output.say(f"{plural(count, 'message')} of the plan before: {words.state(state)}")
    if done.waiting:
        output.warn(f"{plural(done.waiting, 'message')} of the plan still to leave: apply it again, or dispatch")
    if done.in_hand:
        are = "is" if done.in_hand == 1 else "are"
        until = f" until {output.moment(done.in_hand_until, call.zone)}" if done.in_hand_until else ""
        output.warn(
            f"{plural(done.in_hand, 'message')} of the plan {are} in the hands of another process{until}: "
            "apply it again then"
        )
    if done.unchosen:
        output.say(f"{plural(done.unchosen, 'message')} not chosen, in the outbox: the next dispatch sends what is due")
    if done.differences:
        output.heading("not as planned: these slices were left as they are")
        cells = [
            (one.slice, one.template, one.to, _WHAT[one.what], _short(call, one.was), _short(call, one.now), one.key)
            for one in done.differences[:_SHOWN]
        ]
        output.table(cells, ("slice", "template", "to", "what", "planned", "now", "key"), zone=call.zone)
        if len(done.differences) > _SHOWN:
            output.say(f"and {len(done.differences) - _SHOWN:,} more; all with --json")
        output.warn("error: the world has changed since the plan was made; make a new one for what was left")


def _short(call: Call, value: Any) -> Any:
    return value[:12] if isinstance(value, str) and len(value) == 32 else value
