"""Doubt is resolved by asking the vendor, where it can be asked; else it waits for a person."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from crmkit.core.errors import AuthError, DoubtError, RefusedError, RetryableError
from crmkit.core.message import Message, Reason, Receipt
from crmkit.flow.claim import LEASE, claim, next_due, sweep
from crmkit.flow.deliver import deliver
from crmkit.flow.look_up import Fresh
from crmkit.flow.verdict import TRIES
from crmkit.store import outbox
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.play import DAY, HOUR, MINUTE, NOON, Play, entry
from tests.scripted import Deduplicating, Scripted, accept, queue, send


class Telling(Scripted):
    """A gateway whose vendor can be asked: `answers` are what it says, one after the other."""

    def __init__(self, *outcomes: Any, answers: Sequence[Any] = (), **settings: Any) -> None:
        super().__init__(*(outcomes or (accept,)), **settings)
        self.answers, self.looked_up = list(answers), list[str]()

    async def look_up(self, message: Message) -> Receipt | None:
        self.looked_up.append(message.key)
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer(message) if callable(answer) else answer


SOON = NOON + Telling.look_up_after


async def doubted(play: Play, count: int = 1) -> None:
    play.channels = {"email": [entry(Telling, "mail")]}
    queue(play, count)
    await send(play, Telling(DoubtError("timeout"), concurrency=1))
    assert play.count(t.message, state="in-doubt") == count


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (accept, "sent", None),
        (lambda m: m.rejected(Reason.BAD_ADDRESS, "unknown"), "bounced", "bad-address"),
        (lambda m: m.rejected(Reason.SENDER, "no"), "failed", "sender"),
        (lambda m: m.deferred("not yet"), "queued", "retry"),
    ],
    ids=["accepted", "bounced", "rejected", "deferred"],
)
async def test_what_the_vendor_says_settles_it(play: Play, answer: Any, state: str, reason: str | None) -> None:
    # SEMANTICS 24
    await doubted(play)
    early = Telling(answers=[answer])
    await send(play, early, SOON - timedelta(seconds=1))
    assert early.looked_up == []
    with play.store.read() as tx:
        assert next_due(tx, play.setup, {"mail"}) == SOON
    gateway = Telling(RetryableError("refused"), answers=[answer])
    await send(play, gateway, SOON)
    assert gateway.looked_up == [play.one(t.message)["key"]]
    row, attempts = play.one(t.message), play.rows(t.attempt)
    assert (row["state"], row["reason"]) == (state, reason)
    assert [attempt["outcome"] for attempt in attempts[:2]] == ["in-doubt", "looked-up"]
    assert play.count(t.suppression) == (1 if state == "bounced" else 0)


async def test_what_the_vendor_surely_does_not_have_is_sent_again_under_the_same_key(play: Play) -> None:
    # SEMANTICS 24
    await doubted(play)
    gateway = Telling(accept, answers=[None])
    await send(play, gateway, SOON)
    row = play.one(t.message)
    assert (gateway.looked_up, gateway.asked, row["state"]) == ([row["key"]], [row["key"]], "sent")


@pytest.mark.parametrize(
    "error",
    [
        DoubtError("timeout"),
        RetryableError("no route"),
        ZeroDivisionError(),
        TimeoutError(),
        lambda m: m.unsupported("no answer to what became of it"),
    ],
)
async def test_an_answer_that_does_not_come_leaves_doubt_and_is_asked_for_later(play: Play, error: Any) -> None:
    # SEMANTICS 24
    await doubted(play)
    gateway = Telling(answers=[error])
    await send(play, gateway, SOON)
    await send(play, gateway, SOON)
    row = play.one(t.message)
    assert (row["state"], row["look_ups"], len(gateway.looked_up)) == ("in-doubt", 1, 1)
    assert SOON < row["not_before"] <= SOON + HOUR
    await send(play, Telling(answers=[accept]), SOON + HOUR)
    assert play.one(t.message)["state"] == "sent"


async def test_a_vendor_is_not_asked_for_ever(play: Play) -> None:
    await doubted(play)
    gateway = Telling(answers=[DoubtError("timeout")])
    for days in range(1, 2 * TRIES):
        await send(play, gateway, NOON + days * DAY)
    row = play.one(t.message)
    assert (row["state"], row["reason"], len(gateway.looked_up)) == ("in-doubt", "no-verdict", TRIES)
    with play.store.read() as tx:
        assert next_due(tx, play.setup, {"mail"}) is None


async def test_refused_credentials_end_the_asking(play: Play) -> None:
    await doubted(play, 3)
    gateway = Telling(answers=[AuthError("401")], concurrency=1)
    done = await send(play, gateway, SOON)
    assert isinstance(done.stopped["mail"], AuthError)
    assert {(row["state"], row["look_ups"]) for row in play.rows(t.message)} == {("in-doubt", 0)}
    assert play.one(t.pause)["name"] == "mail"


async def test_what_a_crash_left_in_doubt_is_asked_about_before_anything_leaves(play: Play) -> None:
    # SEMANTICS 24
    play.channels = {"email": [entry(Telling, "mail")]}
    queue(play, 2)
    with play.store.begin() as tx:
        ids = [row["id"] for row in claim(tx, play.setup, "mail", "gone", NOON, 10).rows]
    await play.store.run(outbox.mark, ids, "gone", NOON, NOON + LEASE)
    assert await play.store.run(sweep, play.setup, NOON + LEASE) == (0, 2)
    gateway = Telling(answers=[accept, None])
    await send(play, gateway, SOON + LEASE)
    assert (len(gateway.looked_up), len(gateway.asked)) == (2, 1)
    assert {row["state"] for row in play.rows(t.message)} == {"sent"}


async def test_after_a_crash_too_a_vendor_is_asked_when_it_can_know(play: Play) -> None:
    # SEMANTICS 24
    class Slow(Telling):
        look_up_after = 3 * LEASE

    play.channels = {"email": [entry(Slow, "mail")]}
    queue(play)
    with play.store.begin() as tx:
        ids = [row["id"] for row in claim(tx, play.setup, "mail", "gone", NOON, 10).rows]
    await play.store.run(outbox.mark, ids, "gone", NOON, NOON + LEASE)
    await play.store.run(sweep, play.setup, NOON + LEASE)
    gateway = Slow(accept, answers=[None])
    await send(play, gateway, NOON + 4 * LEASE - MINUTE)  # it may have left at the very end of its lease
    assert gateway.looked_up == []
    await send(play, gateway, NOON + 4 * LEASE)
    assert (len(gateway.looked_up), len(gateway.asked), play.one(t.message)["state"]) == (1, 1, "sent")


async def test_two_processes_do_not_both_ask_and_send(play: Play) -> None:
    play.channels = {"email": [entry(Telling, "mail")]}
    queue(play, 30)
    with play.store.begin() as tx:
        ids = [row["id"] for row in claim(tx, play.setup, "mail", "gone", NOON, 30).rows]
    await play.store.run(outbox.mark, ids, "gone", NOON, NOON + LEASE)
    await play.store.run(sweep, play.setup, NOON + LEASE)
    other = Store(play.store.engine.url.render_as_string(hide_password=False))
    gateways = [Telling(accept, answers=[None], concurrency=4) for _ in range(2)]
    pairs = zip((play.store, other), gateways, strict=True)
    await asyncio.gather(*(deliver(s.run, play.setup, "mail", g, lambda: SOON + LEASE) for s, g in pairs))
    other.close()
    assert sorted(key for g in gateways for key in g.looked_up) == sorted(row["key"] for row in play.rows(t.message))
    asked = [key for gateway in gateways for key in gateway.asked]
    assert len(asked) == len(set(asked)) == 30


async def test_doubt_of_a_vendor_that_cannot_be_asked_waits_for_a_person(play: Play) -> None:
    # SEMANTICS 24
    queue(play)
    await send(play, Scripted(DoubtError("timeout")))
    gateway = Scripted(accept)
    await send(play, gateway, NOON + DAY)
    assert (gateway.asked, play.one(t.message)["state"]) == ([], "in-doubt")


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_call_takes_what_belongs_together(play: Play) -> None:
    # SEMANTICS 25
    calls: list[list[str]] = []

    class Grouping(Scripted):
        batch = 3

        def batch_key(self, message: Message) -> str:
            if message.address.startswith("b5"):
                raise ZeroDivisionError
            return "even" if int(message.address[1]) % 2 == 0 else "odd"

        async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
            calls.append([message.address[:2] for message in messages])
            for message in messages:
                yield accept(message)

    queue(play, 10)
    await send(play, Grouping(accept, concurrency=1))
    assert sorted(calls) == sorted([["b0", "b2", "b4"], ["b6", "b8"], ["b1", "b3", "b7"], ["b9"], ["b5"]])


@pytest.mark.parametrize(
    ("error", "state"), [(DoubtError("lost"), "in-doubt"), (RetryableError("refused"), "queued"), (None, "in-doubt")]
)
async def test_what_a_batch_did_not_yield_takes_what_it_raised(play: Play, error: Exception | None, state: str) -> None:
    # SEMANTICS 25
    class Halfway(Scripted):
        batch = 3

        async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
            yield accept(messages[0])
            if error is not None:
                raise error

    queue(play, 3)
    await send(play, Halfway(accept, concurrency=1))
    assert [row["state"] for row in play.rows(t.message)] == ["sent", state, state]


async def test_in_a_simulated_run_it_is_not_believed_that_a_vendor_does_not_have_it_yet(play: Play) -> None:
    # SEMANTICS 24
    await doubted(play)
    number = play.one(t.message)["id"]
    gateway = Telling(answers=[None])
    fresh = Fresh(NOON + DAY, {number})
    await deliver(play.store.run, play.setup, "mail", gateway, lambda: SOON, fresh=fresh)
    row = play.one(t.message)
    assert (row["state"], row["look_ups"]) == ("in-doubt", 0)
    assert row["not_before"] >= NOON + DAY
    await send(play, gateway, NOON + 2 * DAY)
    assert play.one(t.message)["state"] == "sent"


async def test_what_another_message_is_known_to_be_settles_nothing(play: Play) -> None:
    # SEMANTICS 24
    await doubted(play, 2)
    gateway = Telling(answers=[lambda m: m.accepted(vendor_id="one and the same")])
    await send(play, gateway, SOON)
    assert {row["state"] for row in play.rows(t.message)} == {"in-doubt"}


@pytest.mark.parametrize(
    "later",
    [
        lambda m: m.rejected(Reason.CONTENT, "no"),
        lambda m: m.rejected(Reason.BAD_ADDRESS, "unknown"),
        RefusedError("HTTP 400"),
    ],
    ids=["rejected", "bounced", "refused"],
)
async def test_what_an_earlier_try_may_have_sent_is_never_said_to_have_failed(play: Play, later: Any) -> None:
    # SEMANTICS 24
    play.channels = {"email": [entry(Deduplicating, "mail")]}
    queue(play)
    await send(play, Deduplicating(DoubtError("timeout")))
    assert play.one(t.message)["state"] == "queued"
    await send(play, Deduplicating(later), NOON + HOUR)
    row = play.one(t.message)
    assert (row["state"], row["reason"]) == ("in-doubt", "no-verdict")
    assert "whether an earlier try was taken is not known" in row["detail"]
    assert play.count(t.suppression) == 0


async def test_a_try_that_is_taken_ends_the_doubt(play: Play) -> None:
    play.channels = {"email": [entry(Deduplicating, "mail")]}
    queue(play)
    await send(play, Deduplicating(DoubtError("timeout")))
    await send(play, Deduplicating(accept), NOON + HOUR)
    row = play.one(t.message)
    assert (row["state"], row["doubted_at"]) == ("sent", None)
