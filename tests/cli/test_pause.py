"""`crmkit pause` keeps what is queued, `crmkit resume` lets it leave."""

import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from crmkit.engine.local import Local
from crmkit.flow.pause import refuse
from crmkit.host.host import Host
from tests.cli.conftest import NOW, Place


def queued(place: Place) -> list[str]:
    """Why what is queued waits."""
    return [
        json.loads(line)["reason"] for line in place.ok("messages", "list", "--state", "queued", "--json").splitlines()
    ]


def test_what_is_paused_waits_until_it_is_resumed(place: Place) -> None:
    place.run("sync", now=NOW)
    said = place.ok("pause", "channel", "email", "--reason", "wrong price")
    assert said == "channel email is paused\nin flight 0, in doubt 0, queued 0, sent today 0\n"
    place.run("dispatch", now=NOW)
    assert queued(place) == ["paused", "paused"]
    assert "wrong price" in place.ok("pause")
    assert json.loads(place.ok("pause", "list", "--json"))["queued"] == 2
    assert place.ok("resume", "channel", "email", now=NOW).startswith(
        "channel email is resumed; 2 messages may leave\n"
    )
    assert place.ok("pause", "list") == "nothing is paused\n"
    place.run("dispatch", now=NOW)
    assert queued(place) == []


def test_what_stays_paused_is_named(place: Place) -> None:
    place.run("sync", now=NOW)
    place.ok("pause", "all")
    place.ok("pause", "gateway", "folder")
    assert place.ok("resume", "all").endswith("still paused: gateway folder\n")


@pytest.mark.parametrize("what", ["channel emial", "template nothing", "gateway smpt", "gateway", "all x"])
def test_what_is_not_there_is_not_paused(place: Place, what: str) -> None:
    place.run("sync", now=NOW)
    said = place.run("pause", *what.split())
    assert (said.exit_code, said.output.startswith("error: pause: ")) == (2, True), said.output


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("pause list x", "pause: list shows all that is paused; leave out 'x'"),
        ("pause list --reason x", "pause: list pauses nothing; leave out --reason, or name what is to be paused"),
        ("pause channel", "pause: no channel is named; known are: email"),
        ("resume channel", "resume: no channel is named; paused is: all"),
        ("resume all x", "resume: all is all; leave out 'x', or name a channel, template or gateway"),
    ],
)
def test_what_is_asked_for_too_little_or_too_much_is_said(place: Place, what: str, told: str) -> None:
    place.run("sync", now=NOW)
    place.ok("pause", "all")
    said = place.run(*what.split())
    assert (said.exit_code, said.output) == (2, f"error: {told}\n")
    assert "all" in place.ok("pause", "list")


def test_what_is_not_paused_is_not_resumed(place: Place) -> None:
    place.run("sync", now=NOW)
    said = place.run("resume", "all")
    assert (said.exit_code, said.output) == (2, "error: resume: all is not paused; paused is: nothing\n")


def test_the_doctor_names_what_is_paused(place: Place) -> None:
    place.run("sync", now=NOW)
    place.ok("pause", "all", "--reason", "wrong price")
    assert "`crmkit resume all` lifts it" in place.run("doctor", "--offline", now=NOW).output


def test_the_doctor_is_of_one_mind_about_a_gateway_whose_credentials_were_refused(place: Place) -> None:
    place.run("sync", now=NOW)
    host = Host.open(place.config)
    store = host.store()
    with store.begin() as tx:
        refuse(tx, Local(host, store).setup(tx), "folder", "no", datetime(2026, 5, 8, tzinfo=UTC))
    store.close()
    found = [json.loads(line) for line in place.run("doctor", "--json", now=NOW).stdout.splitlines()]
    told = [(one["level"], one["text"]) for one in found if one["part"] == "gateway folder" and "facts" not in one]
    assert [level for level, _ in told] == ["bad", "note"]
    assert "credentials refused: no; 0 messages queued; `crmkit resume gateway folder` lifts it" in told[0][1]
    assert told[1][1].startswith("answers now")


def test_a_pause_answers_what_has_left_and_what_has_not(worked: Place) -> None:
    assert json.loads(worked.ok("pause", "all", "--json", now=NOW)) == {
        **{"scope": "all", "name": "", "queued": 0, "in_flight": 0, "in_doubt": 0, "sent_today": 2}
    }
    assert json.loads(worked.ok("pause", "template", "order-shipped", "--json", now=NOW))["sent_today"] == 2
    assert json.loads(worked.ok("pause", "gateway", "folder", "--json", now=NOW))["sent_today"] == 2
    tomorrow = NOW.replace("-08T", "-09T")
    assert json.loads(worked.ok("pause", "channel", "email", "--json", now=tomorrow))["sent_today"] == 0


def test_a_resume_says_what_will_leave_and_what_has_become_stale(place: Place) -> None:
    place.run("sync", now=NOW)
    place.ok("pause", "all")
    place.run("dispatch", now=NOW)
    said = place.ok("resume", "all", "--plan", now=NOW)
    assert "order-shipped" in said
    assert said.endswith("a plan: nothing was resumed\n")
    assert json.loads(place.ok("resume", "all", "--plan", "--json", now=NOW))["leaves"] == [
        {"template": "order-shipped", "channel": "email", "now": 2, "later": 0, "stale": 0}
    ]
    later = "2026-06-08T20:00+02:00"
    said = place.ok("resume", "all", now=later)
    assert said.endswith("2 messages became stale meanwhile, and will not leave\n")


def test_sending_is_paused_before_anything_was_ever_read(place: Place) -> None:
    assert place.ok("pause", "all").startswith("all is paused\n")
    assert "all is paused" in place.ok("pause", "list") or "all" in place.ok("pause", "list")


@pytest.mark.parametrize("what", ["all", "gateway folder"])
def test_a_plugin_that_is_broken_keeps_nobody_from_pausing(place: Place, what: str) -> None:
    place.run("sync", now=NOW)
    place.config.write_text(place.config.read_text().replace('use = ["care"]', 'use = ["nothing"]'))
    said = place.run("pause", *what.split(), "--reason", "wrong price")
    assert (said.exit_code, said.stdout.startswith(f"{what} is paused\n")) == (0, True), said.output
    # only what a gateway leaves to others is a matter of the rest of the configuration
    assert ("it stands, though something else is wrong" in said.stderr) == (what != "all")
    with sqlite3.connect(place.folder / "crm.db") as database:
        assert database.execute("SELECT reason FROM pause").fetchall() == [("wrong price",)]
    database.close()


#: What sending, and reading what vendors send, takes: nobody who wants it to stop waits for that to be loaded.
IN_VAIN = ("aiohttp", "httpx", "jinja2", "alembic", "rich", "phonenumbers", "crmkit.flow.deliver")


def test_a_pause_loads_nothing_that_it_does_not_need(worked: Place) -> None:
    program = "import sys; from crmkit.cli import cli; cli(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    command = [sys.executable, "-c", program, "--config", str(worked.config), "pause", "all", "--reason", "wrong price"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == "all is paused"
    assert set(IN_VAIN) & set(said[-1].split()) == set()
