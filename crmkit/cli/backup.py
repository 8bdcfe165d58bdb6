"""`crmkit db backup` and `db restore`: a database of SQLite in one file, and back."""

from pathlib import Path

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.cli.given import FILE
from crmkit.cli.progress import page_bar
from crmkit.core.errors import ConfigError


@click.command()
@click.argument("file", type=FILE)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@output.json_option
@with_call
def backup(call: Call, file: Path, force: bool, as_json: bool) -> None:
    """Copy the database into FILE, as it is at this moment, while everything goes on.

    The copy is looked through before it is called one. Only its owner can read it.
    """
    from crmkit.store import backup as copies
    from crmkit.store import migrate

    place = _place(call, "pg_dump --format=custom --file=FILE ADDRESS", "db backup")
    with call.open_store() as store:
        migrate.check(store, call.host.migrations)
    with page_bar("copied", shown=not as_json) as progress:
        kept = copies.backup(place, file, force=force, progress=progress)
    if as_json:
        output.document({"file": str(kept.file), "bytes": kept.size, "sequence": kept.sequence})
    else:
        output.say(f"{kept.file}: {kept.size:,} bytes, sound, up to try {kept.sequence:,} at delivering")


@click.command()
@click.argument("file", type=FILE)
@output.json_option
@with_call
def restore(call: Call, file: Path, as_json: bool) -> None:
    """Put a backup into the database's place. What was there is kept beside it.

    No process may use the database meanwhile. Afterwards it only plans, where more left than it knows of, until
    `crmkit db adopt`.
    """
    from crmkit.cli.adopt import standing
    from crmkit.store import backup as copies
    from crmkit.store import migrate
    from crmkit.store.engine import Store

    place = _place(call, "pg_restore --clean --if-exists --dbname=ADDRESS FILE", "db restore")
    older = False

    def check(copy: Path) -> None:
        nonlocal older
        found = Store(f"sqlite:///{copy.absolute()}")
        try:
            older = migrate.is_older(found, call.host.migrations, where=str(file))
        finally:
            found.close()

    with page_bar("copied", shown=not as_json) as progress:
        aside = copies.restore(file, place, call.now, check, progress=progress)
    told = None
    if not older:
        with call.reading() as tx:
            told = standing(call.host, tx)["fenced"]
    kept = None if aside is None else str(aside)
    if as_json:
        output.document({"database": str(place), "before": kept, "is_older": older, "fenced": told})
        return
    output.say(f"{place}: restored from {file}" + (f"; what was there is {kept}" if kept else ""))
    if older:
        output.say("it is of an older version: run `crmkit db upgrade`")
    elif told is not None:
        output.say(told)


def _place(call: Call, command: str, who: str) -> Path:
    """The database's file; a server's are its own program's work."""
    with call.open_store() as store:
        if store.file is None:
            what = f"{store.where} is on a server, whose own program does this"
            raise ConfigError(what, who=who, do=f"run `{command}`")
        return store.file
