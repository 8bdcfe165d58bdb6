"""`crmkit db`: create, upgrade and look at the database; copy it, take it on, and let old things go."""

from typing import Any

import click

from crmkit.cli import adopt as adopting
from crmkit.cli import backup as copying
from crmkit.cli import output
from crmkit.cli import prune as pruning
from crmkit.cli.call import Call, with_call
from crmkit.core.errors import DatabaseError


@click.group()
def db() -> None:
    """Create, upgrade and look at the database; back it up, put it back, take it on."""


for _command in (copying.backup, copying.restore, adopting.adopt, pruning.prune):
    db.add_command(_command)


@db.command()
@output.json_option
@with_call
def upgrade(call: Call, as_json: bool) -> None:
    """Create the database, or bring it up to this program's version."""
    from crmkit.engine.fence import Fence
    from crmkit.store import migrate

    before = migrate.upgrade(call.host.config.database, call.host.migrations)
    with call.open_store() as store:
        where = store.where
        if before[0].current is None:
            with store.begin() as tx:
                Fence(call.host, store).name(tx, call.now)
    moved = [{"history": one.history, "from": one.current, "to": one.head} for one in before]
    if as_json:
        output.document({"database": where, "histories": moved})
        return
    for one in before:
        if one.is_current:
            output.say(f"{where}: {one.history} is of version {one.head} already")
        elif one.current is None:
            output.say(f"{where}: {one.history} was created, version {one.head}")
        else:
            output.say(f"{where}: {one.history} was upgraded from {one.current} to {one.head}")


@db.command()
@output.json_option
@with_call
def status(call: Call, as_json: bool) -> None:
    """Say which version the database is of, and count what is in it."""
    found, problem = _status(call)
    if as_json:
        output.document(found)
    else:
        _print(found)
    if problem is not None:
        raise problem


def _status(call: Call) -> tuple[dict[str, Any], DatabaseError | None]:
    """What is known of the database, and what keeps this program from using it."""
    from crmkit.store import migrate, report

    with call.open_store() as store:
        found: dict[str, Any] = {"database": store.where, "exists": not migrate.is_empty(store), "versions": []}
        if not found["exists"]:
            return {**found, "instance": None, "counts": dict(_NOTHING)}, None
        with store.read() as tx:
            versions = migrate.versions(tx, call.host.migrations)
            found["absent"] = migrate.absent(tx, call.host.migrations)
        found["versions"] = [
            {"history": one.history, "version": one.current, "needed": one.head, "is_current": one.is_current}
            for one in versions
        ]
        try:
            migrate.check(store, call.host.migrations)
        except DatabaseError as error:
            return {**found, "instance": None, "counts": None}, error
        with store.read() as tx:
            return {**found, "instance": adopting.standing(call.host, tx), "counts": report.counts(tx)}, None


_NOTHING: dict[str, Any] = {
    "customers": 0,
    "orders": 0,
    "order_lines": 0,
    "reviews": 0,
    "interactions": {},
    "messages": {},
    "quarantined": 0,
}


def _print(found: dict[str, Any]) -> None:
    output.say(found["database"])
    if not found["exists"]:
        output.say("does not exist yet; `crmkit sync` creates it")
        return
    for one in found["versions"]:
        state = "current" if one["is_current"] else f"this program needs {one['needed']}"
        output.say(f"{one['history']}: version {one['version'] or 'none'} ({state})")
    for name in found["absent"]:
        output.say(f"{name}: not loaded; its tables are left alone")
    counts = found["counts"]
    if counts is None:
        return
    output.say(f"fence: {adopting.in_words(found['instance'])}")
    plain = [(name.replace("_", " "), count) for name, count in counts.items() if isinstance(count, int)]
    output.heading("counts")
    output.table(plain, ("", "rows"), numbers=("rows",))
    for name in ("interactions", "messages"):
        rows = [(kind, count) for kind, count in counts[name].items() if count]
        if rows:
            output.heading(name)
            output.table(rows, ("", "rows"), numbers=("rows",))
