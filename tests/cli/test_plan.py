"""A plan from the command line: made, applied, refused, of a part; and who was forgotten is in none."""

import json
import os
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crmkit.cli import plan as shown
from crmkit.engine.gateways import Gateways

from .conftest import NOW, Place

LATER = "2026-05-08T21:30+02:00"


@pytest.fixture
def synced(place: Place) -> Place:
    assert place.run("sync", now=NOW).exit_code == 1
    return place


def mails(place: Place) -> int:
    return len(list((place.folder / "outbox").glob("*.eml")))


def test_a_plan_shows_totals_by_gateway_and_every_reason(synced: Place) -> None:
    # SEMANTICS 28
    config = synced.config.read_text().replace('use = "folder"\n', 'use = "folder"\nprice = "0.01 EUR"\n')
    synced.config.write_text(config)
    file = synced.folder / "plan.jsonl"
    shown = synced.ok("dispatch", "--plan", str(file), now=NOW)
    assert "2 messages would leave, 1 would not" in shown
    (total,) = [line.split() for line in shown.splitlines() if line.startswith("email ")]
    assert total == ["email", "folder", "2", "2", "0.02", "EUR"]
    assert "no address is known" in shown
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["leaving"][0]["price"] == {"EUR": "0.02"}
    assert lines[0]["staying"] == [
        {"template": "order-shipped", "state": "suppressed", "reason": "no-address", "messages": 1}
    ]
    assert list(lines[-1]) == ["sha256"]


def test_a_plan_is_applied_once(synced: Place) -> None:
    file = str(synced.folder / "plan.jsonl")
    synced.ok("dispatch", "--plan", file, now=NOW)
    shown = synced.ok("dispatch", "--apply", file, now=NOW)
    assert "handed over: 2 sent" in shown
    assert "1 of 1 slice as planned" in shown
    again = json.loads(synced.ok("dispatch", "--apply", file, "--json", now=NOW))
    assert (again["handed_over"], again["plan"]["kept"]) == ({}, {"sent": 2})
    assert mails(synced) == 2


def test_a_shop_that_lives_by_plans_is_at_work(synced: Place) -> None:
    file = str(synced.folder / "plan.jsonl")
    synced.ok("dispatch", "--plan", file, now=NOW)
    synced.ok("dispatch", "--apply", file, now=NOW)
    told = [json.loads(line) for line in synced.run("doctor", "--offline", "--json", now=NOW).stdout.splitlines()]
    (dispatch,) = [one for one in told if one["part"] == "dispatch"]
    assert (dispatch["level"], dispatch["text"]) == ("ok", "last begun 2026-05-08 20:00 CEST: done")


@pytest.mark.parametrize("part", [(), ("--only", "channel=email"), ("--limit", "9"), ("--apply", "plan.jsonl")])
def test_what_will_be_tried_again_is_told_with_exit_code_1(synced: Place, part: tuple[str, ...]) -> None:
    text = synced.config.read_text()
    smtp = 'use = "smtp"\nhost = "127.0.0.1"\nport = 9\ntls = "none"\n'
    synced.config.write_text(text.replace('use = "folder"\npath = "outbox"\n', smtp))
    file = synced.folder / "plan.jsonl"
    synced.ok("dispatch", "--plan", str(file), now=NOW)
    ran = synced.run("dispatch", *(str(file) if one == file.name else one for one in part), now=NOW)
    assert (ran.exit_code, "2 messages will be tried again" in ran.stderr) == (1, True), ran.output


