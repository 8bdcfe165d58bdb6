"""`crmkit dispatch`: decides what to say, and sends what is due."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output, words
from crmkit.cli.call import Call, of, plural, with_call
from crmkit.cli.pause import kept_back
from crmkit.cli.progress import dispatch_bars
from crmkit.core.errors import ConfigError
from crmkit.core.message import State

if TYPE_CHECKING:
    from crmkit.engine.local import DispatchRun
    from crmkit.engine.plan import Plan
    from crmkit.flow.decide import Decided

#: States a message of this run should not have ended in.
_BAD = (State.FAILED, State.IN_DOUBT, State.HELD)
#: Rows of a plan that are shown; a file or JSON has all.
_SHOWN = 50
_NO_FILE = "-"
#: A playbook that takes longer than this for 500 interactions is named, in seconds.
_SLOW = 1.0


@click.command()
@click.option(
    "--plan",
    is_flag=False,
    flag_value=_NO_FILE,
    metavar="[FILE]",
    help="Say what would leave and what would not, and why; commit nothing. With FILE: as JSON lines, into it.",
)
@output.json_option
@with_call
def dispatch(call: Call, plan: str | None, as_json: bool) -> None:
    """Decide what to say about what happened, and send what is due.

    With `--now TIME` before the command a past week is simulated: the clock steps from due time to due time.

    Exit code 1 if a decision failed, a gateway stopped, or a message failed, will be tried again, is in doubt or is
    held.
    """
    from crmkit.engine.local import Local

    if plan is not None:
        with call.rehearsing() as store:
            planned = Local(call.host, store).plan(now=call.given_now)
        _plan(call, planned, None if plan == _NO_FILE else Path(plan), as_json)
        return
    with call.open_store() as store, dispatch_bars(shown=not as_json) as progress:
        run = asyncio.run(Local(call.host, store).dispatch(now=call.given_now, progress=progress))
        with store.read() as tx:
            kept = kept_back(tx)
    facts = {**_facts(run), "kept": kept}
    if as_json:
        output.document(facts)
    else:
        _print(run)
    if run.fenced is not None:
        output.warn(f"error: {run.fenced}")
    unread = [of(one.shop, error) for one in run.taken for error in one.errors]
    for text in unread:
        output.warn(f"error: {text}")
    for name, error in run.delivered.stopped.items():
        output.warn(f"error: gateway {name} stopped: {error}")
    if run.retrying:
        output.warn(f"{plural(run.retrying, 'message')} will be tried again: `crmkit messages list --state queued`")
    for name, why in run.delivered.put_off.items():
        output.warn(f"gateway {name}: {why}")
    for text in kept:
        output.warn(text)
    _warn_of(run.decided)
    if run.decided.failures > len(run.decided.failed):
        output.warn(f"and {run.decided.failures - len(run.decided.failed):,} more")
    for plugin, seconds in run.decided.seconds.items():
        if seconds > _SLOW and seconds / run.decided.interactions > _SLOW / 500:
            output.warn(f"{plugin} is slow: {seconds:,.1f} s of {plural(run.decided.interactions, 'interaction')}")
    missing = [one for one in call.host.broken if one.needed_by.startswith(("gateway ", "playbook "))]
    bad = run.delivered.stopped or run.decided.failures or run.lapsed[1] or run.retrying or missing or unread
    bad = bad or run.fenced
    if bad or any(run.delivered.states[state] or run.decided.messages[state] for state in _BAD):
        click.get_current_context().exit(1)


def _warn_of(decided: "Decided") -> None:
    """Name what failed: each error once, however many interactions it befell."""
    found: dict[tuple[str, str], dict[int, None]] = {}
    for plugin, interaction, text in decided.failed:
        found.setdefault((plugin, text), {})[interaction] = None
    for (plugin, text), numbers in found.items():
        first = f"interaction #{next(iter(numbers))}"
        rest = f" and {plural(len(numbers) - 1, 'other')}" if len(numbers) > 1 else ""
        output.warn(f"error: {plugin} on {first}{rest}: {text}")


def _print(run: "DispatchRun") -> None:
    for one in run.taken:
        output.say(f"{one.shop}: {plural(one.webhooks, 'webhook')} taken in")
    if run.fenced is not None:
        return
    output.say(f"decided {plural(run.decided.interactions, 'interaction')}")
    if run.decided.messages:
        output.say("messages: " + _counted(run.decided.messages))
    if run.decided.quiet:
        output.say(f"history told nobody: {plural(run.decided.quiet, 'message')} would have been sent")
    if run.delivered.states:
        output.say("handed over: " + _counted(run.delivered.states))
    again, doubt = run.lapsed
    if again or doubt:
        output.say(f"left by a run that was cut off: {again:,} due again, {doubt:,} in doubt")
    if any(run.delivered.states[state] or run.decided.messages[state] for state in _BAD):
        output.warn("look at them: `crmkit messages list --state failed,in-doubt,held`")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()) if count)


def _facts(run: "DispatchRun") -> dict[str, Any]:
    return {
        "fenced": None if run.fenced is None else str(run.fenced),
        "webhooks": {one.shop: one.webhooks for one in run.taken},
        "decided": run.decided.interactions,
        "messages": {str(state): count for state, count in sorted(run.decided.messages.items())},
        "history": run.decided.quiet,
        "handed_over": {str(state): count for state, count in sorted(run.delivered.states.items())},
        "lapsed": {"due_again": run.lapsed[0], "in_doubt": run.lapsed[1]},
        "retrying": run.retrying,
        "put_off": run.delivered.put_off,
        "stopped": {name: str(error) for name, error in run.delivered.stopped.items()},
        "failures": run.decided.failures,
        "failed": [
            {"plugin": plugin, "interaction": number, "error": text} for plugin, number, text in run.decided.failed
        ],
    }


# --- the plan ---------------------------------------------------------------------------------------------------------

#: What a plan says of a message, in this order.
_COLUMNS = (
    "key",
    "state",
    "leaves_at",
    "reason",
    "detail",
    "template",
    "purpose",
    "locale",
    "channel",
    "gateways",
    "address_kind",
    "address",
    "staff",
    "profile_id",
    "shop_id",
    "order_id",
    "interaction_id",
    "plugin",
    "not_before",
    "expires_at",
    "subject",
    "text",
    "html",
    "encoding",
    "segments",
    "content_hash",
)


def _plan(call: Call, plan: "Plan", file: Path | None, as_json: bool) -> None:
    rows = sorted(plan.rows, key=lambda row: (row["leaves_at"] is None, str(row["leaves_at"]), row["id"]))
    if file is not None:
        _write(file, rows)
    if as_json:
        output.lines(_planned(rows))
    else:
        _print_plan(call, rows, file)
        if plan.decided.quiet:
            output.say(f"history tells nobody: {plural(plan.decided.quiet, 'message')} would have been sent")
        output.say("a plan: nothing was sent, and nothing was written to the database")
    _warn_of(plan.decided)
    if plan.decided.failed or any(row["state"] == State.HELD for row in rows):
        click.get_current_context().exit(1)


def _planned(rows: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    return ({name: row.get(name) for name in _COLUMNS} for row in rows)


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a plan so that only its owner can read it: it holds what buyers are told."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            file.chmod(0o600)
            for row in _planned(rows):
                stream.write(output.line(row) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot be written ({error.strerror})", who=str(file), do="name another file") from error


def _print_plan(call: Call, rows: list[dict[str, Any]], file: Path | None) -> None:
    leaving = [row for row in rows if row["leaves_at"] is not None]
    staying = [row for row in rows if row["leaves_at"] is None]
    output.say(f"{plural(len(leaving), 'message')} would leave, {len(staying):,} would not")
    if leaving:
        table = [
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
        output.table(table, ("leaves at", "template", "channel", "to", "staff", "says"), zone=call.zone)
        if len(leaving) > _SHOWN:
            output.say(f"and {len(leaving) - _SHOWN:,} more; all with --plan FILE or --json")
    if staying:
        counts = Counter((row["template"], row["state"], row["reason"]) for row in staying)
        grouped = [
            (count, template, state, words.reason(reason) or words.state(state))
            for (template, state, reason), count in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
        ]
        output.heading("would not leave")
        output.table(grouped, ("messages", "template", "state", "because"), numbers=("messages",))
    if file is not None:
        output.say(f"written to {file}")
