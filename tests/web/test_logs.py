"""The log: JSON lines on standard error, and nothing personal in any of them, whatever goes wrong."""

import io
import json
import logging
import warnings
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy.exc import IntegrityError

from crmkit.cli import logs
from crmkit.cli.told import Told
from crmkit.core.errors import AuthError, PluginError
from crmkit.core.instance import Fenced
from crmkit.core.log import LINES
from crmkit.engine.local import DispatchRun
from crmkit.store import tables as t
from tests.web.booth import SECRET, Courier
from tests.web.conftest import NOON, Town
from tests.web.trade import call, open_town, placed

#: What must not be found anywhere.
POISON = {
    "name": "Zaphodia Quux",
    "email": "zaphodia.quux@poison.example",
    "phone": "+16505550199",
    "text": "my secret garden gnome",
    "token": "tok-9f8e7d6c5b4a",
}


@pytest.fixture
async def town(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    found = open_town(tmp_path / "town", migrated_url, monkeypatch)
    async with found.client:
        yield found
    found.store.close()


def poisoned(number: str, **more: Any) -> dict[str, Any]:
    return placed(number, **{name: POISON[name] for name in ("name", "email", "phone")}, **more)


def found_in(text: str) -> list[str]:
    """What of the poison a text holds, whole or in parts that tell."""
    low = text.lower()
    parts = [*POISON.values(), "zaphodia", "quux", "poison.example", "6505550199", "gnome", "9f8e7d", SECRET]
    return [one for one in parts if one.lower() in low]


async def go_wrong(town: Town) -> None:
    """The whole way through, with everything on it that can go wrong."""
    told = Told(as_json=False)
    Courier.answers[:] = ["take", "refuse", "break", "doubt", "later"]
    for number in range(6):
        await call(town, "booth", poisoned(str(number), paid_at=NOON.isoformat()))  # the playbook breaks on paid
    await call(town, "booth", {"refused": POISON["text"], "email": POISON["email"]})
    await call(town, "booth", {"broken": POISON["email"]})
    await call(town, "booth", {"hint": POISON["name"]})
    town.client.headers["authorization"] = f"Bearer {POISON['token']}"
    for path in (f"/u/{POISON['token']}", f"/webhooks/booth/{POISON['token']}?who={POISON['email']}", "/metrics"):
        await town.client.get(path)
    for account in ("booth", POISON["email"]):
        await town.client.post(f"/webhooks/{account}?{POISON['email']}", content=POISON["text"].encode())
    told.synced(await town.local.sync(now=NOON))
    told.dispatched(await town.local.dispatch(now=NOON + timedelta(minutes=5)))
    sent = [row for row in town.rows(t.message) if row["vendor_id"]]
    assert sent
    for row in sent:
        back = {"id": f"r{row['id']}", "state": "bounced", "message": row["vendor_id"], "at": NOON.isoformat()}
        await call(town, "courier", {**back, "reason": POISON["text"], "detail": f"550 {POISON['email']}"})
    orphan = {"id": "r", "state": "failed", "message": POISON["email"], "at": NOON.isoformat()}
    await call(town, "courier", {**orphan, "reason": POISON["text"]})
    told.synced(await town.local.take_in(now=NOON + timedelta(minutes=6)))
    row = {"id": 1, "type": POISON["text"], "actor": POISON["name"], "occurred_at": NOON, "recorded_at": NOON}
    with pytest.raises(IntegrityError) as refused, town.store.begin() as tx:
        tx.execute(sa.insert(t.interaction).values(row))
    assert found_in(str(refused.value))
    told.failed("round", refused.value)
    told.failed("inbox", PluginError(POISON["email"], who=POISON["name"], operation=f"deliver to {POISON['email']}"))
    told.failed("booth", AuthError(f"401 {POISON['token']}", who="booth", operation="read orders"))


async def test_nothing_personal_is_in_any_line(town: Town, capfd: pytest.CaptureFixture[str]):
    with logs.logging_to_stderr("json", "debug"):
        await go_wrong(town)
    out, err = capfd.readouterr()
    assert found_in(out + err) == []
    lines = [json.loads(line) for line in err.splitlines()]
    for line in lines:
        head = {line.pop(name) for name in ("at", "level", "logger")}
        assert len(head) == 3
        assert set(line) - {"line"} <= set(LINES[line["line"]].fields)
    named = {line["line"] for line in lines}
    assert named >= {
        "webhook-heard",
        "webhook-refused",
        "webhook-unreadable",
        "decision-failed",
        "message-tried",
        "receipt-taken",
        "receipt-waits",
        "page-shown",
        "sync-stopped",
        "step-failed",
    }
    assert out == ""


async def test_a_page_is_named_by_its_kind_and_its_answer_by_an_id(town: Town, capfd: pytest.CaptureFixture[str]):
    with logs.logging_to_stderr("json", "info"):
        answer = await town.client.get(f"/u/{POISON['token']}")
        nowhere = await town.client.get(f"/nowhere/{POISON['token']}")
    said, other = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert (said["page"], said["method"], said["status"]) == ("/u/{token}", "GET", 404)
    assert said["correlation"] == answer.headers["x-request-id"]
    assert ("page" in other, other["status"], nowhere.status_code) == (False, 404, 404)


async def test_a_flood_is_counted_and_fills_no_log(town: Town, capfd: pytest.CaptureFixture[str]):
    with logs.logging_to_stderr("json", "info"):
        statuses = [(await town.client.post("/webhooks/booth", content=b"{}")).status_code for _ in range(60)]
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {one["status"] for one in said} == {401}
    assert len(said) == statuses.count(401) < 60
    assert town.app.state.meter.refused == {("booth", 401): len(said), ("booth", 429): 60 - len(said)}


def test_what_libraries_say_is_told_by_its_place_alone(capfd: pytest.CaptureFixture[str]):
    with logs.logging_to_stderr("json", "info"):
        logging.getLogger("httpx").info("GET https://vendor.example/%s", POISON["token"])
        logging.getLogger("asyncio").error(f"Task exception was never retrieved {POISON['email']}")
        warnings.warn(POISON["text"], stacklevel=1)
        try:
            raise KeyError(POISON["email"])
        except KeyError:
            logging.getLogger("uvicorn.error").exception("Exception in %s", POISON["name"])
    out, err = capfd.readouterr()
    assert found_in(out + err) == []
    said = [json.loads(line) for line in err.splitlines()]
    assert [one["logger"] for one in said] == ["asyncio", "py.warnings", "uvicorn.error"]
    assert said[-1]["error"] == "KeyError"
    assert said[-1]["place"].startswith("test_logs.py:")


def test_a_person_is_told_in_words(capfd: pytest.CaptureFixture[str]):
    with logs.logging_to_stderr("text", None):
        told = Told(as_json=False)
        told.failed("round", AuthError("refused", who="booth", operation="read orders", do="check the key"))
        LINES["webhook-heard"].say(account="booth", fate="kept")
        LINES["sync-stopped"].say(account="booth", error="AuthError")
    err = capfd.readouterr().err.splitlines()
    assert err[0] == "error: round: booth read orders: refused; check the key"
    assert err[1].endswith("warning crmkit.sync sync-stopped account=booth error=AuthError")
    assert len(err) == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_service_says_what_fences_its_database_and_what_to_do(capfd: pytest.CaptureFixture[str], form: str):
    found = Fenced("behind", "it ends at try 3", "look at what `crmkit db adopt` would take on")
    with logs.logging_to_stderr(form, None):
        Told(as_json=False).dispatched(DispatchRun(fenced=found))
    [line] = capfd.readouterr().err.splitlines()
    if form == "text":
        assert line == f"error: {found}"
        return
    said = json.loads(line)
    assert (said["line"], said["kind"], said["found"], said["do"]) == ("fenced", "behind", found.what, found.do)


@click.command()
@logs.with_log
def broken() -> None:
    raise RuntimeError(POISON["email"])


@pytest.mark.parametrize("form", [(), ("--log", "json"), ("--log", "text")])
def test_an_error_nobody_expected_ends_a_service_without_its_words(form: tuple[str, ...]):
    result = CliRunner().invoke(broken, form)
    assert (result.exit_code, found_in(result.output)) == (1, [])
    assert isinstance(result.exception, SystemExit)
    if "text" in form:
        assert "crmkit.service ended error=RuntimeError place=test_logs.py:" in result.stderr
    else:
        said = json.loads(result.stderr)
        assert (said["line"], said["error"]) == ("ended", "RuntimeError")


def test_an_error_nobody_expected_is_shown_whole_to_who_sits_before_it(monkeypatch: pytest.MonkeyPatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    with pytest.raises(RuntimeError, match="zaphodia"):
        broken.main([], standalone_mode=False)


def test_what_nobody_reads_is_not_even_put_together():
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("asked")

    LINES["webhook-heard"].say(account=Costly())
    assert not LINES["interaction"].is_wanted
