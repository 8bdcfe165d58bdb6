"""What the how-to pages tell to type is typed, in a small shop that has all of it; or said here not to be, and why.

Pages of which every fence is played have tests of their own (test_tutorial.py, test_pages.py); that a command exists
and knows its options is test_snippets.py's. Here it runs, ends well, and prints what stands below it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from crmkit.testing.database import PostgresServer
from tests.docs.snippet import PAGES, ROOT, fences, play, run, squeezed
from tests.docs.test_snippets import PLAYED

#: (page, how a command begins) that is not typed here: why, and the test that holds what it does instead.
EXCLUDED = {
    ("docs/olist.md", ""): ("its data are not part of the repository", "tests/olist/test_olist.py"),
    ("docs/plugins.md", "plugins check"): ("runs a package's tests for a minute", "tests/cli/test_plugins_new.py"),
    ("docs/plugins.md", "plugins trace"): ("needs 4711 interactions", "tests/cli/test_plugins_trace.py"),
    ("docs/plugins.md", "config check"): ("needs the file before it", "tests/docs/test_plugins_page.py"),
    ("docs/scaling.md", "worker"): ("goes on until it is ended", "plugins/cluster/tests/test_worker.py"),
    ("docs/taobao.md", "connect"): ("asks a person, and Taobao", "plugins/marketplace/tests/test_taobao.py"),
    ("plugins/cluster/README.md", "worker"): ("goes on until it is ended", "plugins/cluster/tests/test_worker.py"),
    ("docs/web.md", "serve"): ("goes on until it is ended", "tests/web/test_server.py"),
    ("docs/web.md", "run --serve"): ("goes on until it is ended", "tests/web/test_server.py"),
    ("docs/web.md", "inbox show"): ("needs twelve calls of a vendor", "tests/cli/test_inbox.py"),
    ("docs/web.md", "inbox replay"): ("needs twelve calls of a vendor", "tests/cli/test_inbox.py"),
}
#: Of these pages the shop's database is a server's, and nothing waits in it for a worker.
ON_A_SERVER = {"docs/scaling.md", "plugins/cluster/README.md"}
COMMAND = re.compile(r"(?:\$ )?crmkit (.*?)(?:\s+#.*)?$")
CONFIG = """
[crm]
database = "{database}"
key = "env:CRMKIT_KEY"
title = "Tea House"

[web]
url = "https://crm.teahouse.example"

[plugins]
use = ["care"]

[shops.flagship]
use = "files"
preset = "crmkit"
path = "exports"
region = "DE"
announce_from = 2026-05-01

[[channels.email]]
use = "folder"

[[channels.sms]]
use = "http"
url = "http://127.0.0.1:9/send"
body = {{ to = "{{to}}", text = "{{text}}" }}
id = "id"
success = {{ status = [200] }}
"""
HEADER = "external_id,status,placed_at,customer_id,name,email,phone,total,currency,updated_at"
ORDERS = [
    f"100{number},placed,2026-05-0{number}T10:00Z,c{number},{name},{name.lower()}@example.com,+491511234567{number},10,EUR,"
    f"2026-05-0{number}T10:00Z"
    for number, name in enumerate(["Ann", "Bo", "Cy", "Di", "Ed"], 1)
]


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The commands of ours in a page's fences, without what is said of them; and what stands below each."""
    for fence in fences(page.read_text("utf-8")):
        told: list[str] | None = None
        for line in fence.lines:
            found = COMMAND.match(line)
            if found is not None:
                told = []
                yield found[1], told
            elif line.startswith("$ ") or fence.info[:1] != ["console"]:
                told = None
            elif told is not None:
                told.append(line)


TYPED = [
    pytest.param(page.relative_to(ROOT).as_posix(), id=page.relative_to(ROOT).as_posix())
    for page in PAGES
    if not PLAYED.fullmatch(page.relative_to(ROOT).as_posix()) and any(commands(page))
]


def reason(page: str, command: str) -> tuple[str, str] | None:
    """Why a command of a page is not typed here, and where else it is held."""
    found = (why for (where, begins), why in EXCLUDED.items() if where == page and command.startswith(begins))
    return next(found, None)


@pytest.fixture
def database(page: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the shop's database."""
    if page not in ON_A_SERVER:
        yield "sqlite:///crm.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def shop(page: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a shop of five customers, who ordered in May."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("CRMKIT_KEY", "a key that is long enough for tests")
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "orders.csv").write_text("\n".join([HEADER, *ORDERS, ""]), "utf-8")
    (tmp_path / "crmkit.toml").write_text(CONFIG.format(database=database), "utf-8")
    for step in ("sync", "dispatch") if page in ON_A_SERVER else ("sync",):
        code, printed = run(f"crmkit --now 2026-05-06T12:00+00:00 {step}", tmp_path)
        assert code == 0, printed
    return tmp_path


@pytest.mark.parametrize("page", TYPED)
def test_what_a_page_tells_to_type_does_what_it_says(page: str, shop: Path) -> None:
    for fence in fences((ROOT / page).read_text("utf-8")):
        if "append" in fence.info:  # what the page adds to the shop's configuration
            play(fence, shop)
    for command, told in commands(ROOT / page):
        if reason(page, command) is not None:
            continue
        typed, _, file = command.partition(" > ")
        code, printed = run(f"crmkit {typed}", shop)
        assert code == 0, f"crmkit {command}\n{printed}"
        assert printed or not file, f"crmkit {command}: {file} is empty"
        for line in told:
            assert squeezed(line) in squeezed(printed), f"crmkit {command}: not printed: {line}\n{printed}"


def test_every_exclusion_is_of_a_command_there_is_and_names_a_test_there_is() -> None:
    for (page, begins), (why, test) in EXCLUDED.items():
        assert why
        assert (ROOT / test).is_file(), test
        assert any(command.startswith(begins) for command, _ in commands(ROOT / page)), (page, begins)
