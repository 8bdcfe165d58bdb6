import json
import stat
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from crmkit.host.host import Host
from crmkit.store import tables as t

from .conftest import NOW, ORDERS, Place


def rows(shown: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shown.splitlines()]


def test_a_plan_of_a_sync_counts_and_writes_nothing(place: Place) -> None:
    result = place.run("sync", "--plan", "--json", now=NOW)
    assert result.exit_code == 1
    (shop,) = rows(result.stdout)
    assert shop["records"]["order"] == {"created": 5, "updated": 0, "unchanged": 0, "refused": 1}
    assert "orders.csv:7" in shop["refused"][0]["place"]
    assert not (place.folder / "crm.db").exists()


def test_a_sync_takes_in_the_good_and_names_the_bad(place: Place) -> None:
    result = place.run("sync", now=NOW)
    assert result.exit_code == 1
    assert "orders.csv:7" in result.stderr
    assert "not a time" in result.stderr
    assert "5 order-placed" in result.stdout
    again = place.run("sync", now=NOW)
    assert (again.exit_code, "nothing new" in again.stdout) == (0, True)


def test_a_shop_is_named_or_refused(place: Place) -> None:
    result = place.run("sync", "tee")
    assert result.exit_code == 2
    assert "tea" in result.stderr


def test_what_a_playbook_that_is_left_out_would_decide_waits_for_it(place: Place) -> None:
    place.run("sync", now=NOW, before=("--no-plugins",))
    left_out = place.run("dispatch", "--json", now=NOW, before=("--no-plugins",))
    assert (left_out.exit_code, json.loads(left_out.stdout)["messages"]) == (0, {})
    assert json.loads(place.ok("dispatch", "--json", now=NOW))["handed_over"] == {"sent": 2}


def test_a_plan_says_what_dispatch_then_does(place: Place) -> None:
    place.run("sync", now=NOW)
    file = place.folder / "plan.jsonl"
    shown = place.ok("dispatch", "--plan", str(file), now=NOW)
    assert "2 messages would leave, 1 would not" in shown
    assert "no address is known" in shown
    header, cut, *planned, _ = rows(file.read_text())
    assert (header["slices"], cut) == (1, {"slice": 0, "customers": [1, 2, 3]})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(row["state"] for row in planned) == ["sent", "sent", "suppressed"]
    simulated = rows(place.ok("dispatch", "--plan", "--json", now=NOW))
    assert {(row["key"], row["text"]) for row in simulated} == {(row["key"], row["text"]) for row in planned}
    assert not (place.folder / "outbox").exists()

    done = json.loads(place.ok("dispatch", "--apply", str(file), "--json", now=NOW))
    assert (done["messages"], done["handed_over"]) == ({"queued": 2, "suppressed": 1}, {"sent": 2})
    assert len(list((place.folder / "outbox").glob("*.eml"))) == 2
    sent = rows(place.ok("messages", "list", "--json"))
    assert {row["key"] for row in sent} == {row["key"] for row in planned}
    assert json.loads(place.ok("dispatch", "--json", now=NOW))["decided"] == 0


def test_messages_are_listed_and_shown(worked: Place) -> None:
    assert len(rows(worked.ok("messages", "list", "--state", "sent", "--json"))) == 2
    (kept,) = rows(worked.ok("messages", "list", "--reason", "no-address", "--json"))
    assert (kept["order"], kept["state"], kept["shop"]) == ("T4", "suppressed", "tea")
    (sent,) = rows(worked.ok("messages", "list", "--order", "T2", "--json"))
    shown = worked.ok("messages", "show", str(sent["id"]))
    assert "ada@buyers.example" in shown
    assert "attempts" in shown
    assert worked.run("messages", "show", "99").exit_code == 2
    assert worked.run("messages", "list", "--state", "snet").exit_code == 2
    assert rows(worked.ok("messages", "list", "--customer", "bo@buyers.example", "--json"))[0]["order"] == "T3"


