"""What `crmkit plugins new` writes, as its author has it: installed by itself, its tests, types and style, and used."""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

#: Seconds a package's own tests may take.
PATIENCE = 900
KINDS = {"sms": "sms.heron", "email": "email.heron", "source": "marketplace.heron", "playbook": "play.heron"}
#: How a shop uses one of each kind, beside what else it has.
USES = {
    "sms": '[[channels.sms]]\nuse = "heron"\ntoken = "t"\nsender = "TEA"\nbase_url = "http://127.0.0.1:9"\n',
    "email": '[[channels.email]]\nuse = "heron"\ntoken = "t"\nsender = "a@b.example"\nbase_url = "http://127.0.0.1:9"\n',
    "source": '[shops.other]\nuse = "heron"\ntoken = "t"\nbase_url = "http://127.0.0.1:9"\n',
    "playbook": "[heron]\norders = 1\n",
}
CONFIG = """\
[crm]
database = "sqlite:///crm.db"

[plugins]
use = [{use}]

[shops.tea]
use = "files"
preset = "crmkit"
path = "exports"
currency = "EUR"
announce_from = 2026-05-01

[[channels.email]]
use = "folder"
path = "outbox"
sender = "Tea House <shop@tea.example>"

"""
ORDERS = """\
external_id,status,placed_at,paid_at,customer_id,name,email,total,updated_at
T1,paid,2026-05-04T10:00Z,2026-05-04T10:05Z,c1,Ada,ada@buyers.example,10.00,2026-05-04T10:05Z
"""
NOW = "2026-05-12T10:00Z"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False)


def ok(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def fresh(folder: Path) -> Path:
    """The Python of a new environment that sees this one's packages, and has its own installed beside them."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = ok(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=folder).strip()
    here = sysconfig.get_paths()["purelib"]
    Path(site, "beside.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return python


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_works_by_itself_and_at_a_shop(tmp_path: Path, kind: str) -> None:
    ok(Path(sys.executable).with_name("crmkit"), "plugins", "new", kind, "heron", "--into", tmp_path, cwd=tmp_path)
    package = tmp_path / "crmkit-heron"
    python = fresh(tmp_path / "venv")
    uv = Path(sys.executable).with_name("uv")
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation", "--python", python]
    ok(*install, "-e", package, cwd=tmp_path)
    ok(python, "-m", "mypy", cwd=package)
    ok(python, "-m", "ruff", "check", ".", cwd=package)
    crmkit = [python, "-c", "from crmkit.cli import main; main()"]
    assert "all is well" in ok(*crmkit, "plugins", "check", package, cwd=tmp_path)  # runs its tests

    shop = tmp_path / "shop"
    (shop / "exports").mkdir(parents=True)
    (shop / "exports" / "orders.csv").write_text(ORDERS)
    (shop / "crmkit.toml").write_text(CONFIG.format(use='"heron"' if kind == "playbook" else "") + USES[kind])
    ok(*crmkit, "config", "check", cwd=shop)
    rows = [json.loads(line) for line in ok(*crmkit, "plugins", "list", "--json", cwd=shop).splitlines()]
    (mine,) = [row for row in rows if row["name"] == KINDS[kind]]
    assert (mine["state"], mine["distribution"], mine["version"]) == ("used", "crmkit-heron", "0.1.0")
    synced = run(*crmkit, "--now", NOW, "sync", "tea", cwd=shop)
    assert synced.returncode == 0, synced.stderr
    ok(*crmkit, "--now", NOW, "dispatch", cwd=shop)
    if kind == "playbook":
        assert "customer 1: 1 orders" in ok(*crmkit, "heron", cwd=shop)
        told = [json.loads(line) for line in ok(*crmkit, "messages", "list", "--json", cwd=shop).splitlines()]
        assert {(row["template"], row["state"]) for row in told} == {
            ("heron-thanks", "sent"),
            ("heron-follow-up", "sent"),
        }
    if kind == "source":
        down = run(*crmkit, "sync", "other", cwd=shop)
        assert down.returncode == 1
        assert "other" in down.stderr
