"""Real processes on machines that are against them: a full disk, a file that cannot be written, two at once."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CRMKIT = Path(sys.executable).parent / "crmkit"
#: And an hour later, past every lease.
NOW, LATER = "2026-05-08T20:00+02:00", "2026-05-08T21:00+02:00"
#: A minute after they were shipped: within a lease, which in a simulated run begins when what it sends was due.
SOON = "2026-05-08T11:01+02:00"
#: A process gets this long, in seconds: the machine may have much else to do.
PATIENCE = 600
CONFIG = """\
[crm]
database = "{database}"
timezone = "Europe/Berlin"

[plugins]
use = ["care"]

[shops.tea]
use = "files"
preset = "crmkit"
path = "exports"
currency = "EUR"
region = "DE"
announce_from = 2026-05-07

[[channels.email]]
use = "folder"
path = "outbox"

[[care.rules]]
on = "order-shipped"
send = "order-shipped"
via = ["email"]
"""
HEAD = "external_id,status,placed_at,paid_at,shipped_at,customer_id,name,email,total,updated_at"
ORDER = (
    "T{0},shipped,2026-05-07T10:00Z,2026-05-07T10:05Z,2026-05-08T09:00Z,c{0},Ada,ada{0}@buyers.example,10.00,"
    "2026-05-08T09:00Z"
)


class Place:
    """A folder with a shop, and processes run in it."""

    def __init__(self, folder: Path, orders: int, database: str = "sqlite:///crm.db") -> None:
        self.folder, self.orders, self.bound, self.now = folder, orders, list[str](), NOW
        (folder / "exports").mkdir()
        (folder / "exports" / "orders.csv").write_text("\n".join([HEAD, *map(ORDER.format, range(orders)), ""]))
        (folder / "crmkit.toml").write_text(CONFIG.format(database=database))
        self.environment = {**os.environ, "CRMKIT_STATE": str(folder / "state")}

    def begin(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        command = [*self.bound, str(CRMKIT), "--now", self.now, *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, **pipes, **options)

    def run(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        process = self.begin(*arguments, **options)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ok(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def messages(self) -> list[Mapping[str, Any]]:
        said = self.ok("messages", "list", "--json", "--limit", "99999")
        return [json.loads(line) for line in said.splitlines()]

    def all_is_told_once(self) -> None:
        """Every order has its message, which was handed over once."""
        assert Counter(row["state"] for row in self.messages()) == {"sent": self.orders}
        assert len(list((self.folder / "outbox").iterdir())) == self.orders


@pytest.fixture
def shop(tmp_path: Path) -> Place:
    place = Place(tmp_path, 200)
    place.ok("sync")
    return place


# --- a full disk ------------------------------------------------------------------------------------------------------


def no_larger(size: int) -> Any:
    """No file of this process grows beyond so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.e2e
@pytest.mark.parametrize("room", [0, 300_000])
def test_where_no_file_may_grow_the_run_ends_and_the_next_goes_on(shop: Place, room: int) -> None:
    size = (shop.folder / "crm.db").stat().st_size
    failed = shop.run("dispatch", preexec_fn=no_larger(room or size // 8))
    assert failed.returncode == 2
    assert "error: database sqlite:///" in failed.stderr
    assert "crm.db: disk I/O error; look whether its disk is full or failing" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1, failed.stderr
    said = shop.run("doctor", "--offline").stdout
    assert "its file is sound" in said
    shop.run("dispatch")
    shop.all_is_told_once()


FULL = """
set -e
mount -t tmpfs -o size=64m tmpfs {disk}
cp -r crmkit.toml exports {disk}
cd {disk}
{crmkit} --now {now} sync > {out}/sync
used=$(du -k crm.db | cut -f1)
mount -o remount,size=$((used + 200))k {disk}
set +e
{crmkit} --now {now} dispatch > {out}/full 2>&1
echo $? > {out}/code
{crmkit} --now {now} db status > {out}/status 2>&1
mount -o remount,size=64m {disk}
{crmkit} --now {now} dispatch > {out}/again 2>&1
{crmkit} --now {now} messages list --json --limit 99999 > {out}/messages
ls outbox | wc -l > {out}/files
"""


@pytest.mark.e2e
def test_a_disk_that_is_really_full_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """On a file system of its own that has no room left, where one may be made."""
    place = Place(tmp_path, 200)
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    out.mkdir()
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no file system can be made here")
    script = FULL.format(disk=disk, out=out, crmkit=CRMKIT, now=NOW)
    subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, env=place.environment, check=True, timeout=PATIENCE
    )
    full = (out / "full").read_text()
    assert (out / "code").read_text().strip() == "2"
    assert f"{disk}/crm.db: database or disk is full; free space on its disk, and run it again" in full
    states = Counter(json.loads(line)["state"] for line in (out / "messages").read_text().splitlines())
    assert states == {"sent": 200}, (out / "again").read_text()
    assert (out / "files").read_text().strip() == "200"


# --- what cannot be written -------------------------------------------------------------------------------------------


#: Root writes what nobody may, unless this is taken from it.
BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@contextmanager
def kept(folder: Path, *, file: int, directory: int) -> Iterator[None]:
    """The database's file and folder have these modes."""
    database = folder / "crm.db"
    database.chmod(file)
    folder.chmod(directory)
    try:
        yield
    finally:
        folder.chmod(0o755)
        database.chmod(0o644)


@pytest.mark.parametrize(
    ("file", "directory"),
    [(0o444, 0o555), *(pytest.param(*modes, marks=pytest.mark.e2e) for modes in ((0o644, 0o555), (0o444, 0o777)))],
)
def test_a_database_that_cannot_be_written_is_named_and_nothing_is_sent(
    tmp_path: Path, file: int, directory: int
) -> None:
    place = Place(tmp_path, 5)
    place.ok("sync")
    place.bound = BOUND if os.geteuid() == 0 else []
    if place.bound and shutil.which(BOUND[0]) is None:
        pytest.skip("root may write everything, and cannot be kept from it here")
    with kept(tmp_path, file=file, directory=directory):
        for command in ("dispatch", "sync"):
            failed = place.run(command)
            assert failed.returncode == 2, failed.stdout + failed.stderr
            (line,) = failed.stderr.splitlines()
            assert "crm.db" in line
            assert "write" in line.partition("; ")[2] or "written" in line.partition("; ")[2]
    assert not (tmp_path / "outbox").exists()
    place.bound = []
    place.ok("dispatch")
    place.all_is_told_once()


# --- two at once ------------------------------------------------------------------------------------------------------


# SEMANTICS 13
def test_two_dispatchers_that_begin_at_once_share_the_work(tmp_path: Path, migrated_url: str) -> None:
    place = Place(tmp_path, 60, migrated_url)
    place.now = SOON
    place.ok("sync")
    both = [place.begin("dispatch", "--json") for _ in range(2)]
    ended = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    place.all_is_told_once()
    assert sum(json.loads(out)["handed_over"].get("sent", 0) for out, _ in ended) == place.orders


@pytest.mark.e2e
def test_a_sync_and_a_dispatch_at_once_are_as_one_after_the_other(tmp_path: Path, migrated_url: str) -> None:
    place = Place(tmp_path, 60, migrated_url)
    place.ok("sync", "tea")
    both = [place.begin("sync"), place.begin("dispatch")]
    for process in both:
        said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
    place.ok("dispatch")
    place.all_is_told_once()
