"""`crmkit consent`: what customers allowed and forbade: show it, enter it, import it."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output, words
from crmkit.cli.call import Call, plural, read_time, with_call
from crmkit.core.customer import normal_email, normal_phone
from crmkit.core.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_PURPOSES = ("transactional", "marketing", "*")
_STATES = ("granted", "withdrawn")
_COLUMNS = ("customer", "address", "state", "channel", "purpose", "occurred_at", "source", "wording")


@click.group()
def consent() -> None:
    """Show and enter what customers allowed and forbade."""


@consent.command()
@click.argument("customer")
@output.json_option
@with_call
def show(call: Call, customer: str, as_json: bool) -> None:
    """Show a customer's entries in the ledger, and what may be said because of them."""
    from crmkit.cli.permission import PURPOSES, ways
    from crmkit.cli.whom import customer_meant
    from crmkit.store import accounts, facts, search

    with call.reading() as tx:
        family = customer_meant(tx, customer)
        found = search.dossier(tx, family)
        setup = call.setup(tx)
        reach = facts.reach_of(tx, [family], call.now)
        names = {row["id"]: row["name"] for row in accounts.every(tx)}
    found["consent"] = [{**row, "source": words.named(row["source"], names)} for row in found["consent"]]
    allowed = [way for purpose in PURPOSES for way in ways(setup, reach, family, purpose)]
    allowed = [replace(way, detail=words.named(way.detail, names)) for way in allowed]
    if as_json:
        output.document(
            {
                "customer": family,
                "entries": found["consent"],
                "suppressed": found["suppressed"],
                "ways": allowed,
            }
        )
        return
    entries = [
        (row["occurred_at"], row["channel"], row["purpose"], row["state"], row["address"], row["source"], row["actor"])
        for row in found["consent"]
    ]
    if entries:
        output.table(entries, ("at", "channel", "purpose", "state", "address", "source", "by"), zone=call.zone)
    else:
        output.say(f"customer #{family} never allowed or forbade anything")
    for row in found["suppressed"]:
        output.say(f"{row['address']} is written to no more over {row['channel']}: {row['reason']} ({row['source']})")
    if allowed:
        output.heading("what may be said now")
        print_ways(allowed)


def print_ways(allowed: list[Any]) -> None:
    """A table of ways: by which address what may be said, and why not."""
    rows = [
        (
            way.purpose,
            way.channel,
            way.kind,
            way.address,
            "yes" if way.reason is None else "no",
            way.detail or way.reason,
        )
        for way in allowed
    ]
    output.table(rows, ("purpose", "channel", "kind", "address", "allowed", "because"))


@consent.command("set")
@click.argument("who")
@click.argument("state", type=click.Choice(_STATES))
@click.option("--address", "is_address", is_flag=True, help="WHO is an address, whoever it belongs to.")
@click.option("--channel", default="*", show_default=True, help="The channel; * for all.")
@click.option("--purpose", default="marketing", show_default=True, type=click.Choice(_PURPOSES))
@click.option("--source", default="hand", show_default=True, help="Where it was said: a form, a letter, a call.")
@click.option("--wording", help="What exactly was agreed to.")
@click.option("--by", "actor", default="shop", show_default=True, help="Who enters it: shop, customer, staff:NAME.")
@click.option("--at", metavar="TIME", help="When it was said; now, if not given.")
@output.json_option
@with_call
def set_(
    call: Call,
    who: str,
    state: str,
    is_address: bool,
    channel: str,
    purpose: str,
    source: str,
    wording: str | None,
    actor: str,
    at: str | None,
    as_json: bool,
) -> None:
    """Enter that WHO (a customer, named as for `customers find`) allowed or forbade something."""
    from crmkit.flow.consent import enter

    said = {
        "channel": channel,
        "purpose": purpose,
        "state": state,
        "source": source,
        "wording": wording,
        "actor": actor,
    }
    moment = call.now if at is None else read_time(at, "--at", call.zone)
    listened = call.host.setup({}).listened
    with call.writing() as tx:
        subjects = _subjects(tx, *((None, who) if is_address else (who, None)))
        rows = [{**subject, **said, "occurred_at": moment} for subject in subjects]
        entered = enter(tx, rows, listened=listened, now=call.now)
    if as_json:
        output.lines(entered)
    else:
        output.say(f"{plural(len(entered), 'entry', 'entries')} made" if entered else "that was entered before")


def _subjects(tx: "Connection", customer: str | None, address: str | None) -> list[dict[str, Any]]:
    """Whom an entry is about: an address, or every profile of a customer."""
    from crmkit.cli.whom import customer_meant
    from crmkit.store import customers

    if address is not None:
        return [{"profile_id": None, "address": _normal(address)}]
    family = customer_meant(tx, customer or "")
    return [{"profile_id": number, "address": None} for number in customers.members(tx, [family])[family]]


def _normal(address: str) -> str:
    """An address as it is stored.

    Raises:
        ConfigError: it is neither an e-mail address nor a phone number with its country code.
    """
    try:
        return normal_email(address) if "@" in address else normal_phone(address, None)
    except ValueError as error:
        raise ConfigError(f"{address!r} {error}", who="consent", do="correct it") from error


