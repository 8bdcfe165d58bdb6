"""`crmkit doctor`: what is not as it should be, and what to do about it."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from crmkit.cli import adopt, enquiry, output, vitals, words
from crmkit.cli.call import Call, plural, with_call
from crmkit.cli.finding import Finding
from crmkit.cli.output import moment
from crmkit.cli.pause import opt_outs_wanted
from crmkit.core.errors import CrmkitError, DatabaseError
from crmkit.core.interaction import CRMKIT

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crmkit.host.host import Host

#: What waits longer than this is worth a look.
OLD = timedelta(days=1)
#: What is to be called at a time of day, and was not within this.
LATE = timedelta(hours=1)


@click.command()
@click.option("--offline", is_flag=True, help="Ask no shop and no gateway.")
@output.json_option
@with_call
def doctor(call: Call, offline: bool, as_json: bool) -> None:
    """Look at configuration, plugins, database, shops, gateways and work, and say what is not as it should be.

    Exit code 2 if the configuration or the database keeps crmkit from working, 1 if something else is to be mended.
    """
    host = call.open_host(strict=False)
    found = list(_configuration(host))
    if host.staging is not None:
        found.append(Finding("configuration", "note", str(host.staging)))
    has_database = False
    try:
        with call.reading() as tx:
            found += _database(host, tx)
            found += _work(call, tx)
        is_unusable, has_database = False, True
    except DatabaseError as error:
        is_missing = "does not exist" in str(error)
        found.append(Finding("database", "note" if is_missing else "bad", f"{error.what}; {error.do}"))
        is_unusable = not is_missing
    except CrmkitError:
        is_unusable = True  # said above
    if not offline:
        found = _of_one_mind(found, asyncio.run(enquiry.asked(host, has_database=has_database)))
    if as_json:
        output.lines(one.document() for one in found)
    else:
        for one in found:
            mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[one.level]
            output.say(f"{mark} {one.part}: {one.text}")
        bad = sum(one.level == "bad" for one in found)
        output.say(f"{plural(bad, 'thing')} to mend" if bad else "all is well")
    if is_unusable or any(problem.level == "error" for problem in host.problems):
        click.get_current_context().exit(2)
    if any(one.level == "bad" for one in found):
        click.get_current_context().exit(1)


def _of_one_mind(known: list[Finding], asked: list[Finding]) -> list[Finding]:
    """All findings. A gateway whose work is at a standstill is not called well because it answers now."""
    stands = {one.part for one in known if one.level == "bad" and one.part.startswith("gateway ")}
    told = [
        Finding(one.part, "note", f"{one.text} now; what is said of it above is of before")
        if one.level == "ok" and one.part in stands
        else one
        for one in asked
    ]
    return known + told


def _configuration(host: "Host") -> Iterator[Finding]:
    problems = list(dict.fromkeys(host.findings()))
    for problem in problems:
        yield Finding("configuration", "bad" if problem.level == "error" else "note", str(problem))
    if not any(problem.level == "error" for problem in problems):
        gateways = sum(len(entries) for entries in host.channels.values())
        told = f"{plural(len(host.shops), 'shop')}, {plural(gateways, 'gateway')}, "
        yield Finding("configuration", "ok", f"{host.config.path}: {told}{plural(len(host.playbooks), 'playbook')}")
    if not host.shops:
        yield Finding("configuration", "note", "no shop is switched on")
    if not host.channels:
        yield Finding("configuration", "note", "no gateway is switched on: messages will be held")


def _database(host: "Host", tx: "Connection") -> Iterator[Finding]:
    from crmkit.store import migrate, report

    versions = ", ".join(f"{one.history} {one.current}" for one in migrate.versions(tx, host.migrations))
    yield Finding("database", "ok", f"version {versions}")
    standing = adopt.standing(host, tx)
    level = "bad" if standing["fenced"] else "note" if standing["is_beside"] else "ok"
    beside = "; the note lies beside the database, and is copied with it: set CRMKIT_STATE" if level == "note" else ""
    yield Finding("fence", level, adopt.in_words(standing).removeprefix("database: ") + beside)
    wrong = report.integrity(tx)
    for text in wrong:
        yield Finding("database", "bad", f"{text}; restore a backup")
    if not wrong:
        yield Finding("database", "ok", "its file is sound" if tx.dialect.name == "sqlite" else "it answers")


def _work(call: Call, tx: "Connection") -> Iterator[Finding]:
    from crmkit.store import accounts, report

    now = call.now
    names = {row["id"]: row["name"] for row in accounts.every(tx)}
    count, parked = report.parked(tx, limit=3)
    if count:
        do = "mend the plugin, then run `crmkit interactions retry --all`"
        yield Finding("decisions", "bad", f"{plural(count, 'decision')} failed too often and were parked; {do}")
    for row in parked:
        yield Finding("decisions", "bad", f"{row['plugin']} on {row['type']} #{row['interaction_id']}: {row['error']}")
    late = report.overdue(tx, now, OLD)
    if late:
        what = f"{plural(late, 'interaction')} waited more than a day to be decided; run `crmkit dispatch`"
        yield Finding("decisions", "note", what)
    yield from _schedules(call, tx)
    for name, number in report.waiting(tx, now, OLD).items():
        yield Finding("records", "note", f"{number:,} {name} have waited more than a day for their order to arrive")
    for refused in report.quarantined(tx):
        kind = f"{refused['kind']} records" if refused["scope"] == "record" else f"fields of {refused['kind']} records"
        shop = names.get(refused["account_id"], "?")
        yield Finding("quarantine", "bad", f"{refused['count']:,} {kind} of {shop}; see `crmkit quarantine list`")
    for state, reasons in report.stuck_messages(tx, now, OLD).items():
        for reason, number in reasons.items():
            because = "due for more than a day" if reason == "due" else f"{reason}, {words.reason(reason)}"
            text = f"{plural(number, 'message')} {state}: {because}; see `crmkit messages list --state {state}`"
            yield Finding("messages", "note" if state == "failed" else "bad", text)
    waiting = opt_outs_wanted(tx)
    if waiting is not None:
        yield Finding("consent", "bad", waiting)
    yield from _door(call, tx, names)
    yield from _gateways(call, tx)
    yield from vitals.gateways(call, tx)
    yield from vitals.work(call, tx)
    yield from _runs(call, tx)
    yield from vitals.accounts(call, tx)


def _schedules(call: Call, tx: "Connection") -> Iterator[Finding]:
    """What `@every` says should have been called, and was not."""
    from crmkit.store import log

    for (plugin, key), timer in sorted(log.schedules(tx, call.now - LATE).items(), key=lambda item: item[0]):
        name, at = key.removeprefix(log.SCHEDULE), moment(timer["due_at"], call.zone)
        is_away = plugin not in {one.name for one in call.host.playbooks}
        do = "it waits for its plugin, which is not loaded" if is_away else "run `crmkit dispatch`, or `crmkit run`"
        yield Finding(f"schedule {name}", "note", f"of {plugin} was due {at} and was not called; {do}")


def _door(call: Call, tx: "Connection", names: dict[int, str]) -> Iterator[Finding]:
    """Who called, and could not show that he was the account's vendor."""
    from crmkit.store import inbox

    for row in inbox.strangers(tx, (call.now - OLD).date()):
        count, at = plural(row["count"], "call"), moment(row["last_at"], call.zone)
        what = f"{count} since yesterday could not show to be its vendor's, the last {at}"
        do = "if its own webhooks are missing, compare the secret here with the one set at the vendor, and [web] url"
        yield Finding(f"webhooks of {names.get(row['account_id'], '?')}", "note", f"{what}; {do}")


