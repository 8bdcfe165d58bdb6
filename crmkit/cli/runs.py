"""`crmkit runs`: what commands did to the database: list them, undo an import."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output
from crmkit.cli.asking import must_be_wanted
from crmkit.cli.call import Call, with_call
from crmkit.cli.given import NUMBER

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


@click.group()
def runs() -> None:
    """List what commands did, undo an import."""


@runs.command("list")
@output.limit_option(20)
@output.json_option
@with_call
def list_(call: Call, limit: int, as_json: bool) -> None:
    """List runs, the newest last: what they were, and what they brought."""
    from crmkit.store import undo

    with call.reading() as tx:
        rows = output.last(lambda most: undo.runs(tx, most), limit)
    if as_json:
        output.lines(rows)
        return
    if not rows:
        output.say("nothing ran yet")
        return
    cells = [(row["id"], row["command"], row["started_at"], row["outcome"] or "goes on", _told(row)) for row in rows]
    output.table(cells, ("run", "command", "began", "outcome", "brought"), zone=call.zone)


def _told(row: Mapping[str, Any]) -> str:
    """What a sync brought that was new, by account."""
    parts = []
    for account, kinds in (row["counts"] or {}).items():
        if row["command"] == "sync" and isinstance(kinds, dict) and account != "undone":
            fresh = {kind: counts.get("created", 0) for kind, counts in kinds.items() if isinstance(counts, dict)}
            parts += [f"{account}: {count:,} {kind}" for kind, count in sorted(fresh.items()) if count]
        elif isinstance(kinds, int | str):
            parts.append(f"{account}: {kinds}")
    return ", ".join(parts)


@runs.command()
@click.argument("run", type=NUMBER)
@click.option("--plan", is_flag=True, help="Say what would go and what would stay; write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.json_option
@with_call
def undo(call: Call, run: int, plan: bool, yes: bool, as_json: bool) -> None:
    """Take away what a sync, or an import of consent, brought: every row that it alone wrote.

    Refused once a message, or something of a plugin's, came of it. What others wrote too stays as it is.
    """
    from crmkit.cli.whom import typist
    from crmkit.flow.undo import undo as taken_away

    with _plan(call) as tx:
        done = taken_away(tx, run, call.now, by=typist())
    if plan or not (yes or as_json):
        _say(done, "would go", as_json and plan)
    if plan:
        if not as_json:
            output.say("a plan: nothing was written")
        return
    if not yes:
        must_be_wanted(f"undo run {run}?", "runs undo")
    with call.writing() as tx:
        done = taken_away(tx, run, call.now, by=typist())
    _say(done, "went", as_json)


@contextmanager
def _plan(call: Call) -> "Iterator[Connection]":
    """A transaction that is rolled back."""
    from crmkit.store import migrate

    with call.open_store() as store:
        migrate.check(store, call.host.migrations)
        with store.rehearse() as tx:
            yield tx


def _say(done: Any, what: str, as_json: bool) -> None:
    if as_json:
        output.document({"gone": done.counts, "kept": done.kept})
        return
    for name, count in sorted(done.counts.items()):
        output.say(f"{count:,} {name} {what}")
    for name, count in sorted(done.kept.items()):
        output.say(f"{count:,} {name} stay: others wrote something of them too")
    if not done.counts:
        output.say("nothing of it is its alone")