def test_what_differs_is_named_with_exit_code_1(synced: Place) -> None:
    # SEMANTICS 28
    file = str(synced.folder / "plan.jsonl")
    synced.ok("dispatch", "--plan", file, now=NOW)
    (synced.folder / "templates").mkdir()
    (synced.folder / "templates" / "order-shipped.en.email.txt").write_text(
        '---\npurpose = "transactional"\nsubject = "Hi"\n---\nOther words'
    )
    done = synced.run("dispatch", "--apply", file, now=NOW)
    assert done.exit_code == 1
    assert done.stdout.count("another text") == 2
    assert "ada@buyers.example" in done.stdout
    assert "the world has changed since the plan was made" in done.stderr
    told = json.loads(synced.run("dispatch", "--apply", file, "--json", now=NOW).stdout)["plan"]
    assert [one["what"] for one in told["differences"]] == ["content_hash"] * 2
    assert (told["refused"], mails(synced)) == ([0], 0)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda text: text.replace("Ada", "Eve"), "not as it was written"),
        (lambda text: text[:200], "no whole plan"),
        (lambda text: "{}\n{}\n", "no whole plan"),
        (lambda text: text, "more than an hour ago"),
    ],
)
def test_a_plan_that_is_spoilt_or_old_is_refused_with_exit_code_2(synced: Place, spoil: Any, why: str) -> None:
    file = synced.folder / "plan.jsonl"
    synced.ok("dispatch", "--plan", str(file), now=NOW)
    file.write_text(spoil(file.read_text()))
    refused = synced.run("dispatch", "--apply", str(file), now=LATER)
    assert (refused.exit_code, why in refused.stderr, mails(synced)) == (2, True, 0)
    assert synced.run("dispatch", "--apply", str(synced.folder / "none"), now=NOW).exit_code == 2


def test_a_plan_of_another_database_is_refused(synced: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = synced.folder / "plan.jsonl"
    synced.ok("dispatch", "--plan", str(file), now=NOW)
    for name in list(synced.folder.glob("crm.db*")):
        name.unlink()
    synced.run("sync", now=NOW)
    refused = synced.run("dispatch", "--apply", str(file), now=NOW)
    assert (refused.exit_code, "another database" in refused.stderr) == (2, True)


def test_a_part_is_sent_and_the_rest_stays(synced: Place) -> None:
    shown = synced.ok("dispatch", "--plan", "--only", "customer=ada@buyers.example", now=NOW)
    assert "1 message would leave, 0 would not" in shown
    assert "handed over: 1 sent" in synced.ok("dispatch", "--only", "order=T3", now=NOW)
    assert [row["order"] for row in listed(synced)] == ["T3"]
    synced.ok("dispatch", "--only", "shop=tea", "--only", "template=order-shipped", "--limit", "1", now=NOW)
    assert [row["order"] for row in listed(synced) if row["state"] == "sent"] == ["T2", "T3"]


def listed(place: Place) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in place.ok("messages", "list", "--json").splitlines()]
    return sorted(rows, key=lambda row: str(row["order"]))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--only", "tempalte=order-shipped"), "write template=..."),
        (("--only", "template=order-shiped"), 'did you mean "order-shipped"?'),
        (("--only", "gateway=foldr"), "folder"),
        (("--only", "customer=nobody@nowhere.example"), "nobody is known"),
        (("--only", "order=X"), "there is no order"),
        (("--only", "shop=X"), "--only: no shop 'X' was ever synced; known are: tea\n"),
        (("--only", "shop=folder"), "--only: no shop 'folder' was ever synced; known are: tea\n"),
        (("--limit", "0"), "--limit"),
        (("--plan", "a", "--apply", "b"), "give one of them"),
    ],
)
def test_what_chooses_nothing_is_refused(synced: Place, options: tuple[str, ...], why: str) -> None:
    refused = synced.run("dispatch", *options, now=NOW)
    assert (refused.exit_code, why in refused.stderr) == (2, True), refused.stderr


@pytest.mark.parametrize("listed", ["messages", "interactions", "quarantine"])
def test_a_gateway_is_no_shop(worked: Place, listed: str) -> None:
    refused = worked.run(listed, "list", "--shop", "folder")
    said = "--shop: no shop 'folder' was ever synced; known are: tea\n"
    assert (refused.exit_code, said in refused.stderr) == (2, True), refused.output


