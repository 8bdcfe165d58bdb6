"""What forgetting reaches: messages on the wire, to staff, raw bodies; and what of others it leaves alone."""

import json
import threading
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from crmkit.adapters.stream import Page, Refused
from crmkit.core.actions import Note, Send, staff
from crmkit.core.errors import RetryableError
from crmkit.core.events import MessageReceived
from crmkit.core.hooks import on
from crmkit.core.message import Message, Receipt
from crmkit.core.records import Address, Buyer, InboundRecord, ReceiptRecord
from crmkit.core.trace import Traces
from crmkit.flow import family
from crmkit.flow.claim import claim
from crmkit.flow.forget import forget, look_through
from crmkit.flow.inbox import _Said, _take
from crmkit.flow.ingest import ingest
from crmkit.flow.setup import StaffMember
from crmkit.store import bodies, bulk, forgotten, inbox, log
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.play import DAY, HOUR, MINUTE, NOON, Play, buyer, order
from tests.scripted import Scripted, accept, queue, send

ANN = Buyer(external_id="b-ann", name="Ann Hushedson", email="ann@hushed.example", phone="+1 202 555 0123")
SECRET = ("hushed", "2025550123")


def left(play: Play) -> list[tuple[str, str, str]]:
    """Where something is left: table, column, value."""
    found = []
    with play.store.read() as tx:
        for table in t.CORE:
            for row in tx.execute(sa.select(table)).mappings():
                for name, value in row.items():
                    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                    if any(secret in text.lower() for secret in SECRET):
                        found.append((table.name, name, text))
    return found


def forget_all(play: Play, number: int = 1, now: datetime = NOON) -> dict[str, int]:
    with play.store.begin() as tx:
        return forget(tx, number, now=now)


def wrote(number: str = "m", text: str = "a hushed matter", phone: str = "+12025550123") -> InboundRecord:
    sender = Address(kind="phone", value=phone)
    return InboundRecord(external_id=number, channel="sms", sender=sender, text=text, received_at=NOON)


def tell_staff(play: Play) -> None:
    play.more["staff"] = [StaffMember("Chen", frozenset({"care"}), {"email": "chen@shop.example"})]
    play.template("alert.en.email", 'purpose = "transactional"\nsubject = "S"\n---\n{{ sender }} wrote: {{ text }}')
    play.plugin(
        "one",
        on(MessageReceived)(
            lambda event, crm: [Send("alert", via=("email",), to=staff("care")), Note(f"wrote {event.text}")]
        ),
    )


def profiles(play: Play, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in play.rows(t.profile)]


# --- on the wire


