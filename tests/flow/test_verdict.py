"""What each answer and each error of a gateway means for a message."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from crmkit.core.errors import (
    AdapterError,
    AuthError,
    DoubtError,
    PayloadError,
    RefusedError,
    RetryableError,
    UnsupportedError,
)
from crmkit.core.message import Message, Reason
from crmkit.flow.verdict import TRIES, speaks, verdict_of
from crmkit.store import tables as t
from tests.play import Play
from tests.scripted import Scripted, accept, queue, send

MESSAGE = Message(1, "k", "email", "email", "a@example.com", "transactional", "news", "en", "text")
HOUR = timedelta(hours=1)

#: What came: state, reason, attempt; whether it counts, whether the gateway is struck off, whether the vendor spoke.
TABLE: list[tuple[Any, str, str | None, str, bool, bool, bool | None]] = [
    (MESSAGE.accepted("v"), "sent", None, "accepted", True, False, True),
    (MESSAGE.rejected(Reason.CONTENT, ""), "failed", "content", "rejected", True, False, True),
    (MESSAGE.rejected(Reason.BAD_ADDRESS, ""), "bounced", "bad-address", "rejected", True, False, True),
    (MESSAGE.rejected(Reason.NOT_CAPABLE, ""), "bounced", "not-capable", "rejected", True, False, True),
    (MESSAGE.rejected(Reason.SENDER, ""), "queued", "retry", "rejected", True, True, True),
    (MESSAGE.rejected(Reason.FUNDS, ""), "queued", "retry", "rejected", True, True, True),
    (MESSAGE.rejected(Reason.VENDOR_POLICY, ""), "queued", "retry", "rejected", True, True, True),
    (MESSAGE.deferred("later"), "queued", "retry", "deferred", True, False, True),
    (RetryableError("refused"), "queued", "retry", "refused", True, False, False),
    (RetryableError("429", retry_after=HOUR), "queued", "retry", "refused", False, False, True),
    (AuthError("401"), "queued", "retry", "refused", False, False, None),
    (UnsupportedError("no html"), "queued", "retry", "refused", True, True, None),
    (MESSAGE.unsupported("no html"), "queued", "retry", "refused", True, True, None),
    (MESSAGE.untried("its batch ended"), "queued", "retry", "refused", False, False, None),
    (RefusedError("422"), "failed", "other", "refused", True, False, True),
    (PayloadError("not JSON"), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (DoubtError("timeout"), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (AdapterError("something"), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (TimeoutError(), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (ZeroDivisionError("a bug"), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (None, "in-doubt", "no-verdict", "in-doubt", True, False, False),
]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{type(case[0]).__name__}-{case[2]}")
def test_what_a_try_did(case: tuple[Any, str, str | None, str, bool, bool, bool | None]) -> None:
    # SEMANTICS 23
    outcome, state, reason, attempt, counts, strikes, spoke = case
    ruling = verdict_of(outcome, tries=1, deduplicates=False, has_next=True)
    assert (ruling.state, ruling.reason, ruling.outcome) == (state, reason, attempt)
    assert (ruling.counts, ruling.strikes, ruling.doubts) == (counts, strikes, attempt == "in-doubt")
    assert speaks(outcome) is spoke


@pytest.mark.parametrize("reason", ["sender", "funds", "vendor-policy"])
def test_a_refusal_of_the_last_gateways_own_ends_the_message(reason: str) -> None:
    ruling = verdict_of(MESSAGE.rejected(Reason(reason), ""), tries=1, deduplicates=False)
    assert (ruling.state, ruling.reason) == ("failed", reason)


@pytest.mark.parametrize("outcome", [UnsupportedError("no html"), MESSAGE.unsupported("no html")])
def test_what_the_last_gateway_cannot_express_fails(outcome: Any) -> None:
    ruling = verdict_of(outcome, tries=1, deduplicates=False)
    assert (ruling.state, ruling.reason) == ("failed", "unsupported")


def test_an_outage_uses_up_no_tries() -> None:
    ruling = verdict_of(RetryableError("refused"), tries=TRIES, deduplicates=False, is_down=True)
    assert (ruling.state, ruling.counts, ruling.wait) == ("queued", False, None)


@pytest.mark.parametrize("outcome", [RetryableError("refused"), MESSAGE.deferred("later")])
def test_tries_end(outcome: Any) -> None:
    ruling = verdict_of(outcome, tries=TRIES, deduplicates=False)
    assert (ruling.state, ruling.reason) == ("failed", "tries-used-up")


def test_what_was_not_handed_over_waits_its_turn_however_often() -> None:
    ruling = verdict_of(MESSAGE.untried("its batch ended"), tries=TRIES, deduplicates=False)
    assert (ruling.state, ruling.counts, ruling.wait) == ("queued", False, timedelta(0))


def test_doubt_is_due_again_where_repeats_are_told_until_tries_are_used_up() -> None:
    again = verdict_of(DoubtError("timeout"), tries=TRIES - 1, deduplicates=True, has_next=True)
    assert (again.state, again.doubts, again.strikes) == ("queued", True, False)
    assert verdict_of(DoubtError("timeout"), tries=TRIES, deduplicates=True).state == "in-doubt"


# --- what a gateway gives, checked ------------------------------------------------------------------------------------


ODD = {
    "a number for an id": lambda m: m.accepted(vendor_id=12345),
    "a float for a cost": lambda m: m.accepted(vendor_id="v", cost=0.05),
    "a wait of ages": lambda m: m.deferred("later", retry_after=timedelta(days=10**7)),
    "a wait of less than nothing": lambda m: m.deferred("later", retry_after=timedelta(days=-(10**7))),
    "a reason nobody knows": lambda m: m.rejected("dreams", 7),
}


@pytest.mark.parametrize("what", ODD)
async def test_an_odd_receipt_harms_no_other_message(play: Play, what: str) -> None:
    queue(play, 6)
    outcomes = [accept, accept, ODD[what], accept, accept, accept]
    await send(play, Scripted(*outcomes, concurrency=1))
    states = Counter(row["state"] for row in play.rows(t.message))
    assert states["sent"] >= 5
    assert not states["in-doubt"] + states["sending"]


@pytest.mark.parametrize("wait", [timedelta(days=10**7), timedelta(days=-(10**7))])
async def test_an_odd_wait_harms_nothing(play: Play, wait: timedelta) -> None:
    queue(play, 3)
    await send(play, Scripted(RetryableError("busy", retry_after=wait), concurrency=1))
    assert {row["state"] for row in play.rows(t.message)} == {"queued"}


@pytest.mark.parametrize("answer", [None, "sent", 200])
async def test_what_is_no_receipt_is_doubt_of_that_message_alone(play: Play, answer: Any) -> None:
    queue(play, 3)
    await send(play, Scripted(accept, lambda m: answer, accept, concurrency=1))
    assert Counter(row["state"] for row in play.rows(t.message)) == {"sent": 2, "in-doubt": 1}


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3)])
async def test_what_a_gateway_lets_out_ends_no_worker(play: Play, concurrency: int, error: BaseException) -> None:
    queue(play, 20)
    async with asyncio.timeout(20):
        await send(play, Scripted(accept, error, accept, concurrency=concurrency))
    assert Counter(row["state"] for row in play.rows(t.message)) == {"sent": 19, "in-doubt": 1}


async def test_anothers_trouble_is_told_without_what_is_this_ones(play: Play) -> None:
    queue(play, 8)
    await send(play, Scripted(ValueError("cannot format +491701234567"), concurrency=1))
    told = [row["detail"] for row in play.rows(t.message) if row["state"] == "queued"]
    assert told
    assert not any("+49" in detail for detail in told)