def test_whoever_is_forgotten_is_in_no_plan(synced: Place) -> None:
    # SEMANTICS 12
    plan, other, strange = (synced.folder / name for name in ("plan.jsonl", "other.jsonl", "strange.jsonl"))
    synced.ok("dispatch", "--plan", str(plan), now=NOW)
    synced.ok("dispatch", "--plan", str(other), "--only", "customer=bo@buyers.example", now=NOW)
    synced.ok("dispatch", "--plan", str(strange), now=NOW)
    strange.write_text("something else by now\n")
    done = synced.run("customers", "forget", "ada@buyers.example", "--yes", now=NOW)
    assert (plan.exists(), other.exists(), strange.exists()) == (False, True, True)
    assert "ada@" not in other.read_text()
    assert f"not reached, and may name this customer: {strange}, where a plan was written" in done.stderr
    assert (str(plan) in done.stderr, str(other) in done.stderr) == (False, False)


def test_what_a_limit_or_a_choice_leaves_of_a_plan_is_told_and_leaves_with_the_next_dispatch(synced: Place) -> None:
    file = str(synced.folder / "plan.jsonl")
    synced.ok("dispatch", "--plan", file, now=NOW)
    shown = synced.ok("dispatch", "--apply", file, "--only", "order=T2", now=NOW)
    assert "1 message not chosen, in the outbox" in shown
    again = json.loads(synced.ok("dispatch", "--apply", file, "--limit", "1", "--only", "order=T2", "--json", now=NOW))
    assert (again["plan"]["unchosen"], again["plan"]["kept"]) == (1, {"sent": 1})
    assert "handed over: 1 sent" in synced.ok("dispatch", now=NOW)


def test_what_another_process_has_in_hand_is_told_with_exit_code_1(synced: Place) -> None:
    file = str(synced.folder / "plan.jsonl")
    synced.ok("dispatch", "--plan", file, now=NOW)
    synced.ok("dispatch", "--apply", file, "--only", "order=T2", now=NOW)
    with closing(sqlite3.connect(synced.folder / "crm.db")) as database:  # as a process leaves it that is killed
        lease = "claim_id = 'gone', claimed_at = not_before, lease_until = '2026-05-08 18:04:00.000000'"
        database.execute(f"UPDATE message SET state = 'sending', {lease} WHERE state = 'queued'")
        database.commit()
    done = synced.run("dispatch", "--apply", file, now=NOW)
    assert done.exit_code == 1, done.output
    said = "1 message of the plan is in the hands of another process until 2026-05-08 20:04 CEST: apply it again then"
    assert said in done.stderr
    assert "is on its way" not in done.output
    told = json.loads(synced.run("dispatch", "--apply", file, "--json", now=NOW).stdout)["plan"]
    assert (told["in_hand"], told["in_hand_until"], told["kept"]) == (1, "2026-05-08T18:04:00+00:00", {"sent": 1})
    assert "handed over: 1 sent" in synced.ok("dispatch", "--apply", file, now="2026-05-08T20:06+02:00")


