"""`crmkit sync`: reads shops and takes in what is new."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, of, plural, read_time, with_call
from crmkit.cli.progress import sync_bars

if TYPE_CHECKING:
    from crmkit.adapters.stream import Refused
    from crmkit.engine.inward import ShopRun

#: Refusals that are listed; the rest is counted.
_LISTED = 20
_WHATS = ("created", "updated", "unchanged", "refused")


@click.command()
@click.argument("shops", nargs=-1, metavar="[SHOP]...")
@click.option("--since", metavar="TIME", help="Read what changed since then; where the next sync goes on stays.")
@click.option("--ids", metavar="A,B", help="Read these orders only, by their id at the shop.")
@click.option("--plan", is_flag=True, help="Say what would be taken in, and why not; write nothing.")
@output.json_option
@with_call
def sync(call: Call, shops: tuple[str, ...], since: str | None, ids: str | None, plan: bool, as_json: bool) -> None:
    """Read shops and sources (all, or those named) and take in what is new.

    Exit code 1 if a shop could not be read to its end or records were refused, 2 if its configuration is wrong; all are
    named, and the rest is in.
    """
    from crmkit.engine.local import Local

    host = call.host
    asked: dict[str, Any] = {
        "since": None if since is None else read_time(since, "--since", call.zone),
        "ids": [part.strip() for part in (ids or "").split(",") if part.strip()],
        "now": call.given_now,
    }
    with call.rehearsing() if plan else call.open_store() as store, sync_bars(shown=not as_json) as progress:
        local = Local(host, store)
        step = local.plan_sync if plan else local.sync
        runs = asyncio.run(step(list(shops), progress=progress, **asked))
    if as_json:
        output.lines(_facts(run) for run in runs)
    else:
        _print(runs, plan)
    for run in runs:
        for error in _said(run):
            output.warn(f"error: {of(run.shop, error)}")
    wrong = max((error.exit_code for run in runs for error in run.errors), default=0)
    missing = [one for one in host.broken if one.needed_by.startswith(("shop ", "source "))]
    if missing or any(run.errors or run.tally.refused or run.tally.flaws for run in runs):
        click.get_current_context().exit(max(1, wrong))


def _said(run: "ShopRun") -> list[str]:
    """What went wrong, in words; what befell many of its streams alike is said once."""
    return list(dict.fromkeys(str(error) for error in run.errors))


def _print(runs: "list[ShopRun]", plan: bool) -> None:
    rows = [
        (run.shop, kind, *(counts[what] for what in _WHATS))
        for run in runs
        for kind, counts in sorted(run.tally.records.items())
    ]
    if rows:
        output.table(rows, ("shop", "record", *_WHATS), numbers=_WHATS)
    elif runs and not any(run.errors for run in runs):
        output.say("nothing new")
    elif not runs:
        output.say("no shop is switched on")
    for run in runs:
        if run.webhooks:
            output.say(f"{run.shop}: {plural(run.webhooks, 'webhook')} taken in")
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(run.tally.interactions.items()))
        if told:
            output.say(f"{run.shop}: {told}")
    for run in runs:
        _print_refused(run.tally.refused, f"{run.shop}: {plural(len(run.tally.refused), 'record')} refused")
        _print_refused(run.tally.flaws, f"{run.shop}: {plural(len(run.tally.flaws), 'field')} left out")
    if plan:
        output.say("a plan: nothing was written")
    elif any(run.tally.refused or run.tally.flaws for run in runs):
        output.say("what was refused is kept: `crmkit quarantine list`")


def _print_refused(refused: "list[Refused]", title: str) -> None:
    if not refused:
        return
    output.warn(f"{title}:")
    for one in refused[:_LISTED]:
        output.warn(f"  {one.place}: {one.reason}")
    if len(refused) > _LISTED:
        output.warn(f"  and {len(refused) - _LISTED:,} more")


def _facts(run: "ShopRun") -> dict[str, Any]:
    tally = run.tally
    return {
        "shop": run.shop,
        "webhooks": run.webhooks,
        "records": {kind: {what: counts[what] for what in _WHATS} for kind, counts in sorted(tally.records.items())},
        "interactions": dict(sorted(tally.interactions.items())),
        "refused": [_refusal(one) for one in tally.refused],
        "left_out": [_refusal(one) for one in tally.flaws],
        "errors": _said(run),
    }


def _refusal(one: "Refused") -> dict[str, Any]:
    return {"kind": one.kind, "place": one.place, "reason": one.reason, "ref": one.ref}
