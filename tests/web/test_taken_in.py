"""What is kept at the door is taken in by the process that keeps it; bodies are let go in time."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from crmkit.adapters.door import Call
from crmkit.adapters.stream import Page, Ref, Refused, Reread
from crmkit.core.errors import RetryableError
from crmkit.core.records import Buyer, OrderRecord
from crmkit.engine import inward, keeper, service
from crmkit.engine.keeper import Keeper
from crmkit.engine.local import Local
from crmkit.engine.service import Service
from crmkit.flow import inbox as inbox_flow
from crmkit.store import inbox
from crmkit.store import tables as t
from tests.web.conftest import NOON, Town
from tests.web.stall import Stall
from tests.web.test_webhooks import call, said

DAY = timedelta(days=1)


class Told:
    def __init__(self) -> None:
        self.failures: list[str] = []
        self.synced_runs: list[Any] = []
        self.dispatches = 0

    def synced(self, runs: Any) -> None:
        self.synced_runs.append(runs)

    def dispatched(self, run: Any) -> None:
        self.dispatches += 1

    def heard(self, account: str, tally: Any) -> None: ...

    def failed(self, what: str, error: Exception) -> None:
        self.failures.append(f"{what}: {type(error).__name__}")


@asynccontextmanager
async def going_on(part: Any) -> AsyncIterator[None]:
    """A part of the server runs."""
    stop = asyncio.Event()
    running = asyncio.create_task(part.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def until(holds: Callable[[], Any]) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never held")


def states(town: Town) -> list[str]:
    return [row["state"] for row in town.rows(t.inbox)]


def has(monkeypatch: pytest.MonkeyPatch, asked: list[list[str]], error: Exception | None = None) -> None:
    """The shop has every order it is asked for."""

    async def read(self: Stall, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        asked.append([ref.external_id for ref in refs])
        if error is not None:
            raise error
        yield Page(
            [OrderRecord(external_id=ref.external_id, buyer=Buyer(external_id="ann"), placed_at=NOON) for ref in refs]
        )

    monkeypatch.setattr(Stall, "read", read)


def hint(number: str) -> bytes:
    return json.dumps({"hint": number}).encode()


# --- crmkit serve -----------------------------------------------------------------------------------------------------


async def test_what_is_kept_is_taken_in_at_once(town: Town):
    async with going_on(Keeper(town.local, Told())):
        assert (await call(town, said("7"))).status_code == 200
        await until(lambda: states(town) == ["done"])
        await call(town, said("8"))
        await until(lambda: states(town) == ["done"] * 2)
    assert [row["external_id"] for row in town.rows(t.orders)] == ["7", "8"]


async def test_what_waited_when_the_server_ended_is_taken_in_by_the_next(town: Town):
    await call(town, said("7"))
    await town.local.doors.close()
    assert states(town) == ["waiting"]
    async with going_on(Keeper(Local(town.host, town.store), Told())):
        await until(lambda: states(town) == ["done"])


async def test_what_cannot_be_taken_in_now_is_tried_again(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keeper, "SWEEP", timedelta(milliseconds=20))
    told, failing = Told(), True
    take_in = town.local.take_in

    async def taking() -> Any:
        if failing:
            raise OperationalError("SELECT", {}, Exception("gone"))
        return await take_in()

    monkeypatch.setattr(town.local, "take_in", taking)
    await call(town, said("7"))
    async with going_on(Keeper(town.local, told)):
        await until(lambda: len(told.failures) >= 2)
        failing = False
        await until(lambda: states(town) == ["done"])
    assert set(told.failures) == {"inbox: OperationalError"}


async def test_strangers_are_noted_now_and_then(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keeper, "NOTED", timedelta(milliseconds=20))
    async with going_on(Keeper(town.local, Told())):
        for count in (1, 2):
            await call(town, said(), **{"x-signature": "no"})
            await until(lambda count=count: [row["count"] for row in town.rows(t.stranger)] == [count])


async def test_a_body_is_read_again_by_a_newer_parser(town: Town, monkeypatch: pytest.MonkeyPatch):
    # SEMANTICS 30
    body = json.dumps({"v2": {"id": "7"}}).encode()
    async with going_on(Keeper(town.local, Told())):
        await call(town, body)
        await until(lambda: states(town) == ["failed"])
        newer = OrderRecord(external_id="7", buyer=Buyer(external_id="ann"), placed_at=NOON)
        monkeypatch.setattr(Stall, "records", lambda self, call: [newer] if call.body == body else [])
        assert await town.store.run(inbox.again, [town.one(t.inbox)["id"]]) == 1
        town.local.doors.kept.set()
        await until(lambda: states(town) == ["done"])
    assert town.one(t.orders)["external_id"] == "7"


def strange(what: Callable[[], Any]) -> Callable[..., Any]:
    """A parser that yields `what` for a body that says so, and reads the others as always."""
    reads = Stall.records

    def records(self: Stall, call: Call) -> Any:
        return [what()] if b"strange" in call.body else reads(self, call)

    return records


def unsound() -> OrderRecord:
    """A record that no model has looked at."""
    buyer = Buyer.model_construct(external_id=object())
    return OrderRecord.model_construct(external_id="9", buyer=buyer, placed_at="yesterday")


@pytest.mark.parametrize(
    "what",
    [
        lambda: Reread("order", 5),
        lambda: Reread("order", None),
        lambda: Ref(b"order", "5"),
        lambda: Refused("order", "webhook", "why", {"a": 1}, "9"),
        lambda: Refused("order", "webhook", "why", "{}", 9),
        lambda: Refused("order", "webhook", None, "{}"),
        lambda: None,
        unsound,
    ],
)
async def test_a_webhook_that_says_what_nothing_can_hold_is_kept_as_unreadable_and_harms_no_other(
    town: Town, monkeypatch: pytest.MonkeyPatch, what: Callable[[], Any]
):
    # SEMANTICS 7
    monkeypatch.setattr(Stall, "records", strange(what))
    for body in (said("7"), b'{"id": "strange"}', said("8")):
        await call(town, body)
    [run] = await town.local.take_in(now=NOON)
    assert states(town) == ["done", "failed", "done"]
    assert (len(run.errors), run.webhooks) == (1, 3)
    assert {row["external_id"] for row in town.rows(t.orders)} == {"7", "8"}
    assert await town.local.take_in(now=NOON) == []


async def test_what_one_account_breaks_ends_neither_the_server_nor_the_others(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    told, broken = Told(), True
    take_in, opened = town.local.take_in, town.local.doors.open

    async def opening(entry: Any, now: Any) -> Any:
        if broken:
            raise KeyError("ann@buyers.example")
        return await opened(entry, now)

    async def taking() -> Any:
        if len(told.failures) < 1:
            raise AttributeError("ann@buyers.example")
        return await take_in()

    monkeypatch.setattr(keeper, "SWEEP", timedelta(milliseconds=20))
    monkeypatch.setattr(town.local, "take_in", taking)
    town.now = datetime.now(UTC)
    await call(town, said("7"))
    monkeypatch.setattr(town.local.doors, "open", opening)
    async with going_on(Keeper(town.local, told)):
        await until(lambda: told.failures == ["inbox: AttributeError"] and told.synced_runs)
        [[run], *_] = told.synced_runs
        assert [type(error).__name__ for error in run.errors] == ["PluginError"]
        assert "KeyError at test_taken_in.py" in str(run.errors[0]) and "ann@" not in str(run.errors[0])
        broken = False
        await until(lambda: states(town) == ["done"])


async def test_a_service_goes_on_whatever_a_round_breaks(town: Town, monkeypatch: pytest.MonkeyPatch):
    told, tries = Told(), 0

    async def sync() -> Any:
        nonlocal tries
        tries += 1
        raise TypeError("ann@buyers.example")

    monkeypatch.setattr(town.local, "sync", sync)
    async with going_on(Service(town.local, timedelta(milliseconds=10), told)):
        await until(lambda: tries >= 2)
    assert set(told.failures) == {"round: TypeError"}


async def test_who_calls_waits_for_one_body_to_be_read_and_not_for_all(town: Town, monkeypatch: pytest.MonkeyPatch):
    reads, between, seen = Stall.records, 0, []

    async def others() -> None:
        nonlocal between
        while True:
            between += 1
            await asyncio.sleep(0)

    def records(self: Stall, call: Call) -> Any:
        seen.append(between)
        return reads(self, call)

    monkeypatch.setattr(Stall, "records", records)
    for number in range(9):
        await call(town, said(f"{number}"))
    other = asyncio.create_task(others())
    await town.local.take_in(now=NOON)
    other.cancel()
    assert len(set(seen)) == 9


async def test_large_bodies_are_taken_in_a_few_at_a_time(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbox_flow, "BYTES", 3 * len(said("0")))
    held: list[int] = []
    waiting = inbox.waiting

    def counted(*args: Any) -> Any:
        rows = waiting(*args)
        held.append(len(rows))
        return rows

    monkeypatch.setattr(inbox, "waiting", counted)
    for number in range(7):
        await call(town, said(f"{number}"))
    await call(town, said("x" * 4 * len(said("0"))))
    await town.local.take_in(now=NOON)
    assert held == [3, 3, 1, 1, 0]
    assert states(town) == ["done"] * 8


# --- crmkit run --serve -----------------------------------------------------------------------------------------------


async def test_a_hint_at_the_door_is_read_again_and_answered_before_the_next_round(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    # SEMANTICS 31
    monkeypatch.setattr(service, "GAP", timedelta(0))
    asked: list[list[str]] = []
    has(monkeypatch, asked)
    syncs: list[int] = []
    sync = town.local.sync
    monkeypatch.setattr(town.local, "sync", lambda: syncs.append(1) or sync())
    told = Told()
    async with going_on(Service(town.local, timedelta(hours=1), told)):
        await until(lambda: told.dispatches == 1)
        for count, number in enumerate(("77", "78"), start=1):
            assert (await call(town, hint(number))).status_code == 200
            await until(lambda count=count: told.dispatches > count and len(town.rows(t.orders)) == count)
    assert asked == [["77"], ["78"]]
    assert (syncs, told.failures, town.rows(t.hint)) == ([1], [], [])


async def test_what_is_kept_waits_for_no_vendor_that_is_slow(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(service, "GAP", timedelta(0))
    asked: list[list[str]] = []
    has(monkeypatch, asked)
    opening, may_open = asyncio.Event(), asyncio.Event()

    async def opened(self: Stall) -> None:
        opening.set()
        await may_open.wait()

    monkeypatch.setattr(Stall, "open", opened)
    told = Told()
    async with going_on(Service(town.local, timedelta(hours=1), told)), going_on(Keeper(town.local, Told())):
        await opening.wait()
        await call(town, said("7"))
        await call(town, hint("77"))
        await until(lambda: states(town) == ["done"] * 2)
        assert (told.synced_runs, [row["external_id"] for row in town.rows(t.orders)]) == ([], ["7"])
        may_open.set()
        await until(lambda: ["77"] in asked)
        await until(lambda: told.dispatches >= 1)
        await call(town, hint("78"))
        await until(lambda: ["78"] in asked)
        await until(lambda: len(town.rows(t.orders)) == 3)
    assert told.failures == []


async def test_a_hint_that_cannot_be_read_waits_for_the_next_round(town: Town, monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []
    has(monkeypatch, asked, RetryableError("busy"))
    for number in range(10):
        await call(town, hint("77") if number == 0 else said(f"{number}"))
        await town.local.follow(now=NOON)
    assert asked == [["77"]]
    assert town.one(t.hint)["tries"] == 1


# --- kept for so long -------------------------------------------------------------------------------------------------


async def test_bodies_are_let_go_in_time_and_what_comes_again_then_is_kept_as_new(
    town: Town, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inward, "EXPIRED", 2)
    for number in range(5):
        await call(town, said(f"{number}"))
    await call(town, b"no JSON")
    await town.local.take_in(now=NOON)
    town.now = NOON + DAY
    await call(town, said("waits"))
    await town.local.expire(now=NOON + 30 * DAY)
    assert states(town) == ["done"] * 5 + ["failed", "waiting"]
    await town.local.expire(now=NOON + 30 * DAY + timedelta(seconds=1))
    *old, waiting = town.rows(t.inbox)
    assert {(row["state"], row["body"], row["query"], row["headers"]) for row in old} == {("expired", b"", "", None)}
    assert (waiting["state"], waiting["body"]) == ("waiting", said("waits"))
    assert (await call(town, said("3"))).status_code == 200
    assert states(town) == ["expired"] * 3 + ["waiting"] + ["expired"] * 2 + ["waiting"]


async def test_what_is_never_read_is_let_go_in_time_too(town: Town, monkeypatch: pytest.MonkeyPatch):
    await call(town, said("7"))
    with monkeypatch.context() as off:
        off.setattr(town.host, "shops", {})
        await town.local.take_in(now=NOON)
        await town.local.expire(now=NOON + 30 * DAY)
        assert states(town) == ["waiting"]
        await town.local.expire(now=NOON + 31 * DAY)
    gone = town.one(t.inbox)
    assert (gone["state"], gone["error"], gone["body"]) == ("expired", "never read", b"")
    assert await town.local.take_in(now=NOON + 31 * DAY) == []
    await call(town, said("7"))
    assert town.one(t.inbox)["state"] == "waiting"


@pytest.mark.parametrize("is_served", [True, False])
async def test_what_waited_while_nothing_ran_is_read_before_it_is_old(town: Town, is_served: bool):
    town.now = datetime.now(UTC) - 99 * DAY
    await call(town, said("7"))
    if is_served:
        async with going_on(Keeper(town.local, Told())):
            await until(lambda: states(town) == ["done"])
    else:
        await town.local.sync()
    assert states(town) == ["done"]


async def test_what_was_refused_is_let_go_once_it_is_settled(town: Town, monkeypatch: pytest.MonkeyPatch):
    def refused(self: Stall, call: Call) -> Any:
        yield Refused("order", "webhook", "no total", call.body.decode(), json.loads(call.body)["id"])

    with monkeypatch.context() as strict:
        strict.setattr(Stall, "records", refused)
        await call(town, said("7"))
        await call(town, said("8"))
        await town.local.take_in(now=NOON)
    town.order("7")
    await town.local.expire(now=NOON + 31 * DAY)
    kept = {row["ref"]: (row["resolved_at"] is not None, row["raw"] is not None) for row in town.rows(t.quarantine)}
    assert kept == {"7": (True, False), "8": (False, True)}


async def test_how_long_is_a_setting(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(town.host.config.web, "keep_bodies", timedelta(days=2))
    await call(town, said("7"))
    await town.local.take_in(now=NOON)
    await town.local.expire(now=NOON + 3 * DAY)
    assert states(town) == ["expired"]
