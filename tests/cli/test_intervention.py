"""`crmkit messages retry|release|settle|cancel` and `interactions retry`: what a person does to what is stuck."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from crmkit.cli.intervention import LEFT
from crmkit.core.message import Message
from crmkit.flow import intervention
from crmkit_email.folder import FolderGateway
from tests.cli.conftest import NOW, Place

PLUGIN = """
from pathlib import Path

from crmkit import OrderShipped, Send, hookimpl, on


@on(OrderShipped)
def tell(event, crm):
    if not (Path(__file__).parent / "mended").exists():
        raise ValueError("a slip")
    yield Send("order-shipped", via=("email",))


@hookimpl
def crmkit_handlers():
    yield tell
"""


def change(place: Place, statement: str) -> None:
    with sqlite3.connect(place.folder / "crm.db") as database:
        database.execute(statement)
    database.close()


def listed(place: Place, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.ok("messages", "list", *options, "--json").splitlines()]


def many(place: Place, state: str, count: int = 12) -> None:
    """So many messages in this state, made of one that left."""
    with sqlite3.connect(place.folder / "crm.db") as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(message)")]
        chosen = ", ".join(
            {"id": "1000 + n", "key": "'k' || n", "state": f"'{state}'"}.get(name, f'"{name}"') for name in names
        )
        database.execute(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ?)"
            f" INSERT INTO message SELECT {chosen} FROM c, (SELECT * FROM message WHERE state = 'sent' LIMIT 1)",
            (count,),
        )
    database.close()


def test_what_failed_is_tried_again_with_the_next_dispatch(place: Place) -> None:
    worked = place
    worked.run("sync", now=NOW)
    worked.run("dispatch", now=NOW)
    change(worked, "UPDATE message SET state = 'failed', reason = 'content' WHERE state = 'sent'")
    said = worked.ok("messages", "retry", "--reason", "content", "--because", "the text is mended", now=NOW)
    assert said == (
        "2 messages meant\n  2 failed (content) by folder\n"
        "2 messages will be tried again with the next `crmkit dispatch`\n"
    )
    number = listed(worked, "--state", "queued")[0]["id"]
    shown = json.loads(worked.ok("messages", "show", str(number), "--json"))
    assert [(one["action"], one["was"], one["reason"]) for one in shown["interventions"]] == [
        ("retry", "failed", "the text is mended")
    ]
    assert "retry" in worked.ok("messages", "show", str(number))
    worked.run("dispatch", now=NOW)
    assert len(listed(worked, "--state", "sent")) == 2


def test_what_is_in_doubt_needs_a_word(worked: Place) -> None:
    change(worked, "UPDATE message SET state = 'in-doubt', reason = 'no-verdict' WHERE state = 'sent'")
    change(worked, "UPDATE message SET gateways = '[\"folder\"]'")
    first, second = (row["id"] for row in listed(worked, "--state", "in-doubt"))
    assert worked.ok("messages", "settle", str(first), "--arrived").endswith("1 message delivered now\n")
    said = worked.run("messages", "settle", str(second))
    assert (said.exit_code, "--arrived or --lost" in said.output) == (2, True)
    assert worked.ok("messages", "settle", str(second), "--lost").endswith("1 message failed now\n")
    assert json.loads(worked.ok("messages", "retry", str(second), "--json", now=NOW))["states"] == {"queued": 1}


def test_of_two_verdicts_none_is_taken(worked: Place) -> None:
    change(worked, "UPDATE message SET state = 'in-doubt', reason = 'no-verdict' WHERE state = 'sent'")
    for verdicts in (("--arrived", "--lost"), ("--lost", "--arrived")):
        said = worked.run("messages", "settle", "--all", *verdicts)
        assert (said.exit_code, "--arrived or --lost" in said.output) == (2, True), said.output
    assert len(listed(worked, "--state", "in-doubt")) == 2


@pytest.mark.parametrize(("verdict", "state"), [("--arrived", "delivered"), ("--lost", "failed")])
def test_a_plan_to_settle_says_which_verdict(worked: Place, verdict: str, state: str) -> None:
    many(worked, "in-doubt")
    change(worked, "UPDATE message SET state = 'in-doubt', reason = 'no-verdict' WHERE state = 'sent'")
    said = worked.ok("messages", "settle", "--all", verdict, "--plan")
    assert said.endswith(f"  they would be settled as {state}\na plan: nothing was done\n")
    assert json.loads(worked.ok("messages", "settle", "--all", verdict, "--plan", "--json"))["becomes"] == state
    asked = worked.run("messages", "settle", "--all", verdict)
    assert (asked.exit_code, f"14 messages would be settled as {state}" in asked.output) == (2, True), asked.output


def test_a_message_that_is_in_another_state_is_named(worked: Place) -> None:
    number = str(listed(worked, "--state", "sent")[0]["id"])
    said = worked.run("messages", "retry", number)
    assert (said.exit_code, f"message #{number} was accepted" in said.output) == (2, True), said.output
    said = worked.run("messages", "cancel", "9999")
    assert (said.exit_code, "there is no message #9999" in said.output) == (2, True)


def test_nothing_is_done_to_messages_nobody_named(worked: Place) -> None:
    said = worked.run("messages", "cancel")
    assert (said.exit_code, "--all is all of them" in said.output) == (2, True)
    assert worked.ok("messages", "cancel", "--all") == "no message is meant\n"
    assert worked.run("messages", "cancel", "1", "--all").exit_code == 2
    assert worked.run("messages", "cancel", "--state", "delivered").exit_code == 2


@pytest.mark.parametrize("action", ["retry", "release", "settle --lost", "cancel"])
@pytest.mark.parametrize(
    ("option", "nearest"), [("template order-shiped", "order-shipped"), ("gateway foldr", "folder")]
)
def test_a_name_that_is_misspelt_is_not_taken_for_nothing_to_do(
    worked: Place, action: str, option: str, nearest: str
) -> None:
    kind, name = option.split()
    said = worked.run("messages", *action.split(), f"--{kind}", name, "--yes")
    told = f'error: --{kind}: there is no {kind} {name!r}; did you mean "{nearest}"?\n'
    assert (said.exit_code, said.output) == (2, told)
    # one that is there, and has nothing, is no mistake
    assert worked.ok("messages", "cancel", f"--{kind}", nearest, "--yes") == "no message is meant\n"


def test_a_list_of_a_template_that_is_misspelt_is_refused(worked: Place) -> None:
    said = worked.run("messages", "list", "--template", "order-shiped")
    assert (said.exit_code, 'did you mean "order-shipped"?' in said.output) == (2, True), said.output


def test_what_only_the_outbox_knows_any_more_can_be_named(worked: Place) -> None:
    change(worked, "UPDATE message SET template = 'gone', gateway = 'left', state = 'queued' WHERE state = 'sent'")
    for option in (("--template", "gone"), ("--gateway", "left")):
        assert worked.ok("messages", "cancel", *option, "--plan").startswith("2 messages meant\n")
    assert "gone" in worked.ok("messages", "list", "--template", "gone")
    said = worked.run("messages", "cancel", "--template", "gona")
    assert (said.exit_code, 'did you mean "gone"?' in said.output) == (2, True), said.output


def test_many_are_asked_about_first(worked: Place) -> None:
    many(worked, "queued")
    said = worked.run("messages", "cancel", "--template", "order-shipped")
    assert (said.exit_code, "add --yes" in said.output) == (2, True), said.output
    planned = json.loads(worked.ok("messages", "cancel", "--template", "order-shipped", "--plan", "--json"))
    assert planned["meant"] == 12
    assert len(listed(worked, "--state", "queued")) == 12
    done = json.loads(worked.ok("messages", "cancel", "--template", "order-shipped", "--yes", "--json"))
    assert done == {"meant": 12, "states": {"cancelled": 12}, "left": {}}


def test_a_vendor_that_cannot_take_back_says_so(worked: Place) -> None:
    said = worked.run("messages", "cancel", "--state", "sent")
    assert (said.exit_code, LEFT["not-taken-back"] in said.output) == (1, True), said.output
    assert len(listed(worked, "--state", "sent")) == 2


def test_a_vendor_that_can_takes_messages_back(worked: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def take_back(gateway: FolderGateway, message: Message) -> bool:
        return message.order == "T2"

    monkeypatch.setattr(FolderGateway, "cancel", take_back)
    said = worked.run("messages", "cancel", "--state", "sent", "--json")
    told = json.loads(said.stdout)
    assert (said.exit_code, told["states"], told["left"]) == (1, {"cancelled": 1}, {"not-taken-back": 1}), said.output
    assert [row["order"] for row in listed(worked, "--state", "cancelled")] == ["T2"]


def test_every_reason_to_leave_a_message_is_in_words() -> None:
    source = Path(intervention.__file__).read_text("utf-8")
    assert [why for why in LEFT if why not in ("moved-on", "not-taken-back") and f'"{why}"' not in source] == []


@pytest.fixture
def parked(place: Place) -> Place:
    """A plugin failed too often at two interactions."""
    (place.folder / "mine.py").write_text(PLUGIN)
    place.config.write_text(
        place.config.read_text().replace('use = ["care"]', 'use = ["care", "./mine.py"]').partition("[[care")[0]
    )
    place.run("sync", now=NOW)
    assert place.run("dispatch", now="2026-05-20T12:00Z").exit_code == 1
    return place


def test_what_a_plugin_failed_at_is_decided_again(parked: Place) -> None:
    assert "crmkit interactions retry" in parked.run("doctor", "--offline", now=NOW).output
    assert parked.ok("interactions", "retry", "--plugin", "care") == "nothing is parked\n"
    (parked.folder / "mended").touch()
    said = parked.ok("interactions", "retry", "--plugin", "mine", now=NOW)
    assert said.endswith("due again with the next `crmkit dispatch`\n")
    parked.run("dispatch", now="2026-05-20T12:00Z")
    assert [row["order"] for row in listed(parked, "--state", "sent")] == ["T3", "T2"]
    assert parked.ok("interactions", "retry", "--all") == "nothing is parked\n"


def test_an_interaction_of_which_nothing_is_parked_is_named(parked: Place) -> None:
    number = json.loads(parked.ok("interactions", "list", "--type", "order-paid", "--json").splitlines()[0])["id"]
    said = parked.run("interactions", "retry", str(number))
    assert (said.exit_code, f"nothing of interaction #{number} is parked" in said.output) == (1, True)
