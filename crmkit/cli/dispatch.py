"""`crmkit dispatch`: decides what to say, and sends what is due."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output
from crmkit.cli import plan as shown
from crmkit.cli.call import Call, of, plural, with_call
from crmkit.cli.given import FILE, MANY
from crmkit.cli.pause import kept_back
from crmkit.cli.progress import dispatch_bars
from crmkit.core.message import State

if TYPE_CHECKING:
    from crmkit.engine.local import DispatchRun
    from crmkit.flow.decide import Decided
    from crmkit.store.choice import Choice
    from crmkit.store.engine import Store

#: States a message of this run should not have ended in.
_BAD = (State.FAILED, State.IN_DOUBT, State.HELD)
_NO_FILE = "-"
#: A playbook that takes longer than this for 500 interactions is named, in seconds.
_SLOW = 1.0


@click.command()
@click.option(
    "--plan",
    is_flag=False,
    flag_value=_NO_FILE,
    metavar="[FILE]",
    help="Say what would leave and what would not, and why; decide and send nothing. With FILE: into it, for --apply.",
)
@click.option(
    "--apply",
    "applying",
    type=FILE,
    metavar="FILE",
    help="Send exactly what this plan says, as far as it comes to the same now; name what does not.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="KIND=NAME",
    help="Only what is of this template, channel, gateway, customer, order or shop. Repeatable.",
)
@click.option("--limit", type=click.IntRange(1, MANY), metavar="N", help="So many messages at the most.")
@output.json_option
@with_call
def dispatch(
    call: Call, plan: str | None, applying: Path | None, only: tuple[str, ...], limit: int | None, as_json: bool
) -> None:
    """Decide what to say about what happened, and send what is due.

    With `--now TIME` before the command a past week is simulated: the clock steps from due time to due time. A plan
    with a FILE, and what is chosen by --only and --limit, is one pass at that time.

    Exit code 1 if a decision failed, a gateway stopped, a message failed, will be tried again, is in doubt or is held,
    or what a plan says is not so any more, waits still, or is in the hands of another process.
    """
    if plan == "":
        raise click.BadParameter("the name of the file is empty", param_hint="--plan")
    if plan is not None and applying is not None:
        raise click.UsageError("--plan makes a plan and --apply sends one: give one of them")
    if plan is not None:
        _plan(call, None if plan == _NO_FILE else Path(plan), only, limit, as_json)
    elif applying is not None:
        _apply(call, applying, only, limit, as_json)
    else:
        _dispatch(call, only, limit, as_json)


def _chosen(call: Call, store: "Store", only: tuple[str, ...], limit: int | None) -> "Choice":
    from crmkit.store.choice import ALL

    if not only and limit is None:
        return ALL
    with store.read() as tx:
        choice = shown.choice_of(tx, only, limit)
    shown.must_be_known(call, choice)
    return choice


def _dispatch(call: Call, only: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    from crmkit.engine.apply import dispatch_chosen
    from crmkit.engine.local import Local

    with call.open_store() as store, dispatch_bars(shown=not as_json) as progress:
        local = Local(call.host, store)
        local.prepare()
        choice = _chosen(call, store, only, limit)
        if choice.is_all:
            run = asyncio.run(local.dispatch(now=call.given_now, progress=progress))
        else:
            run = asyncio.run(dispatch_chosen(local, choice, now=call.given_now, progress=progress))
        with store.read() as tx:
            kept = kept_back(tx)
    if as_json:
        output.document({**_facts(run), "kept": kept})
    else:
        _print(run)
    _end(call, run, kept)


def _apply(call: Call, file: Path, only: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    from crmkit.engine import plan_file
    from crmkit.engine.apply import apply
    from crmkit.engine.local import Local

    plan = plan_file.read(file)
    with call.open_store() as store, dispatch_bars(shown=not as_json) as progress:
        local = Local(call.host, store)
        local.prepare()
        choice = _chosen(call, store, only, limit)
        done = asyncio.run(apply(local, plan, now=call.given_now, choice=choice, progress=progress))
        with store.read() as tx:
            kept = kept_back(tx)
    if as_json:
        output.document({**_facts(done.run), "kept": kept, "plan": shown.applied_facts(done)})
    else:
        _print(done.run)
        if done.run.fenced is None:
            shown.show_applied(call, done, file)
    _end(call, done.run, kept, is_bad=bool(done.differences or done.waiting or done.in_hand))


def _end(call: Call, run: "DispatchRun", kept: list[str], *, is_bad: bool = False) -> None:
    """Say what went wrong in a run, and end accordingly."""
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
    bad = (run.delivered.stopped, run.decided.failures, run.lapsed[1], run.retrying, missing, unread, run.fenced)
    if is_bad or any(bad) or any(run.delivered.states[state] or run.decided.messages[state] for state in _BAD):
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


def _plan(call: Call, file: Path | None, only: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    from crmkit.engine import plan_file
    from crmkit.engine.local import Local

    if file is not None:
        shown.must_be_free(call, file)
    with call.rehearsing() as store:
        local = Local(call.host, store)
        choice = _chosen(call, store, only, limit)
        in_slices = file is not None or not choice.is_all or call.given_now is None
        plan = local.plan(now=call.given_now, in_slices=in_slices, choice=choice)
        if file is not None:
            shown.keep(local, store, plan, file)
    if as_json:
        output.lines(plan_file.message_lines(plan.rows))
    else:
        shown.show(call, plan, file)
    _warn_of(plan.decided)
    if plan.decided.failures or any(row["state"] == State.HELD for row in plan.rows):
        click.get_current_context().exit(1)
