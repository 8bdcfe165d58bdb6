"""A gateway whose tries are refused, or whose messages come back or are complained of too much, pauses by itself."""

from dataclasses import replace
from typing import Any

import pytest

from crmkit.core.actions import Send, staff
from crmkit.core.errors import DoubtError, RetryableError
from crmkit.core.events import GatewayPaused
from crmkit.core.hooks import on
from crmkit.core.message import Message, Reason, Receipt
from crmkit.core.records import Address, ConsentRecord, ReceiptRecord
from crmkit.core.reputation import Thresholds, Tried
from crmkit.flow.pause import pause, resume
from crmkit.flow.reputation import stopped
from crmkit.flow.setup import Rules, StaffMember
from crmkit.store import tables as t
from tests.play import HOUR, NOON, Play, entry
from tests.scripted import Scripted, accept, queue, send
from tests.strategies import a_shop


def watched(play: Play, **fields: Any) -> None:
    play.more["rules"] = Rules(pause=Thresholds(**{"sample": 10, **fields}))


def refuse(message: Message) -> Receipt:
    return message.rejected(Reason.CONTENT, "no")


def vanish(message: Message) -> Receipt:
    return message.rejected(Reason.BAD_ADDRESS, "nobody there")


def every(count: int, other: Any) -> list[Any]:
    """One in so many goes wrong."""
    return [other if number % count == 0 else accept for number in range(200)]


def why(play: Play) -> str | None:
    rows = play.rows(t.pause)
    return rows[0]["reason"] if rows else None


def told(play: Play, state: str, count: int, at: Any = NOON, watch: Thresholds | None = None) -> None:
    """So many of the messages that were sent are said to have come back, or whatever else."""
    sent = play.rows(t.message)[:count]
    records = [
        ReceiptRecord(external_id=f"r{row['id']}", key=row["key"], state=state, reason="bad-address", occurred_at=at)  # type: ignore[arg-type]
        for row in sent
    ]
    play.shops[7] = replace(a_shop(7, kind="gateway", watch=watch or Thresholds(sample=10)), name="mail")
    play.take(*records, shop=7, now=at)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (refuse, "tries were refused or got no verdict"),
        (DoubtError("timed out"), "tries were refused or got no verdict"),
        (vanish, "messages came back"),
    ],
)
async def test_a_gateway_pauses_when_too_much_goes_wrong(play: Play, outcome: Any, says: str) -> None:
    watched(play)
    queue(play, 60)
    await send(play, Scripted(*every(4, outcome), concurrency=1))
    reason = why(play)
    assert reason is not None
    assert says in reason
    assert "of 60" not in reason  # it did not wait for the end
    assert play.one(t.pause)["actor"] == "crmkit"
    assert play.count(t.message, state="queued") > 10
    assert play.count(t.attempt) < 50


async def test_what_waits_says_so_and_leaves_after_a_resume_that_begins_a_new_window(play: Play) -> None:
    watched(play)
    queue(play, 60)
    await send(play, Scripted(*every(3, refuse), concurrency=1))
    await send(play, Scripted(accept), NOON + HOUR)
    assert play.count(t.message, reason="paused") == play.count(t.message, state="queued") > 0
    left = play.count(t.message, state="queued")
    with play.store.begin() as tx:
        assert resume(tx, play.setup, "gateway", "mail", NOON + HOUR) == left
    await send(play, Scripted(*every(6, refuse), concurrency=1), NOON + HOUR)
    assert why(play) is None
    assert play.count(t.message, state="queued") == 0


async def test_little_going_wrong_pauses_nothing(play: Play) -> None:
    watched(play)
    queue(play, 60)
    await send(play, Scripted(*every(7, refuse), concurrency=1))
    assert why(play) is None
    assert play.count(t.message, state="queued") == 0


async def test_a_few_that_were_tried_say_nothing(play: Play) -> None:
    watched(play, sample=100)
    queue(play, 30)
    await send(play, Scripted(refuse, concurrency=1))
    assert why(play) is None