def _gateways(call: Call, tx: "Connection") -> Iterator[Finding]:
    """What is paused, and receipts that belong to no message."""
    from crmkit.flow import pause
    from crmkit.store import outbox, pauses

    waiting = pause.waits(tx)
    for row in pauses.standing(tx):
        count = plural(waiting[row["scope"], row["name"]], "message")
        text = (
            f"{pauses.detail(row)}; {count} queued; `crmkit resume {row['scope']} {row['name']}".rstrip() + "` lifts it"
        )
        is_ours = row["actor"] == CRMKIT
        part = f"gateway {row['name']}" if is_ours and row["scope"] == "gateway" else "pause"
        yield Finding(part, "bad" if is_ours else "note", text)
    lost = outbox.given_up(tx)
    if lost:
        yield Finding("receipts", "note", f"{plural(lost, 'receipt')} named no message of ours within a day")


def _runs(call: Call, tx: "Connection") -> Iterator[Finding]:
    from crmkit.store import report

    zone = call.zone
    runs = report.last_runs(tx)
    for command in ("sync", "dispatch"):
        run = runs.get(command)
        if run is None:
            yield Finding(command, "note", "never ran")
            continue
        outcome = run["outcome"] or "was cut off, or is still running"
        bad = run["outcome"] not in {"done", None}
        yield Finding(command, "note" if bad else "ok", f"last begun {moment(run['started_at'], zone)}: {outcome}")
    if (pruned := runs.get("prune")) is not None:
        let_go = sum(((pruned["counts"] or {}).get("let_go") or {}).values())
        told = f"last begun {moment(pruned['started_at'], zone)}: {plural(let_go, 'old thing')} let go"
        yield Finding("prune", "ok", told)
