"""A message goes by the next gateway of its chain when nothing of it can have left, and never after doubt."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from crmkit.core.errors import AuthError, DoubtError, RetryableError, UnsupportedError
from crmkit.core.message import Reason
from crmkit.core.quota import OPEN_AFTER, PAUSE_FIRST
from crmkit.flow.claim import sweep, trip
from crmkit.flow.pause import pause, resume
from crmkit.flow.verdict import TRIES
from crmkit.store import tables as t
from tests.play import DAY, HOUR, NOON, Play, entry
from tests.scripted import Batched, Deduplicating, Scripted, accept, queue, send

DOWN = RetryableError("connection refused")


def chained(play: Play, count: int = 1, names: tuple[str, ...] = ("mail", "spare"), **other: Any) -> None:
    """So many messages with a chain of gateways."""
    play.channels = {"email": [entry(other.get(name, Scripted), name) for name in names]}
    queue(play, count)
    assert {tuple(row["gateways"]) for row in play.rows(t.message)} == {names}


def states(play: Play) -> Counter[tuple[str, str]]:
    return Counter((row["state"], row["gateway"]) for row in play.rows(t.message))


async def test_a_gateway_that_is_down_hands_its_messages_to_the_next(play: Play) -> None:
    chained(play, 20)
    await send(play, Scripted(DOWN, concurrency=1))
    here = [row for row in play.rows(t.message) if row["gateway"] == "mail"]
    assert len(here) < OPEN_AFTER  # they wait: as they were tried it was not known yet
    assert {row["tries"] for row in here} <= {1}
    gone = 20 - len(here)
    assert {row["tries"] for row in play.rows(t.message, gateway="spare")} == {0}
    assert (await send(play, Scripted(accept), name="spare")).states == {"sent": gone}
    tried = Counter((row["gateway"], row["outcome"]) for row in play.rows(t.attempt))
    assert tried == {("mail", "refused"): OPEN_AFTER, ("spare", "accepted"): gone}


async def test_while_a_circuit_is_open_messages_pass_it_by(play: Play) -> None:
    chained(play, 3)
    await play.store.run(trip, play.setup, "mail", "down", NOON)
    gateway = Scripted(accept)
    await send(play, gateway)
    assert gateway.asked == []
    assert states(play) == {("queued", "spare"): 3}


async def test_the_first_of_the_chain_has_its_turn_again_after_a_wait(play: Play) -> None:
    chained(play)
    await play.store.run(trip, play.setup, "mail", "down", NOON)
    await send(play, Scripted(lambda m: m.deferred("busy")), name="spare")
    assert (play.one(t.message)["gateway"], play.one(t.message)["tries"]) == ("mail", 1)
    await send(play, Scripted(accept), NOON + HOUR)
    assert states(play) == {("sent", "mail"): 1}


async def test_where_all_are_down_the_message_waits_for_the_one_that_is_tried_first(play: Play) -> None:
    chained(play, 2)
    await play.store.run(trip, play.setup, "mail", "down", NOON)
    await play.store.run(trip, play.setup, "mail", "down", NOON)
    await play.store.run(trip, play.setup, "spare", "no route", NOON)
    assert states(play) == {("queued", "spare"): 2} or states(play) == {("queued", "mail"): 2}
    rows = play.rows(t.message)
    assert {(row["reason"], row["not_before"], row["tries"]) for row in rows} == {("retry", NOON + PAUSE_FIRST, 0)}
    assert {row["detail"] for row in rows} == {"gateway spare is down: no route"}
    await send(play, Scripted(accept), NOON + PAUSE_FIRST)
    await send(play, Scripted(accept), NOON + PAUSE_FIRST, name="spare")
    assert states(play) == {("sent", "spare"): 2}


async def test_an_outage_uses_up_no_tries(play: Play) -> None:
    chained(play, 10, names=("mail",))
    now = NOON
    for _ in range(4 * TRIES):
        await send(play, Scripted(DOWN, concurrency=1), now)
        now += DAY
    rows = play.rows(t.message)
    assert {row["state"] for row in rows} == {"queued"}
    assert max(row["tries"] for row in rows) <= 1
    await send(play, Scripted(accept), now)
    assert states(play) == {("sent", "mail"): 10}


async def test_one_message_tells_whether_a_gateway_answers_again(play: Play) -> None:
    chained(play, 30, names=("mail",))
    await play.store.run(trip, play.setup, "mail", "down", NOON)
    probe = Scripted(DOWN, concurrency=8)
    await send(play, probe, NOON + PAUSE_FIRST)
    assert len(probe.asked) == 1
    assert {row["not_before"] for row in play.rows(t.message)} == {NOON + 3 * PAUSE_FIRST}
    await send(play, Scripted(accept), NOON + 3 * PAUSE_FIRST)
    assert states(play) == {("sent", "mail"): 30}
    assert (play.one(t.quota)["opened"], play.one(t.quota)["open_until"]) == (0, None)


@pytest.mark.parametrize("outcome", [DoubtError("timeout"), ZeroDivisionError()], ids=["doubt", "bug"])
async def test_doubt_is_never_followed_by_another_gateway(play: Play, outcome: Exception) -> None:
    # SEMANTICS 23
    chained(play)
    await send(play, Scripted(outcome))
    await play.store.run(trip, play.setup, "mail", "down", NOON)
    await send(play, Scripted(accept), NOON + DAY, name="spare")
    row = play.one(t.message)
    assert (row["state"], row["gateway"], row["gateways"]) == ("in-doubt", "mail", ["mail"])


async def test_doubt_that_is_repeated_stays_with_its_gateway_though_that_goes_down(play: Play) -> None:
    # SEMANTICS 23
    chained(play, mail=Deduplicating)
    await send(play, Deduplicating(DoubtError("timeout")))
    await play.store.run(trip, play.setup, "mail", "down", NOON + HOUR)
    spare = Scripted(accept)
    await send(play, spare, NOON + 2 * HOUR, name="spare")
    assert spare.asked == []
    await send(play, Deduplicating(accept), NOON + 2 * HOUR)
    assert states(play) == {("sent", "mail"): 1}


@pytest.mark.parametrize("reason", [Reason.SENDER, Reason.FUNDS, Reason.VENDOR_POLICY])
async def test_what_only_this_gateway_refuses_goes_by_the_next_and_never_comes_back(play: Play, reason: Reason) -> None:
    chained(play)
    await send(play, Scripted(lambda m: m.rejected(reason, "no")))
    await send(play, Scripted(lambda m: m.deferred("busy")), name="spare")
    row = play.one(t.message)
    assert (row["state"], row["gateway"], row["gateways"]) == ("queued", "spare", ["spare"])
    await send(play, Scripted(lambda m: m.rejected(reason, "no")), NOON + HOUR, name="spare")
    assert (play.one(t.message)["state"], play.one(t.message)["reason"]) == ("failed", str(reason))


async def test_what_one_cannot_express_goes_by_the_next(play: Play) -> None:
    chained(play)
    await send(play, Scripted(UnsupportedError("no html")))
    await send(play, Scripted(accept), name="spare")
    assert states(play) == {("sent", "spare"): 1}
    assert [row["gateway"] for row in play.rows(t.attempt)] == ["mail", "spare"]


async def test_of_a_batch_only_what_one_cannot_express_goes_by_the_next(play: Play) -> None:
    chained(play, 3, mail=Batched)
    gateway = Batched(accept, lambda m: m.unsupported("no pictures"), accept)
    await send(play, gateway)
    assert (len(gateway.asked), states(play)) == (3, {("sent", "mail"): 2, ("queued", "spare"): 1})
    assert play.one(t.message, state="queued")["gateways"] == ["spare"]
    await send(play, Scripted(lambda m: m.unsupported("no pictures")), name="spare")
    row = play.one(t.message, gateway="spare")
    assert (row["state"], row["reason"], row["detail"]) == ("failed", "unsupported", "no pictures")


async def test_what_the_recipient_is_to_blame_for_goes_nowhere_else(play: Play) -> None:
    chained(play)
    await send(play, Scripted(lambda m: m.rejected(Reason.CONTENT, "no")))
    assert states(play) == {("failed", "mail"): 1}


async def test_refused_credentials_send_messages_by_the_next(play: Play) -> None:
    chained(play, 5)
    gateway = Scripted(AuthError("no"), concurrency=1)
    await send(play, gateway)
    assert (len(gateway.asked), states(play)) == (1, {("queued", "spare"): 5})
    assert {(row["tries"], row["reason"]) for row in play.rows(t.message)} == {(0, None)}


async def test_a_gateway_that_is_not_configured_any_more_hands_its_messages_on(play: Play) -> None:
    chained(play, 2)
    play.channels = {"email": [entry(Scripted, "spare")]}
    await send(play, Scripted(accept))
    await send(play, Scripted(accept), name="spare")
    assert states(play) == {("sent", "spare"): 2}


async def test_a_message_that_no_gateway_is_left_for_says_so_once(play: Play) -> None:
    chained(play)
    play.channels = {"email": [entry(Scripted, "other")]}
    assert (await send(play, Scripted(accept))).states == {"deferred": 1}
    assert (await send(play, Scripted(accept))).states == {}
    assert (play.one(t.message)["state"], play.one(t.message)["reason"]) == ("queued", "no-gateway")


async def test_a_single_failure_is_no_outage(play: Play) -> None:
    chained(play, 3)
    gateway = Scripted(DOWN, accept, concurrency=1)
    await send(play, gateway)
    assert states(play) == {("queued", "mail"): 1, ("sent", "mail"): 2}
    assert NOON < play.rows(t.message)[0]["not_before"] <= NOON + timedelta(minutes=1)


LATER = RetryableError("not now", retry_after=4 * HOUR)


def resumed(play: Play, name: str, now: datetime) -> int | None:
    with play.store.begin() as tx:
        return resume(tx, play.setup, "gateway", name, now)


@pytest.mark.parametrize("names", [("mail", "spare"), ("spare", "mail")])
async def test_what_waits_for_hours_leaves_at_once_when_another_of_its_chain_is_resumed(
    play: Play, names: tuple[str, ...]
) -> None:
    chained(play, 3, names=names)
    play.write(lambda tx: pause(tx, play.setup, "gateway", "spare", NOON, actor="ann"))
    await send(play, Scripted(LATER, concurrency=1))
    assert {(row["reason"], row["not_before"]) for row in play.rows(t.message)} == {("retry", NOON + 4 * HOUR)}
    soon = NOON + HOUR
    assert resumed(play, "spare", soon) == 3
    assert (await send(play, Scripted(accept), soon, name="spare")).states == {"sent": 3}


async def test_what_waits_for_hours_leaves_with_the_next_run_when_another_is_configured_again(play: Play) -> None:
    chained(play, 2)
    whole, soon = play.channels, NOON + HOUR
    play.channels = {"email": [entry(Scripted, "mail")]}
    await send(play, Scripted(LATER, concurrency=1))
    await play.store.run(sweep, play.setup, soon)
    assert {row["not_before"] for row in play.rows(t.message)} == {NOON + 4 * HOUR}
    play.channels = whole
    await play.store.run(sweep, play.setup, soon)
    assert (await send(play, Scripted(accept), soon, name="spare")).states == {"sent": 2}


async def test_what_waits_for_its_own_sake_is_not_hurried_when_another_gateway_is_resumed(play: Play) -> None:
    chained(play)
    play.write(lambda tx: pause(tx, play.setup, "gateway", "spare", NOON, actor="ann"))
    await send(play, Scripted(lambda m: m.deferred("mailbox busy", HOUR)))
    waits = play.one(t.message)["not_before"]
    assert waits >= NOON + HOUR
    assert resumed(play, "spare", NOON) == 0
    assert (play.one(t.message)["not_before"], play.one(t.message)["gateway"]) == (waits, "mail")


async def test_what_may_have_left_waits_for_its_own_gateway_though_another_is_resumed(play: Play) -> None:
    # SEMANTICS 23
    chained(play, mail=Deduplicating)
    play.write(lambda tx: pause(tx, play.setup, "gateway", "spare", NOON, actor="ann"))
    await send(play, Deduplicating(DoubtError("timeout")))
    await send(play, Deduplicating(LATER), NOON + HOUR)
    assert resumed(play, "spare", NOON + HOUR) == 0
    assert (play.one(t.message)["gateway"], play.one(t.message)["not_before"] > NOON + 4 * HOUR) == ("mail", True)