# SEMANTICS 12, 21
async def test_a_try_that_ends_as_a_retry_while_its_customer_is_forgotten_is_not_sent_again(
    play: Play, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(play)
    other, inside, over = Store(migrated_url), threading.Event(), threading.Event()
    erase = bodies.erase

    def slow(*args: Any) -> int:
        inside.set()
        over.wait(0.5)
        return erase(*args)

    monkeypatch.setattr(bodies, "erase", slow)

    def forgetting() -> None:
        with other.begin() as tx:
            forget(tx, 1, now=NOON)

    thread = threading.Thread(target=forgetting)

    def outcome(message: Message) -> Receipt:
        thread.start()
        inside.wait(5)
        raise RetryableError("503", who="mail", operation="deliver")

    await send(play, Scripted(outcome))
    thread.join()
    other.close()
    again = Scripted(accept)
    await send(play, again, NOON + HOUR)
    row = play.one(t.message)
    assert again.asked == []
    assert (row["state"], row["reason"], row["address"], row["text"]) == ("suppressed", "forgotten", None, None)


# SEMANTICS 12
@pytest.mark.parametrize("emptied", ["address", "text"])
async def test_what_was_emptied_is_suppressed_and_never_handed_over(play: Play, emptied: str) -> None:
    queue(play)
    play.write(lambda tx: tx.execute(sa.update(t.message).values({emptied: None})))
    gateway = Scripted(accept)
    await send(play, gateway)
    assert gateway.asked == []
    assert (play.one(t.message)["state"], play.one(t.message)["reason"]) == ("suppressed", "forgotten")


# SEMANTICS 12
async def test_what_is_emptied_after_it_was_claimed_is_not_marked(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    from crmkit.flow import deliver

    queue(play)

    def emptying(tx: sa.Connection, *args: Any, **more: Any) -> Any:
        found = claim(tx, *args, **more)
        tx.execute(sa.update(t.message).values(address=None))
        return found

    monkeypatch.setattr(deliver, "claim", emptying)
    gateway = Scripted(accept)
    await send(play, gateway)
    assert gateway.asked == []


# SEMANTICS 12
def test_what_may_have_been_sent_before_is_cancelled_and_not_said_to_be_suppressed(play: Play) -> None:
    queue(play)
    play.write(lambda tx: tx.execute(sa.update(t.message).values(doubted_at=NOON)))
    forget_all(play)
    assert (play.one(t.message)["state"], play.one(t.message)["reason"]) == ("cancelled", "forgotten")


# SEMANTICS 12
async def test_what_a_vendor_writes_of_a_forgotten_customers_message_is_not_kept(play: Play) -> None:
    play.template("news.en.email", 'purpose = "transactional"\nsubject = "S"\n---\nHi')
    queue(play)
    await send(play, Scripted(accept))
    forget_all(play)
    number = play.one(t.message)["id"]
    said = {"detail": "550 <ann@hushed.example> no such user", "recipient": "ann@hushed.example"}
    bounce = ReceiptRecord(external_id="r", state="bounced", vendor_id=f"v{number}", occurred_at=NOON + HOUR, **said)
    with play.store.begin() as tx:
        ingest(tx, replace(play.shops[1], name="mail"), Page([bounce]), stream="r", listened=(), now=NOON + HOUR)
    assert play.one(t.message)["state"] == "bounced"
    assert left(play) == []


# --- what was said, and to whom


# SEMANTICS 12
def test_staff_is_told_nothing_of_a_forgotten_customer(play: Play) -> None:
    tell_staff(play)
    play.take(order("1", ANN), wrote())
    play.take(wrote())
    play.decide()
    assert play.one(t.message)["state"] == "queued"
    forget_all(play)
    assert (play.one(t.message)["state"], play.one(t.message)["reason"]) == ("suppressed", "forgotten")
    assert left(play) == []


# SEMANTICS 12
def test_staffs_message_that_was_on_the_wire_then_is_not_tried_again_and_erased(play: Play) -> None:
    tell_staff(play)
    play.take(order("1", ANN), wrote())
    play.decide()
    on_the_wire = {"state": "sending", "claim_id": "x", "lease_until": NOON + HOUR}
    play.write(lambda tx: tx.execute(sa.update(t.message).values(**on_the_wire)))
    forget_all(play)
    assert play.one(t.message)["text"] is not None
    play.write(lambda tx: tx.execute(sa.update(t.message).values(state="queued", claim_id=None, lease_until=None)))
    with play.store.read() as tx:
        assert forgotten.meant(tx, play.rows(t.message)) == {play.one(t.message)["id"]}
    play.write(lambda tx: forgotten.sweep(tx, NOON))
    assert play.one(t.message)["state"] == "suppressed"
    assert left(play) == []


# SEMANTICS 12
def test_what_somebody_wrote_before_they_were_known_goes_with_what_it_led_to(play: Play) -> None:
    tell_staff(play)
    play.take(wrote(), wrote("other", "bobs matter", "+12025550199"))
    play.decide()
    play.take(order("1", ANN))
    forget_all(play)
    assert left(play) == []
    assert [row["state"] for row in play.rows(t.message)] == ["suppressed", "queued"]
    assert "bobs matter" in play.rows(t.message)[1]["text"]


def burst(play: Play) -> None:
    """Ann's words and then Bob's become one message to the staff."""
    play.more["staff"] = [StaffMember("Chen", frozenset({"care"}), {"email": "chen@shop.example"})]
    play.template("alert.en.email", 'purpose = "transactional"\nsubject = "S"\n---\n{{ count }}: {{ text }}.')
    send = Send("alert", via=("email",), to=staff("care"), combine=HOUR)
    play.plugin("one", on(MessageReceived)(lambda event, crm: [send]))
    play.take(order("1", ANN), order("2", buyer("bob", phone="+12025550199")))
    play.take(wrote(), wrote("other", "bobs matter", "+12025550199"))
    play.decide()


# SEMANTICS 12
@pytest.mark.parametrize("is_fired", [False, True])
def test_a_burst_keeps_its_others_and_no_words_of_who_is_forgotten(play: Play, is_fired: bool) -> None:
    burst(play)
    if is_fired:
        play.write(lambda tx: log.fire_timers(tx, NOON + 2 * HOUR, play.setup.listened, 10))
        assert (play.count(t.pending), play.count(t.timer)) == (1, 0)
    forget_all(play)
    assert left(play) == []
    play.decide(NOON + 2 * HOUR)
    assert [row["text"] for row in play.rows(t.message, state="queued")] == ["2: ."]
    assert left(play) == []


# SEMANTICS 12
def test_a_burst_that_was_told_of_goes_with_who_was_first(play: Play) -> None:
    burst(play)
    play.decide(NOON + 2 * HOUR)
    assert "hushed" in play.one(t.message, state="queued")["text"]
    forget_all(play)
    assert play.count(t.message, state="queued") == 0
    assert left(play) == []


# --- raw bodies


def keep(play: Play, key: str, body: Any, state: str = "done", refs: list[str] | None = None) -> int:
    """A webhook of the shop, as it was kept."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with play.store.begin() as tx:
        call = {"account_id": 1, "dedupe_key": key, "headers": {"x-from": key}, "query": "", "body": raw}
        inbox.keep(tx, [{**call, "received_at": NOON}])
        mine = t.inbox.c.dedupe_key == key
        tx.execute(sa.update(t.inbox).where(mine).values(state=state, refs=refs))
        return int(tx.execute(sa.select(t.inbox.c.id).where(mine)).scalar_one())


def kept(play: Play) -> list[str]:
    """The webhooks with a body."""
    return [row["dedupe_key"] for row in play.rows(t.inbox) if row["body"]]


# SEMANTICS 12
def test_webhooks_about_a_forgotten_customer_are_emptied_however_they_name_them(play: Play) -> None:
    who = Buyer(external_id="77", name="Zoë", email="zoe@müller.example", phone="+12025550123")
    play.take(order("9", who))
    keep(play, "plain", '{"email": "Zoe@müller.example"}'.encode())
    keep(play, "escaped", {"email": "zoe@müller.example"})
    keep(play, "ascii", {"email": "zoe@xn--mller-kva.example"})
    keep(play, "form", b"from=%2B12025550123&to=1")
    keep(play, "order", {"address": "Hauptstr. 5"}, refs=["order:9"])
    keep(play, "parcel", {"to": "Muster"}, refs=["parcel:9"])
    keep(play, "buyer", {"name": "Muster"}, refs=["customer:77"])
    keep(play, "other order", {"id": 9}, refs=["order:99", "customer:9"])
    forget_all(play)
    assert kept(play) == ["other order"]


# SEMANTICS 12
def test_bodies_of_others_stay_and_what_waits_is_taken_in(play: Play) -> None:
    play.take(order("1", Buyer(external_id="b", name="Ann Smith", email="ann@hushed.example")))
    keep(play, "longer", {"email": "joann@hushed.example"})
    keep(play, "name", {"name": "Ann Smith"})
    keep(play, "waits", {"email": "ann@hushed.example"}, state="waiting")
    forget_all(play)
    assert kept(play) == ["longer", "name", "waits"]


# SEMANTICS 12
def test_a_webhook_about_a_forgotten_customer_is_emptied_as_it_is_taken_in(play: Play) -> None:
    play.take(order("1", ANN), order("2", buyer("bob")))
    forget_all(play)
    said = {
        "again": _Said([order("1", ANN)]),
        "new": _Said([order("9", Buyer(phone="(202) 555-0123"))]),
        "hint": _Said(rereads=[("order", "1")]),
        "buyer": _Said(rereads=[("customer", "b-ann")]),
        "refused": _Said(refused=[Refused("order", "webhook", "no total", "hushed", "1")]),
        "bob": _Said([order("2", buyer("bob"))], rereads=[("order", "3")]),
    }
    numbers = {keep(play, name, {"x": 1}, "waiting"): one for name, one in said.items()}
    play.write(lambda tx: _take(tx, play.shops[1], dict(numbers), (), NOON))
    assert kept(play) == ["bob"]
    assert {row["state"] for row in play.rows(t.inbox)} == {"done"}
    assert left(play) == []


# SEMANTICS 12
def test_an_order_that_turns_out_to_be_a_forgotten_customers_takes_its_webhooks_along(play: Play) -> None:
    play.take(order("1", ANN), order("6", Buyer(name="Eve")))
    forget_all(play)
    keep(play, "six", {"name": "Eve"}, refs=["order:6"])
    keep(play, "seven", {"name": "Eve"}, refs=["order:7"])
    play.take(order("6", ANN, updated_at=NOON + HOUR))
    assert kept(play) == ["seven"]


# SEMANTICS 12
def test_bodies_are_looked_through_before_and_only_what_is_new_is_read_again(play: Play) -> None:
    play.take(order("1", ANN))
    rows = [
        {"id": n, "account_id": 1, "dedupe_key": str(n), "received_at": NOON, "body": b"nobody", "state": "done"}
        for n in range(1, 1001)
    ]
    play.write(lambda tx: bulk.insert(tx, t.inbox, [{**row, "headers": {}, "query": ""} for row in rows]))
    ann = {"body": b"ann@hushed.example"}
    play.write(lambda tx: tx.execute(sa.update(t.inbox).where(t.inbox.c.id.in_([3, 500])).values(**ann)))
    looked = look_through(play.store.read, 1)
    assert (looked.found["inbox"], looked.upto["inbox"]) == ([3, 500], 1000)
    late = {**rows[0], **ann, "headers": {}, "query": "", "id": 1001, "dedupe_key": "late"}
    play.write(lambda tx: bulk.insert(tx, t.inbox, [late]))
    with play.store.read() as tx:
        look = bodies._Look(looked.traces)
        assert len(list(look.candidates(tx, t.inbox, looked))) == 2 + 1 + bodies._LATE
        assert len(list(look.candidates(tx, t.inbox, bodies.Looked(Traces())))) == 1001
    with play.store.begin() as tx:
        assert forget(tx, 1, now=NOON, looked=looked)["raw bodies"] == 3
    assert left(play) == []


def test_what_was_looked_for_before_more_was_known_does_not_count(play: Play) -> None:
    play.take(order("1", ANN))
    looked = look_through(play.store.read, 1)
    keep(play, "old", b"mine@hushed.example")
    play.take(order("2", Buyer(external_id="b-ann", email="mine@hushed.example")))
    with play.store.begin() as tx:
        forget(tx, 1, now=NOON, looked=replace(looked, upto={"inbox": 10_000}))
    assert kept(play) == []


# --- others


# SEMANTICS 11, 12
def test_a_guest_that_is_forgotten_leaves_the_customer_it_was_merged_with(play: Play) -> None:
    play.take(order("1", Buyer(external_id="f", email="f@example.com")))
    play.take(order("6", Buyer(name="Eve")))
    play.take(order("7", Buyer(external_id="eve", name="Eve", email="eve@example.com")))
    play.write(lambda tx: family.merge(tx, 3, 2, actor="me", listened=(), now=NOON))
    forget_all(play)
    play.take(order("6", Buyer(email="f@example.com"), updated_at=NOON + HOUR))
    found = profiles(play, "family_id", "merged_into", "stage", "name")
    assert found == [(1, None, "engage", None), (2, None, "engage", None), (3, None, found[2][2], "Eve")]
    assert found[2][2] != "engage"
    assert [row["forgotten_at"] is None for row in play.rows(t.profile)] == [False, False, True]


# SEMANTICS 12
def test_who_loses_an_order_to_a_forgotten_customer_stands_where_the_others_put_them(play: Play) -> None:
    play.take(order("1", Buyer(external_id="f", phone="+12025550123")))
    eve = Buyer(external_id="eve", email="eve@example.com")
    play.take(order("3", eve))
    assert profiles(play, "stage")[1] != ("engage",)
    forget_all(play)
    again = Buyer(external_id="eve", email="eve@example.com", phone="+12025550123")
    play.take(order("3", again, updated_at=NOON + HOUR), now=NOON + DAY)
    assert profiles(play, "stage", "family_id")[1] == ("engage", 2)
    assert play.one(t.orders, external_id="3")["profile_id"] is None
    play.take(order("4", eve, at=NOON + HOUR + MINUTE))
    assert profiles(play, "stage")[1] != ("engage",)