async def test_an_outage_is_the_circuits_matter(play: Play) -> None:
    watched(play)
    queue(play, 30)
    for hour in range(12):
        await send(play, Scripted(RetryableError("refused")), NOON + hour * HOUR)
    assert why(play) is None


async def test_a_mailbox_that_is_full_is_its_owners_matter(play: Play) -> None:
    watched(play, bounces=None)
    queue(play, 30)
    await send(play, Scripted(lambda message: message.rejected(Reason.MAILBOX_FULL, "full")))
    assert why(play) is None


async def test_bounces_by_receipt_count(play: Play) -> None:
    queue(play, 40)
    await send(play, Scripted(accept))
    told(play, "bounced", 4)
    assert why(play) is None
    told(play, "bounced", 5)
    assert why(play) == "5 of 40 messages came back, 12.5% (policy.pause allows 10%)"


async def test_what_was_sent_before_a_resume_is_no_part_of_the_new_window(play: Play) -> None:
    queue(play, 40)
    await send(play, Scripted(accept))
    with play.store.begin() as tx:
        pause(tx, play.setup, "gateway", "mail", NOON, actor="ann")
        resume(tx, play.setup, "gateway", "mail", NOON)
    told(play, "bounced", 40, NOON + HOUR)
    assert why(play) is None


async def test_complaints_count(play: Play) -> None:
    queue(play, 100)
    await send(play, Scripted(accept))
    play.shops[7] = replace(a_shop(7, kind="gateway", watch=Thresholds()), name="mail")
    records = [
        ConsentRecord(
            external_id=f"c{row['id']}",
            address=Address(kind="email", value=row["address"]),
            channel="email",
            purpose="marketing",
            state="withdrawn",
            is_complaint=True,
            said_at=NOON,
        )
        for row in play.rows(t.message)[:5]
    ]
    play.take(*records[:4], shop=7)
    assert why(play) is None
    play.take(*records, shop=7)
    assert why(play) == "5 of 100 messages were complained of, 5.0% (policy.pause allows 0.5%)"


async def test_staff_are_told_and_the_run_says_what_stopped_it(play: Play) -> None:
    play.channels = {"email": [entry(Scripted, "mail"), entry(Scripted, "spare")]}
    play.more["staff"] = [StaffMember("Chen", frozenset({"ops"}), {"email": "chen@tea.example"})]
    play.template("alarm.en.email", 'purpose = "transactional"\nsubject = "S"\n---\n{{ gateway }}: {{ reason }}')
    play.plugin("alarm", on(GatewayPaused)(lambda event, crm: [Send("alarm", via=("email",), to=staff("ops"))]))
    watched(play)
    queue(play, 20)
    done = await send(play, Scripted(*every(2, refuse), concurrency=1))
    assert "paused: " in str(done.stopped["mail"])
    assert "crmkit resume gateway mail" in str(done.stopped["mail"])
    play.decide()
    message = play.one(t.message, template="alarm")
    assert message["text"] == f"mail: {why(play)}"
    assert play.count(t.interaction, type="gateway-paused") == 1


async def test_what_a_person_resumed_stops_no_run(play: Play) -> None:
    queue(play, 3)
    await send(play, Scripted(refuse))
    with play.store.read() as tx:
        assert stopped(tx, "mail") is None


def test_a_threshold_that_is_switched_off_is_never_passed() -> None:
    tried = Tried(accepted=100, errors=900)
    assert Thresholds(errors=None).passed(tried) is None
    assert Thresholds().passed(tried) is not None
    assert not Thresholds(None, None, None).any


def test_no_more_is_counted_than_would_make_it_little() -> None:
    assert Thresholds().enough(Tried(errors=4)) == 0
    assert Thresholds().enough(Tried(errors=100)) == 500
    assert Thresholds().passed(Tried(accepted=500, errors=100)) is None