# --- what is there already --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crm.db", "crm.db-wal", "link", "mine.json", "empty", "pipe", ".", "crmkit.toml"])
def test_a_plan_replaces_nothing_that_is_no_plan(synced: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from crmkit.engine.local import Local

    def planned(*given: Any, **named: Any) -> Any:
        raise AssertionError("it is refused before anything is planned")

    monkeypatch.setattr(Local, "plan", planned)
    file = synced.folder / name
    (synced.folder / "link").symlink_to("crm.db")
    (synced.folder / "mine.json").write_text('{"plan": "a summer"}\n')
    (synced.folder / "empty").touch()
    os.mkfifo(synced.folder / "pipe")
    before = {one.name: one.lstat().st_ino for one in synced.folder.iterdir()}
    refused = synced.run("dispatch", "--plan", str(file), now=NOW)
    assert refused.exit_code == 2, refused.output
    assert "name another file" in refused.stderr
    after = {one.name: one.lstat().st_ino for one in synced.folder.iterdir()}
    assert {name: after[name] for name in before} == before
    assert synced.run("db", "status", now=NOW).exit_code == 0


def test_a_plan_is_not_put_where_the_database_will_be(place: Place) -> None:
    refused = place.run("dispatch", "--plan", str(place.folder / "crm.db"), now=NOW)
    assert (refused.exit_code, "name another file" in refused.stderr) == (2, True), refused.output
    assert not (place.folder / "crm.db").exists()


def test_a_plan_may_be_replaced_by_a_plan(synced: Place) -> None:
    file = synced.folder / "plan.jsonl"
    synced.ok("dispatch", "--plan", str(file), now=NOW)
    file.write_text(file.read_text() + "and a line of somebody's\n")  # damaged, and a plan still
    synced.ok("dispatch", "--plan", str(file), now=NOW)
    synced.ok("dispatch", "--apply", str(file), now=NOW)


def test_a_file_of_the_users_where_a_plan_was_is_not_cleared_away(
    synced: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, old = synced.folder / "mine.json", synced.folder / "old.jsonl"
    for file in (mine, old):
        synced.ok("dispatch", "--plan", str(file), now=NOW)
    mine.write_text('{"plan": "a summer", "slices": 8}\n{"customers": [1]}\n')
    monkeypatch.setattr(shown, "RETENTION", timedelta(0))
    synced.ok("dispatch", "--plan", str(synced.folder / "new.jsonl"), now=NOW)
    synced.ok("customers", "forget", "ada@buyers.example", "--yes", now=NOW)
    assert (mine.exists(), old.exists()) == (True, False)


def test_a_plan_says_of_what_instance_it_is(synced: Place) -> None:
    file = synced.folder / "plan.jsonl"
    synced.ok("dispatch", now=NOW)
    synced.ok("dispatch", "--plan", str(file), now=NOW)
    header = json.loads(file.read_text().splitlines()[0])
    known = json.loads(synced.ok("db", "status", "--json"))["instance"]
    assert header["instance"] == known["name"]
    assert len(header["database"]) == 32


# --- staging ----------------------------------------------------------------------------------------------------------


def staged(place: Place, text: str) -> None:
    place.config.write_text(f"{place.config.read_text()}\n[staging]\n{text}\n")


def test_staging_is_said_in_one_line(synced: Place) -> None:
    staged(synced, 'allow = ["*@tea.example"]\nredirect = { email = "me@tea.example" }')
    said = "staging is on: only *@tea.example is written to; others are redirected: email to me@tea.example"
    assert said in synced.ok("config", "check").splitlines()
    assert f"note configuration: {said}" in synced.run("doctor", "--offline", now=NOW).stdout.splitlines()
    assert "me@tea.example" in synced.ok("config", "show")


def test_a_redirected_message_says_so(synced: Place) -> None:
    staged(synced, 'redirect = { email = "me@tea.example" }')
    synced.ok("dispatch", now=NOW)
    assert "me@tea.example" in synced.ok("messages", "show", "1")
    for mail in (synced.folder / "outbox").glob("*.eml"):
        text = mail.read_text()
        assert "To: me@tea.example" in text
        assert "X-Crmkit-Redirected: message " in text
        assert "@buyers.example" not in text


def test_staging_that_is_wrong_is_refused(synced: Place) -> None:
    staged(synced, 'alow = ["*@tea.example"]')
    assert synced.run("dispatch", now=NOW).exit_code == 2
    assert mails(synced) == 0


def test_a_channel_that_staging_cannot_redirect_is_warned_of(synced: Place) -> None:
    staged(synced, 'redirect = { email = "+4915112345678", sms = "me@tea.example" }')
    said = synced.ok("config", "check")
    assert "no gateway of the channel email reaches +4915112345678" in said
    assert 'no gateway of the channel "sms" is switched on' in said


# --- a message that is tried ------------------------------------------------------------------------------------------


def test_a_message_is_tried_to_somebody_of_the_staff_and_to_me(synced: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL", "Chen@tea.example")
    for whom in ("chen", "me", "someone@tea.example"):
        shown = synced.ok("messages", "test", "--template", "order-shipped", "--as", "T2", "--to", whom, now=NOW)
        assert "accepted for " in shown
    assert sorted(mail.read_text().partition("\nTo: ")[2].split("\n")[0] for mail in _mails(synced)) == [
        "chen@tea.example",
        "chen@tea.example",
        "someone@tea.example",
    ]
    assert all("Your order T2 is on its way" in mail.read_text() for mail in _mails(synced))


def _mails(place: Place) -> list[Path]:
    return list((place.folder / "outbox").glob("*.eml"))


def test_who_i_am_is_asked_where_it_cannot_be_told(synced: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMAIL", "")
    monkeypatch.setenv("LOGNAME", "nobody")
    for whom, why in (("me", "who you are cannot be told"), ("Cheng", "nobody of the staff")):
        refused = synced.run("messages", "test", "order-shipped", "--to", whom, now=NOW)
        assert (refused.exit_code, why in refused.stderr, "Chen" in refused.stderr) == (2, True, True)
    assert synced.run("messages", "test", now=NOW).exit_code == 2


def test_a_message_that_is_tried_keeps_to_staging(synced: Place) -> None:
    staged(synced, 'allow = ["chen@tea.example"]')
    refused = synced.run("messages", "test", "order-shipped", "--to", "ada@buyers.example", now=NOW)
    assert (refused.exit_code, "staging lets nothing go to" in refused.stderr, mails(synced)) == (2, True, 0)
    assert "accepted for chen@tea.example" in synced.ok("messages", "test", "order-shipped", "--to", "Chen", now=NOW)


@pytest.mark.parametrize("what", ["all", "channel email", "template order-shipped", "gateway folder"])
def test_a_message_is_not_tried_while_what_it_is_of_is_paused(synced: Place, what: str) -> None:
    trying = ("messages", "test", "order-shipped", "--to", "chen")
    synced.ok("pause", *what.split(), "--reason", "wrong price", now=NOW)
    refused = synced.run(*trying, now=NOW)
    assert (refused.exit_code, mails(synced)) == (2, 0)
    assert f"{what} is paused by " in refused.stderr
    assert f"`crmkit resume {what}`" in refused.stderr
    synced.ok("messages", "test", "order-shipped", now=NOW)  # which sends nothing
    synced.ok("resume", *what.split(), now=NOW)
    assert "accepted for chen@tea.example" in synced.ok(*trying, now=NOW)


def test_a_message_is_not_tried_where_it_is_paused_while_its_gateway_is_opened(
    synced: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Gateways.open

    async def slowly(self: Gateways, name: str) -> Any:
        synced.ok("pause", "all", "--reason", "wrong price", now=NOW)
        return await opened(self, name)

    monkeypatch.setattr(Gateways, "open", slowly)
    refused = synced.run("messages", "test", "order-shipped", "--to", "chen", now=NOW)
    assert (refused.exit_code, mails(synced)) == (2, 0)
    assert "all is paused by " in refused.stderr


def test_a_database_that_may_not_send_tries_a_message_to_the_staff_alone(
    synced: Place, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("CRMKIT_STATE", str(tmp_path_factory.mktemp("another machine")))
    assert synced.run("dispatch", now=NOW).exit_code == 1
    refused = synced.run("messages", "test", "order-shipped", "--to", "ada@buyers.example", now=NOW)
    assert (refused.exit_code, mails(synced)) == (2, 0), refused.stderr
    assert "ada@buyers.example is nobody of the staff" in refused.stderr
    assert "database: it may not send: nothing here has sent" in refused.stderr
    assert "accepted for chen@tea.example" in synced.ok("messages", "test", "order-shipped", "--to", "chen", now=NOW)
