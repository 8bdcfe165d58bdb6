"""A database that was restored, copied, or is unknown here only plans, until a person adopts it.

Every case is done for real: databases are backed up, files copied, folders of notes left behind.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from sqlalchemy.engine import make_url

from crmkit.cli import cli
from crmkit.core.instance import Note
from crmkit.engine.notes import Notes
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.testing.database import PostgresServer

CONFIG = """\
[crm]
database = "{url}"
{more}

[plugins]
use = ["care"]

[shops.tea]
use = "files"
preset = "crmkit"
path = "exports"
region = "DE"
announce_from = 2026-05-01

[[channels.email]]
use = "folder"
path = "outbox"
sender = "Tea House <shop@tea.example>"

[[care.rules]]
on = "order-paid"
send = "order-paid"
via = ["email"]

[care.late]
enabled = false
"""
HEADER = "external_id,status,placed_at,paid_at,customer_id,name,email,total,currency,updated_at"


class Town:
    """A shop on a machine: a folder with its configuration and exports, and the folder its user's notes are in."""

    def __init__(self, folder: Path, url: str, machine: Path, more: str = "") -> None:
        self.folder, self.url, self.machine = folder, url, machine
        (folder / "exports").mkdir(parents=True, exist_ok=True)
        (folder / "crmkit.toml").write_text(CONFIG.format(url=url, more=more))
        self.env: dict[str, str] = {}

    @property
    def database(self) -> Path:
        return Path(make_url(self.url).database or "")

    def run(self, *arguments: str, input: str = "") -> Result:
        env = {"CRMKIT_STATE": str(self.machine), "CRMKIT_INSTANCE": None, **self.env}
        return CliRunner().invoke(cli, ["--config", str(self.folder / "crmkit.toml"), *arguments], env=env, input=input)

    def ok(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def orders(self, *numbers: int, at: datetime | None = None) -> None:
        """Orders were paid just now, or then: the export says so, and is read."""
        when = (at or datetime.now(UTC)).isoformat()
        lines = [HEADER]
        for n in numbers:
            lines.append(f"T{n},paid,{when},{when},c{n},Ann,ann{n}@buyers.example,10,EUR,{when}")
        (self.folder / "exports" / f"orders-{numbers[0]}.csv").write_text("\n".join([*lines, ""]))
        self.ok("sync")

    @property
    def mails(self) -> int:
        return len(list((self.folder / "outbox").glob("**/*.eml")))

    @property
    def states(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for row in self.rows(t.message):
            name = row["state"] if row["reason"] is None else f"{row['state']} {row['reason']}"
            found[name] = found.get(name, 0) + 1
        return found

    def rows(self, table: sa.Table) -> list[Any]:
        store = Store(self.url)
        try:
            with store.read() as tx:
                return list(tx.execute(sa.select(table)).mappings())
        finally:
            store.close()

    def name(self) -> str:
        return str(self.rows(t.instance)[0]["name"])


@pytest.fixture
def town(tmp_path: Path, migrated_url: str) -> Town:
    """A shop that told two buyers of their orders."""
    found = Town(tmp_path / "shop", migrated_url, tmp_path / "machine")
    found.orders(1, 2)
    found.ok("dispatch")
    assert found.mails == 2
    return found


Copy = Callable[[Town], str]


@pytest.fixture
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Copy]:
    """Copies a town's database; gives the address of the copy."""
    made: list[str] = []
    kind = request.getfixturevalue("database_kind")
    server: PostgresServer | None = request.getfixturevalue("postgres_server") if kind == "postgresql" else None

    def copy(town: Town) -> str:
        if server is None:
            file = tmp_path / f"copy-{len(made)}.db"
            with closing(sqlite3.connect(town.database)) as source, closing(sqlite3.connect(file)) as target:
                source.backup(target)
            made.append(str(file))
            return f"sqlite:///{file}"
        made.append(server.create(make_url(town.url).database or ""))
        return server.url(made[-1])

    yield copy
    if server is not None:
        for name in made:
            server.drop(name)


def put_back(town: Town, backup: str) -> None:
    """The copy's content takes the place of the town's own: the very database, as it was then."""
    if town.url.startswith("sqlite"):
        for suffix in ("-wal", "-shm"):
            Path(f"{town.database}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(make_url(backup).database or "", town.database)
        return
    source, target = Store(backup), Store(town.url)
    try:
        with source.read() as old, target.begin() as tx:
            for table in reversed(t.CORE):
                tx.execute(sa.delete(table))
            for table in t.CORE:
                rows = [dict(row) for row in old.execute(sa.select(table)).mappings()]
                if rows:
                    tx.execute(sa.insert(table), rows)
    finally:
        source.close()
        target.close()


def queue_for_later(town: Town, number: int) -> None:
    """An order's message is decided, and waits for some hours."""
    town.ok("pause", "all")
    town.orders(number)
    town.ok("dispatch")
    town.ok("resume", "all")
    store = Store(town.url)
    try:
        with store.begin() as tx:
            later = datetime.now(UTC) + timedelta(hours=9)
            tx.execute(sa.update(t.message).where(t.message.c.state == "queued").values(not_before=later))
    finally:
        store.close()
    assert town.states == {"sent": 2, "queued": 1}


def refused(town: Town, *words: str) -> str:
    """A dispatch is refused in one line, with these words, and leaves nothing."""
    before, states = town.mails, town.states
    result = town.run("dispatch")
    assert result.exit_code == 1, result.output
    errors = [line for line in result.output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, result.output
    for word in words:
        assert word in errors[0]
    assert "crmkit db adopt" in errors[0]
    assert (town.mails, town.states) == (before, states)
    return errors[0]


# --- the first use costs nobody anything ------------------------------------------------------------------------------


def test_a_new_database_sends_at_once_and_is_noted_outside_it(town: Town) -> None:
    # SEMANTICS 29
    note = Notes(town.machine).read(town.name())
    assert note is not None
    assert note.sequence == max(row["id"] for row in town.rows(t.attempt)) > 0
    town.orders(3)
    town.ok("dispatch")
    assert town.mails == 3
    after = Notes(town.machine).read(town.name())
    assert after is not None
    assert after.sequence > note.sequence


def test_notes_are_their_users_own(town: Town) -> None:
    assert town.machine.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in town.machine.iterdir())


# --- a restored backup ------------------------------------------------------------------------------------------------


def test_a_restored_backup_sends_nothing_twice(town: Town, copied: Copy) -> None:
    # SEMANTICS 29
    town.orders(3)
    backup = copied(town)  # the third is not decided yet
    town.ok("dispatch")
    town.orders(4)
    town.ok("dispatch")
    assert town.mails == 4
    put_back(town, backup)
    town.orders(5)  # what comes in goes on; the fourth is read again
    refused(town, "it is older than what left", str(town.machine))
    refused(town, "it is older than what left")
    assert "restored" not in town.ok("dispatch", "--plan")
    told = town.run("db", "adopt", "--yes")
    assert told.exit_code == 0, told.output
    town.run("dispatch")
    assert town.mails == 4
    assert town.states == {"sent": 2, "held may-have-left": 3}
    town.orders(6, at=datetime.now(UTC) + timedelta(minutes=10))
    result = town.run("--now", (datetime.now(UTC) + timedelta(minutes=20)).isoformat(), "dispatch")
    assert town.mails == 5, result.output


def test_what_was_queued_in_a_backup_is_held_and_not_sent_again(town: Town, copied: Copy) -> None:
    town.ok("pause", "all")
    town.orders(3)
    town.ok("dispatch")
    assert town.mails == 2
    backup = copied(town)
    town.ok("resume", "all")
    town.ok("dispatch")
    assert town.mails == 3
    put_back(town, backup)
    refused(town, "older than what left")
    before = town.ok("db", "adopt", "--yes")
    assert "1 message" in before
    assert town.states == {"sent": 2, "held may-have-left": 1}
    town.ok("resume", "all")
    town.run("dispatch")
    assert town.mails == 3


def test_what_may_have_left_is_sent_again_where_that_is_asked_for(town: Town, copied: Copy) -> None:
    town.orders(3)
    backup = copied(town)
    town.ok("dispatch")
    put_back(town, backup)
    refused(town, "older than what left")
    assert town.states == {"sent": 2}
    town.ok("db", "adopt", "--resend", "--yes")
    town.ok("dispatch")
    assert town.states == {"sent": 3}


def test_a_mistyped_name_does_not_hide_that_a_backup_is_old(town: Town, copied: Copy) -> None:
    # SEMANTICS 29
    town.orders(3)
    backup = copied(town)
    town.ok("dispatch")
    put_back(town, backup)
    town.env["CRMKIT_INSTANCE"] = "tee-house"
    refused(town, "'tee-house'")
    town.ok("db", "adopt", "--yes")
    town.run("dispatch")
    assert town.mails == 3
    assert town.states == {"sent": 2, "held may-have-left": 1}


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_on_a_server_a_mistyped_name_does_not_hide_what_others_sent(town: Town, copied: Copy, tmp_path: Path) -> None:
    # SEMANTICS 29
    joining = Town(tmp_path / "joining", town.url, tmp_path / "other-home")
    joining.env["CRMKIT_INSTANCE"] = town.name()
    joining.ok("dispatch")  # its own note is low from here on
    town.orders(3)
    backup = copied(town)
    town.ok("dispatch")
    put_back(town, backup)
    joining.env["CRMKIT_INSTANCE"] = "tee-house"
    refused(joining, "'tee-house'")
    assert "held too" in joining.ok("db", "adopt", "--yes")
    joining.run("dispatch")
    assert (town.mails, joining.mails) == (3, 0)
    assert town.states == {"sent": 2, "held may-have-left": 1}


def test_what_was_doubtful_stays_so_when_it_is_adopted_once_more(town: Town, copied: Copy) -> None:
    backup = copied(town)
    paid = datetime.now(UTC)
    town.orders(3, at=paid)
    town.ok("dispatch")
    put_back(town, backup)
    refused(town, "older than what left")
    town.ok("db", "adopt", "--yes")
    town.env["CRMKIT_INSTANCE"] = "tea-house"
    refused(town, "'tea-house'")
    assert "is decided from now on is held" in town.ok("db", "adopt", "--yes")
    town.orders(3, at=paid)  # is read again only now
    town.run("dispatch")
    assert town.mails == 3
    assert town.states == {"sent": 2, "held may-have-left": 1}


def test_a_backup_from_before_the_first_message_does_not_take_on_another_name(tmp_path: Path, town: Town) -> None:
    found = Town(tmp_path / "new", town.url, town.machine)
    store = Store(town.url)
    try:
        with store.begin() as tx:
            tx.execute(sa.delete(t.attempt))
    finally:
        store.close()
    found.env["CRMKIT_INSTANCE"] = "tee-house"
    refused(found, "older than what left")


def test_what_staging_kept_in_a_backup_and_left_since_is_held(town: Town, copied: Copy) -> None:
    # SEMANTICS 29
    staged = Town(town.folder, town.url, town.machine, '[staging]\nallow = ["nobody@tea.example"]')
    staged.orders(3)
    staged.run("dispatch")
    assert town.states == {"sent": 2, "queued fenced": 1}  # for a day, unless the settings change
    backup = copied(town)
    town = Town(town.folder, town.url, town.machine)
    town.ok("dispatch")
    assert town.mails == 3
    put_back(town, backup)
    refused(town, "older than what left")
    assert "1 message may have left" in town.ok("db", "adopt", "--yes")
    town.run("dispatch")
    assert town.mails == 3
    assert town.states == {"sent": 2, "held may-have-left": 1}
    town.ok("messages", "release", "--reason", "may-have-left", "--yes")
    town.ok("dispatch")
    assert town.states == {"sent": 3}  # at once: what it waited for is over


def test_what_could_not_leave_yet_in_a_backup_leaves_when_its_time_comes(town: Town, copied: Copy) -> None:
    queue_for_later(town, 3)
    backup = copied(town)
    town.orders(4)
    town.ok("dispatch")
    put_back(town, backup)
    refused(town, "older than what left")
    town.ok("db", "adopt", "--yes")
    assert town.states == {"sent": 2, "queued": 1}


def test_adopting_asks_first(town: Town, copied: Copy) -> None:
    town.orders(3)
    backup = copied(town)
    town.ok("dispatch")
    put_back(town, backup)
    result = town.run("db", "adopt", input="n\n")
    assert result.exit_code != 0
    refused(town, "older than what left")


def test_one_sender_that_finds_it_old_stops_all_others(town: Town, copied: Copy, tmp_path: Path) -> None:
    backup = copied(town)
    other = Town(tmp_path / "other", town.url, tmp_path / "other-machine")
    other.env["CRMKIT_INSTANCE"] = town.name()
    other.ok("dispatch")
    town.orders(3)
    town.ok("dispatch")
    put_back(town, backup)
    assert other.run("dispatch").exit_code == 0  # its own note is as old
    refused(town, "older than what left")
    refused(other, "older than what left")
    town.ok("db", "adopt", "--yes")
    assert other.run("dispatch").exit_code == 0


def test_a_backup_from_before_an_adoption_is_old(town: Town, copied: Copy) -> None:
    backup = copied(town)
    town.orders(3)
    town.ok("dispatch")
    put_back(town, backup)
    refused(town, "older than what left")
    town.ok("db", "adopt", "--yes")
    town.ok("dispatch")
    put_back(town, backup)
    refused(town, "older than an adoption")


def test_a_newest_backup_goes_on(town: Town, copied: Copy) -> None:
    backup = copied(town)
    put_back(town, backup)
    town.orders(3)
    town.ok("dispatch")
    assert town.mails == 3


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_on_another_machine_sends_nothing(town: Town, tmp_path: Path) -> None:
    # SEMANTICS 29
    town.orders(3)
    if not town.url.startswith("sqlite"):
        pytest.skip("a server's database at the same place is that of another host; see below")
    elsewhere = Town(town.folder, town.url, tmp_path / "other-home")
    refused(elsewhere, "nothing here has sent for", town.name())
    assert "put aside" in elsewhere.ok("db", "adopt", "--yes")
    assert elsewhere.states == {"sent": 2}  # the third was not decided
    elsewhere.run("dispatch")
    assert elsewhere.states == {"sent": 2, "held may-have-left": 1}
    refused(town, "nothing here has sent for")  # it has a name of its own now


def test_two_clones_on_one_machine_do_not_both_send(town: Town, copied: Copy, tmp_path: Path) -> None:
    # SEMANTICS 29
    town.orders(3)
    clone = Town(tmp_path / "clone", copied(town), town.machine)
    refused(clone, "moved or copied")
    assert town.ok("dispatch")
    assert town.mails == 3
    clone.ok("db", "adopt", "--yes")
    clone.orders(9, at=datetime.now(UTC) + timedelta(minutes=10))
    assert clone.name() != town.name()
    clone.run("dispatch")
    assert clone.mails == 0
    town.orders(4)
    town.ok("dispatch")
    assert town.mails == 4


def test_a_name_that_is_given_does_not_hide_that_it_is_a_copy(town: Town, copied: Copy, tmp_path: Path) -> None:
    # SEMANTICS 29
    queue_for_later(town, 3)
    clone = Town(tmp_path / "clone", copied(town), town.machine)
    clone.env["CRMKIT_INSTANCE"] = "staging"
    refused(clone, "'staging'")
    clone.ok("db", "adopt", "--yes")
    assert clone.name() == "staging"
    assert clone.states == {"sent": 2, "held may-have-left": 1}


def test_a_live_copy_leaves_to_the_other_what_it_is_about_to_send(town: Town, copied: Copy, tmp_path: Path) -> None:
    # SEMANTICS 29
    queue_for_later(town, 3)
    town.orders(4)
    clone = Town(tmp_path / "clone", copied(town), town.machine)  # nothing has left since
    told = clone.ok("db", "adopt", "--yes")
    assert "may send all that is queued: 1 message held" in told
    clone.run("dispatch")
    assert clone.mails == 0
    assert clone.states == {"sent": 2, "held may-have-left": 2}
    town.ok("dispatch")
    assert town.mails == 3


def test_a_copy_of_one_that_has_stopped_goes_on_with_what_was_to_leave_later(
    town: Town, copied: Copy, tmp_path: Path
) -> None:
    queue_for_later(town, 3)
    moved = Town(tmp_path / "moved", copied(town), town.machine)
    moved.ok("db", "adopt", "--until", datetime.now(UTC).isoformat(), "--yes")
    assert moved.states == {"sent": 2, "queued": 1}


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_file_that_was_moved_is_still_itself(town: Town, tmp_path: Path) -> None:
    there = tmp_path / "moved.db"
    for suffix in ("-wal", "-shm", ""):
        if (file := Path(f"{town.database}{suffix}")).exists():
            file.rename(f"{there}{suffix}")
    moved = Town(town.folder, f"sqlite:///{there}", town.machine)
    moved.orders(3)
    moved.ok("dispatch")
    assert moved.mails == 3


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_name_in_a_configuration_that_is_copied_along_proves_nothing(town: Town, tmp_path: Path) -> None:
    folder = town.database.parent
    named = Town(folder, town.url, town.machine, f'instance = "{town.name()}"')
    named.ok("dispatch")
    named.machine = tmp_path / "other-home"
    refused(named, "nothing here has sent for")


# --- many machines ----------------------------------------------------------------------------------------------------


def test_a_container_without_its_volume_sends_only_if_it_is_told_the_name(town: Town, tmp_path: Path) -> None:
    # SEMANTICS 29
    town.orders(3)
    container = Town(tmp_path / "container", town.url, tmp_path / "nothing-kept")
    line = refused(container, f"CRMKIT_INSTANCE={town.name()}")
    assert str(tmp_path / "nothing-kept") in line
    container.env["CRMKIT_INSTANCE"] = town.name()
    assert container.run("dispatch").exit_code == 0
    assert container.mails == 1


def test_a_host_that_joins_is_given_the_name_once(town: Town, tmp_path: Path) -> None:
    folder = Path("/dev/shm") / tmp_path.name  # not beside the database
    try:
        joining = Town(folder / "joining", town.url, tmp_path / "state", f'instance = "{town.name()}"')
        joining.ok("dispatch")
        joining = Town(joining.folder, town.url, joining.machine)  # without the name: it has a note by now
        town.orders(3)
        joining.ok("dispatch")
        assert joining.mails == 1
        assert town.ok("dispatch")
    finally:
        shutil.rmtree(folder)


def test_another_name_than_the_databases_is_refused(town: Town) -> None:
    town.env["CRMKIT_INSTANCE"] = "somebody-elses"
    refused(town, "CRMKIT_INSTANCE says 'somebody-elses'", repr(town.name()))


def test_a_new_database_takes_the_name_it_is_given(tmp_path: Path, migrated_url: str) -> None:
    found = Town(tmp_path / "shop", migrated_url, tmp_path / "machine")
    found.env["CRMKIT_INSTANCE"] = "tea-house"
    found.orders(1)
    found.ok("dispatch")
    assert found.name() == "tea-house"


def test_without_a_place_for_notes_nothing_leaves_unless_the_name_is_given(tmp_path: Path, migrated_url: str) -> None:
    found = Town(tmp_path / "shop", migrated_url, tmp_path / "crmkit.file" / "state")
    (tmp_path / "crmkit.file").write_text("a file is where a folder should be")
    found.orders(1)
    result = found.run("dispatch")
    assert result.exit_code == 1
    assert "set CRMKIT_STATE" in result.output
    assert found.mails == 0
    found.env["CRMKIT_INSTANCE"] = "tea-house"
    found.ok("dispatch")
    assert found.mails == 1


def test_who_has_no_place_for_notes_hears_that_and_adopts_nothing(tmp_path: Path, migrated_url: str) -> None:
    town = Town(tmp_path / "shop", migrated_url, tmp_path / "machine")
    town.orders(1)
    new = town.machine
    for has_sent in (False, True):
        file = tmp_path / f"file-{has_sent}"
        file.write_text("a file is where a folder should be")
        town.machine = file
        before = town.rows(t.instance)
        for command in (["dispatch"], ["doctor", "--offline"], ["db", "adopt", "--yes"]):
            said = town.run(*command)
            assert f"what leaves cannot be noted ({file}: Not a directory)" in said.output, command
            assert said.exit_code == (2 if "adopt" in command else 1), command
        assert town.rows(t.instance) == before
        town.machine = new
        town.ok("dispatch")
    assert town.mails == 1


def test_a_note_that_can_be_written_is_enough_where_its_folder_cannot_be(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes")
    assert notes.closed("one") is None
    notes.rise(Note("one", 0, 5, datetime.now(UTC)))
    notes.folder.chmod(0o500)
    assert notes.closed("one") is None


# --- notes ------------------------------------------------------------------------------------------------------------


def test_a_note_never_steps_back_however_many_write_it(tmp_path: Path) -> None:
    program = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from crmkit.core.instance import Note
from crmkit.engine.notes import Notes
notes = Notes(Path(sys.argv[1]))
seen = 0
for number in range(int(sys.argv[2]), 600, 3):
    notes.rise(Note("one", 0, number, datetime.now(UTC)))
    found = notes.read("one")
    assert found is not None and found.sequence >= max(seen, number), (found, seen, number)
    seen = found.sequence
"""
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(n)]) for n in range(3)]
    assert [one.wait(60) for one in running] == [0, 0, 0]
    found = Notes(tmp_path).read("one")
    assert found is not None
    assert found.sequence == 599


def test_half_a_note_is_none(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.rise(Note("one", 0, 5, datetime.now(UTC)))
    notes.file("one").write_text('{"instance": "one", "ep')
    assert notes.read("one") is None
    notes.rise(Note("one", 0, 6, datetime.now(UTC)))
    assert json.loads(notes.file("one").read_text())["sequence"] == 6


def test_status_and_doctor_say_how_the_fence_stands(town: Town, tmp_path: Path) -> None:
    found = json.loads(town.ok("db", "status", "--json"))["instance"]
    assert (found["name"], found["fenced"]) == (town.name(), None)
    assert found["sequence"] == found["noted"]
    assert str(town.machine) in found["note"]
    said = [line for line in town.run("doctor", "--offline").output.splitlines() if "fence:" in line]
    assert len(said) == 1
    assert town.name() in said[0]
    other = Town(tmp_path / "other", town.url, tmp_path / "nowhere")
    found = json.loads(other.ok("db", "status", "--json"))["instance"]
    assert "nothing here has sent" in found["fenced"]
    assert "BAD  fence:" in other.run("doctor", "--offline").output