def test_a_message_is_explained(worked: Place) -> None:
    (sent,) = rows(worked.ok("messages", "list", "--order", "T2", "--json"))
    told = worked.ok("explain", "message", str(sent["id"]))
    assert "It was caused by order-shipped" in told
    assert "about order T2 at tea" in told
    assert "The plugin care asked for it" in told
    assert "version" in told
    assert "let it pass" in told
    assert "Try 1 by folder" in told
    (kept,) = rows(worked.ok("messages", "list", "--order", "T4", "--json"))
    told = worked.ok("explain", "message", str(kept["id"]))
    assert "no-address" in told
    assert "It was never handed to a gateway." in told
    assert json.loads(worked.ok("explain", "message", str(kept["id"]), "--json"))["reason"] == "no-address"


def test_of_a_message_in_doubt_it_is_explained_when_its_vendor_will_be_asked(
    worked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crmkit_email.folder import FolderGateway

    (sent,) = rows(worked.ok("messages", "list", "--order", "T2", "--json"))
    number = str(sent["id"])

    def doubt(look_ups: int) -> str:
        store = Host.open(worked.config).store()
        values = {"state": "in-doubt", "look_ups": look_ups, "not_before": datetime(2026, 5, 8, 18, 2, tzinfo=UTC)}
        with store.begin() as tx:
            tx.execute(sa.update(t.message).where(t.message.c.id == sent["id"]).values(**values))
        store.close()
        return worked.ok("explain", "message", number, now=NOW)

    assert "The vendor of folder cannot be asked what became of it" in doubt(0)
    monkeypatch.setattr(FolderGateway, "look_up", lambda self, message: None)
    assert "is asked by a dispatch what became of it, due 2026-05-08 20:02 CEST, 3 times so far." in doubt(3)
    assert "was asked 10 times what became of it, and is asked no more" in doubt(10)


def test_an_error_that_befalls_many_is_told_once(place: Place) -> None:
    place.run("sync", now=NOW)
    (place.folder / "templates").mkdir()
    front = '---\npurpose = "transactional"\nsubject = "Hi"\n---\n'
    (place.folder / "templates" / "order-shipped.en.email.txt").write_text(front + "{% if %}")
    for options in (("--plan",), ()):
        told = place.run("dispatch", *options, now=NOW)
        (said,) = [line for line in told.stderr.splitlines() if "correct the template" in line]
        assert said.startswith("error: care on interaction #")
        assert " and 2 others: " in said


def test_what_came_by_a_webhook_and_has_no_id_is_to_be_read_again_with_its_webhook(worked: Place) -> None:
    store = Host.open(worked.config).store()
    with store.begin() as tx:
        tx.execute(sa.update(t.quarantine).values(inbox_id=3, ref=None))
        number = tx.execute(sa.select(t.quarantine.c.id)).scalar_one()
    store.close()
    told = worked.run("quarantine", "retry", str(number), now=NOW)
    assert "it has no id to be read by; it came by a webhook, which `crmkit inbox replay 3` reads again" in told.stderr
    assert "webhook" in worked.ok("quarantine", "show", str(number))


def test_a_template_is_tried(worked: Place) -> None:
    assert "Your order 1001" in worked.ok("messages", "test", "order-shipped")
    shown = worked.ok(
        "messages", "test", "order-shipped", "--order", "T2", "--locale", "zh-CN", "--to", "me@tea.example"
    )
    assert "您的订单" in shown
    assert "accepted" in shown
    assert len(list((worked.folder / "outbox").glob("*.eml"))) == 3
    assert len(rows(worked.ok("messages", "list", "--json"))) == 3
    result = worked.run("messages", "test", "order-shiped")
    assert (result.exit_code, 'did you mean "order-shipped"?' in result.stderr) == (2, True)
    assert worked.run("messages", "test", "order-shipped", "--to", "a@@b").exit_code == 1


def test_customers_are_found_by_whatever_is_known(worked: Place) -> None:
    for text in ("c1", "ADA@buyers.example", "T1", "ada", "buyers.example"):
        found = rows(worked.ok("customers", "find", text, "--json"))
        assert found[0]["name"] == "Ada", text
        assert found[0]["orders"] == 2
    number = rows(worked.ok("customers", "find", "ada", "--json"))[0]["customer"]
    assert rows(worked.ok("customers", "find", f"#{number}", "--json"))[0]["name"] == "Ada"
    assert len(rows(worked.ok("customers", "find", "buyers.example", "--json"))) == 3
    assert "nobody is known" in worked.ok("customers", "find", "nobody at all")


def test_a_customer_is_shown_and_must_be_one(worked: Place) -> None:
    shown = json.loads(worked.ok("customers", "show", "ada", "--json"))
    assert [order["external_id"] for order in shown["orders"]] == ["T1", "T2"]
    assert {row["type"] for row in shown["interactions"]} >= {"order-placed", "order-shipped"}
    assert "12.50 EUR" in worked.ok("customers", "show", "ada")
    result = worked.run("customers", "show", "buyers.example")
    assert (result.exit_code, "more than one customer" in result.stderr) == (2, True)
    assert worked.run("customers", "show", "zzz").exit_code == 2


def test_reach_adds_up(worked: Place) -> None:
    found = json.loads(worked.ok("customers", "reach", "--json"))
    assert found["customers"] == 4
    assert found["transactional"] == {"email (email)": 3, "no-address": 1}
    assert found["marketing"] == {"no-consent": 3, "no-address": 1}
    assert "all customers" in worked.ok("customers", "reach")


def test_a_customer_is_explained(worked: Place) -> None:
    told = worked.ok("explain", "customer", "ada")
    assert "Ada, in stage fulfill" in told
    assert "buyer c1 of tea" in told
    assert "Yes: transactional news by email to ada@buyers.example." in told
    assert "No: marketing news by email to ada@buyers.example: no-consent" in told
    assert "is history and was told nobody" in told
    assert "order-shipped about order T2" in told
    assert "No address is known" in worked.ok("explain", "customer", "Cy")


def test_of_a_customer_it_is_explained_that_marketing_waits_for_old_opt_outs(worked: Place) -> None:
    waits = "Of tea marketing waits until old opt-outs were imported, or declared none"
    assert waits not in worked.ok("explain", "customer", "ada")  # who allowed none waits for nothing
    worked.ok("consent", "set", "ada", "granted", "--wording", "Yes, please")
    told = worked.ok("explain", "customer", "ada")
    assert "Yes: marketing news by email to ada@buyers.example." in told
    assert waits in told
    worked.ok("consent", "none-before", "--reason", "a new shop")
    assert waits not in worked.ok("explain", "customer", "ada")


def test_interactions_are_listed(worked: Place) -> None:
    found = rows(worked.ok("interactions", "list", "--type", "order-shipped,order-paid", "--json", "--limit", "3"))
    assert [row["type"] for row in found] == ["order-shipped"] * 3
    assert len(rows(worked.ok("interactions", "list", "--order", "T5", "--json"))) == 2
    recent = rows(worked.ok("interactions", "list", "--since", "2026-05-08T12:00", "--type", "order-shipped", "--json"))
    assert [row["order"] for row in recent] == ["T3", "T4"]
    assert worked.run("interactions", "list", "--type", "order-shpped").exit_code == 2
    assert worked.run("interactions", "list", "--shop", "te").exit_code == 2


def test_what_was_refused_is_listed_shown_and_read_again(worked: Place) -> None:
    (refused,) = rows(worked.ok("quarantine", "list", "--json"))
    assert refused["shop"] == "tea"
    shown = worked.ok("quarantine", "show", str(refused["id"]))
    assert "not a time" in shown
    assert worked.run("quarantine", "retry", "--all").exit_code == 1
    assert worked.run("quarantine", "retry").exit_code == 2
    assert worked.run("quarantine", "show", "99").exit_code == 2
    (worked.folder / "exports" / "orders.csv").write_text(ORDERS.replace("not a time", "2026-05-07T13:00Z"))
    assert "1 record taken, 0 still refused" in worked.ok("quarantine", "retry", str(refused["id"]))
    assert worked.ok("quarantine", "list") == "nothing is in quarantine\n"
    assert rows(worked.ok("customers", "find", "T6", "--json"))[0]["name"] == "Ed"


def test_consent_is_entered_and_counts(worked: Place) -> None:
    assert "never allowed or forbade" in worked.ok("consent", "show", "ada")
    worked.ok("consent", "set", "ada", "granted", "--wording", "Yes, please")
    assert json.loads(worked.ok("customers", "reach", "--json"))["marketing"]["email (email)"] == 1
    worked.ok("consent", "set", "ada", "withdrawn")
    assert json.loads(worked.ok("customers", "reach", "--json"))["marketing"]["opted-out"] == 1
    worked.ok("consent", "set", "BO@buyers.example", "withdrawn", "--address", "--purpose", "*")
    found = json.loads(worked.ok("consent", "show", "bo", "--json"))
    assert [way["reason"] for way in found["ways"]] == ["opted-out", "opted-out"]
    changed = rows(worked.ok("interactions", "list", "--type", "consent-changed", "--json"))
    assert [row["payload"]["state"] for row in changed] == ["granted", "withdrawn"]
    assert worked.run("consent", "set", "a@@b", "withdrawn", "--address").exit_code == 2


def test_consent_is_imported_row_by_row(worked: Place) -> None:
    file = worked.folder / "optin.csv"
    file.write_text(
        "\ufeffcustomer,address,state,occurred_at,channel\n"
        "ada@buyers.example,,granted,2026-05-01T10:00,email\n"
        ",bo@buyers.example,withdrawn,2026-05-01,*\n"
        "nobody,,granted,2026-05-01,*\n"
        "c1,,maybe,2026-05-01,*\n"
    )
    planned = worked.run("consent", "import", str(file), "--plan")
    assert (planned.exit_code, "2 would be entered, 2 refused" in planned.stdout) == (1, True)
    result = worked.run("consent", "import", str(file))
    assert result.exit_code == 1
    assert "2 entered, 0 known already, 2 refused" in result.stdout
    assert "optin.csv:4: nobody is known as 'nobody'" in result.stderr
    assert "optin.csv:5: state is 'maybe'" in result.stderr
    assert "0 entered, 2 known already" in worked.run("consent", "import", str(file)).stdout
    file.write_text("address,state\n" + "bo@buyers.example,withdrawn\n" * 2)
    assert "1 entered, 1 known already" in worked.run("consent", "import", str(file)).stdout
    file.write_text("custmer,state\n")
    assert 'did you mean "customer"?' in worked.run("consent", "import", str(file)).stderr


def test_doctor_says_what_is_not_as_it_should_be(worked: Place) -> None:
    result = worked.run("doctor", "--json")
    found = rows(result.stdout)
    assert result.exit_code == 1
    assert [one["text"] for one in found if one["level"] == "bad"] == [
        "1 order records of tea; see `crmkit quarantine list`"
    ]
    assert {"part": "gateway folder", "level": "ok", "text": "answers"} in found
    assert any(one["part"] == "sync" and "done" in one["text"] for one in found)


def test_doctor_works_before_the_first_sync_and_with_a_broken_configuration(place: Place) -> None:
    result = place.run("doctor")
    assert result.exit_code == 0, result.output
    assert "does not exist yet" in result.stdout
    place.config.write_text("[crm]\ndatabase = 3\n")
    result = place.run("doctor")
    assert result.exit_code == 2
    assert "BAD" in result.stdout


SLOW = """\
import time

from crmkit import OrderPlaced, hookimpl, on


@on(OrderPlaced)
def ponder(event, crm):
    time.sleep(0.3)
    return ()


@hookimpl
def crmkit_handlers():
    yield ponder
"""


def test_a_slow_playbook_is_named(place: Place) -> None:
    # SEMANTICS 14
    (place.folder / "slow.py").write_text(SLOW)
    place.config.write_text(place.config.read_text().replace('use = ["care"]', 'use = ["care", "./slow.py"]'))
    place.run("sync", now=NOW)
    assert "slow is slow: 1." in place.run("dispatch", now=NOW).stderr


def test_a_missing_folder_of_exports_is_said_once(worked: Place) -> None:
    (worked.folder / "exports").rename(worked.folder / "elsewhere")
    why = f"shops.tea: there is no folder {worked.folder / 'exports'}; correct shops.tea.path"
    said = worked.run("sync", now=NOW)
    assert (said.exit_code, said.stderr) == (2, f"error: tea: {why}\n"), said.output
    assert json.loads(worked.run("sync", "--json", now=NOW).stdout)["errors"] == [why]
    doctor = worked.run("doctor", now=NOW)
    assert [line for line in doctor.stdout.splitlines() if "there is no folder" in line] == [f"BAD  shop tea: {why}"]