@consent.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--shop", "shops", metavar="NAME", multiple=True, help="Of this shop; of all that were synced otherwise.")
@click.option("--plan", is_flag=True, help="Say what would be entered, and what not; write nothing.")
@output.json_option
@with_call
def import_(call: Call, file: Path, shops: tuple[str, ...], plan: bool, as_json: bool) -> None:
    """Enter consent from a CSV file with the columns customer or address, and state.

    Further columns: channel (*), purpose (marketing), occurred_at (now), source (the file's name), wording.
    A row that cannot be entered is named with its line; the others are. Exit code 1 if there is one. Once all were
    entered it is known who wanted no marketing before, and marketing leaves.
    """
    from crmkit.cli.whom import typist
    from crmkit.flow import opt_outs
    from crmkit.flow.consent import enter
    from crmkit.store import accounts

    listened = call.host.setup({}).listened
    now, refused = call.now, list[str]()
    entered, freed = 0, 0
    with call.reading() if plan else call.writing() as tx:
        entries: list[dict[str, Any]] = []
        for line, row in _rows(file):
            try:
                entries += _entries(call, tx, file, row, now)
            except (ConfigError, click.BadParameter) as error:
                reason = error.message if isinstance(error, click.BadParameter) else error.what
                refused.append(f"{file.name}:{line}: {reason}")
        if not entries and not refused:
            do = "take the whole list; where nobody opted out before, say so by `crmkit consent none-before`"
            raise ConfigError(f"{file} has no rows", who="consent", operation="import", do=do)
        if not plan:
            run = accounts.begin_run(tx, "consent import", now)
            rows = [{**entry, "run_id": run} for entry in entries]
            entered = len(enter(tx, rows, listened=listened, now=now))
            told = {"file": file.name, "entered": entered, "refused": len(refused), "by": typist()}
            accounts.end_run(tx, run, "failed" if refused else "done", told, call.now)
            if not refused:
                how = f"{len(entries)} entries of {file.name} imported"
                freed = opt_outs.know(tx, _shops(tx, shops), now, actor=typist(), how=how)
    if as_json:
        output.document({"read": len(entries), "entered": entered, "refused": refused, "freed": freed})
    else:
        known = len(entries) - entered
        done = f"{len(entries):,} would be entered" if plan else f"{entered:,} entered, {known:,} known already"
        output.say(f"{done}, {len(refused):,} refused")
        if freed:
            output.say(f"{plural(freed, 'message')} waited for this, and may leave")
        for reason in refused:
            output.warn(f"  {reason}")
    if refused:
        click.get_current_context().exit(1)


@consent.command("none-before")
@click.option("--reason", metavar="TEXT", required=True, help="Why there are none: a new shop, nothing was ever sent.")
@click.option("--shop", "shops", metavar="NAME", multiple=True, help="Of this shop; of all that were synced otherwise.")
@output.json_option
@with_call
def none_before(call: Call, reason: str, shops: tuple[str, ...], as_json: bool) -> None:
    """Say that nobody opted out of marketing before crmkit, so that there is no list to import.

    Until that is said of a shop, or `crmkit consent import` has entered its list, its marketing waits.
    """
    from crmkit.cli.whom import typist
    from crmkit.flow import opt_outs
    from crmkit.store import accounts

    with call.writing() as tx:
        chosen = _shops(tx, shops)
        freed = opt_outs.know(tx, chosen, call.now, actor=typist(), how=f"none before: {reason}")
        names = [row["name"] for row in accounts.every(tx) if row["id"] in chosen]
    if as_json:
        output.document({"shops": names, "freed": freed})
    else:
        output.say(f"nobody opted out before of {', '.join(names)}; {plural(freed, 'message')} waited for this")


def _shops(tx: "Connection", names: Sequence[str]) -> set[int]:
    """The shops of these names; all that were synced where none is given.

    Raises:
        ConfigError: no shop of a name was synced; or none at all.
    """
    from crmkit.store import accounts

    known = {row["name"]: row["id"] for row in accounts.every(tx) if row["kind"] == "shop"}
    missing = next((name for name in names if name not in known), None)
    if missing is not None or not known:
        what = "no shop was ever synced" if missing is None else f"no shop {missing!r} was ever synced"
        raise ConfigError(what, who="consent", do=f"run `crmkit sync`; known are: {', '.join(known) or 'none'}")
    return {known[name] for name in names or known}


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their line.

    Raises:
        ConfigError: it is not UTF-8, or has not the columns that are needed.
    """
    from crmkit.host.document import nearest

    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = [(name or "").strip() for name in reader.fieldnames or ()]
            unknown = next((name for name in columns if name not in _COLUMNS), None)
            if unknown is not None:
                raise ConfigError(f"unknown column {unknown!r}", who=str(file), do=nearest(unknown, _COLUMNS))
            if "state" not in columns or not {"customer", "address"} & set(columns):
                raise ConfigError("needs the columns customer or address, and state", who=str(file), do="add them")
            for row in reader:
                yield reader.line_num, {(k or "").strip(): (v or "").strip() for k, v in row.items() if k}
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8", who=str(file), do="save it as UTF-8") from error


def _entries(call: Call, tx: "Connection", file: Path, row: dict[str, str], now: datetime) -> list[dict[str, Any]]:
    state, purpose = row.get("state", ""), row.get("purpose") or "marketing"
    if state not in _STATES:
        raise ConfigError(f"state is {state!r}, not granted or withdrawn")
    if purpose not in _PURPOSES:
        raise ConfigError(f"purpose is {purpose!r}, not transactional, marketing or *")
    said = {
        "channel": row.get("channel") or "*",
        "purpose": purpose,
        "state": state,
        "source": row.get("source") or file.name,
        "wording": row.get("wording") or None,
        "actor": "customer",
    }
    at = row.get("occurred_at")
    moment = read_time(at, "occurred_at", call.zone) if at else now
    subjects = _subjects(tx, row.get("customer") or None, row.get("address") or None)
    return [{**subject, **said, "occurred_at": moment} for subject in subjects]
