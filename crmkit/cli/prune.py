"""`crmkit db prune`: what is older than `[retention]` says is let go."""

import asyncio

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.core.duration import write_duration


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be let go, and how old things are; change nothing.")
@output.json_option
@with_call
def prune(call: Call, dry_run: bool, as_json: bool) -> None:
    """Let go what is older than [retention] says: texts, tries, vendors' words, bodies, runs.

    What repeats are told by stays. `crmkit run` does it once a day by itself.
    """
    from crmkit.engine.local import Local
    from crmkit.engine.pruning import Pruning

    with call.open_store() as store:
        local = Local(call.host, store)
        local.prepare()
        pruning = Pruning(call.host, store)
        if not dry_run:
            asyncio.run(local.expire(now=call.now))
            done = asyncio.run(pruning.run(call.now)) or {}
            if as_json:
                output.document({"let_go": done})
            elif any(done.values()):
                output.say("let go: " + ", ".join(f"{count:,} {name}" for name, count in done.items() if count))
            else:
                output.say("nothing is older than it is kept")
            return
        found = pruning.survey(call.now)
    kept = {name: "ever" if life is None else write_duration(life) for name, life in pruning.keep.items()}
    if as_json:
        output.lines(
            {
                "kind": one.name,
                "table": one.table,
                "kept_for": kept[one.name],
                "rows": one.kept,
                "oldest": one.oldest,
                "old": one.old,
                "becomes": "deleted" if one.deletes else "emptied",
            }
            for one in found
        )
        return
    rows = [
        (one.name, one.table, one.kept, one.oldest, kept[one.name], one.old, "deleted" if one.deletes else "emptied")
        for one in found
    ]
    columns = ("kind", "table", "rows", "oldest", "kept for", "old", "old rows are")
    output.table(rows, columns, zone=call.zone, numbers=("rows", "old"))
    output.say("nothing was changed")
