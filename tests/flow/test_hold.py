"""An exclusive gateway is used by one process at a time; who died loses it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from crmkit.core.message import Message, Receipt
from crmkit.engine.local import Local
from crmkit.flow import hold
from crmkit.flow.claim import claim
from crmkit.flow.deliver import deliver
from crmkit.store import outbox
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.play import MINUTE, NOON, Play, buyer, entry, order
from tests.scripted import Scripted, accept, queue


class Modem(Scripted):
    exclusive = True


async def test_one_at_a_time_holds_a_lease_and_a_dead_holders_lapses(play: Play) -> None:
    # SEMANTICS 26
    run = play.store.run
    assert await run(hold.take, "mail", "one", NOON) is None
    assert await run(hold.take, "mail", "one", NOON + MINUTE / 2) is None
    assert await run(hold.take, "mail", "two", NOON + MINUTE) == "one"
    assert await run(hold.take, "mail", "two", NOON + MINUTE / 2 + hold.LEASE) is None
    await run(hold.let_go, "mail", "one")
    assert play.one(t.quota)["leased_by"] == "two"
    await run(hold.let_go, "mail", "two")
    assert await run(hold.take, "mail", "three", NOON) is None


async def test_who_has_lost_its_lease_marks_nothing(play: Play) -> None:
    # SEMANTICS 26
    queue(play, 2)
    await play.store.run(hold.take, "mail", "one", NOON)
    with play.store.begin() as tx:
        ids = [row["id"] for row in claim(tx, play.setup, "mail", "me", NOON, 10).rows]
    later = NOON + 2 * MINUTE
    assert await play.store.run(outbox.mark, ids[:1], "me", NOON, later, ("one", NOON)) == set(ids[:1])
    await play.store.run(hold.take, "mail", "two", later)
    assert await play.store.run(outbox.mark, ids[1:], "me", later, later + MINUTE, ("one", later)) == set()


async def test_a_held_lease_delivers(play: Play) -> None:
    queue(play, 3)
    holding = hold.Hold(play.store.run, "mail", "one", lambda: NOON)
    await holding.take()
    await deliver(play.store.run, play.setup, "mail", Modem(accept), lambda: NOON, hold=holding)
    await holding.release()
    assert {row["state"] for row in play.rows(t.message)} == {"sent"}


async def test_a_lease_is_renewed_while_it_is_held(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "RENEW", 0.01)
    clocks = iter(NOON + number * MINUTE / 4 for number in range(10_000))
    holding = hold.Hold(play.store.run, "mail", "one", lambda: next(clocks))
    assert await holding.take() is None
    first = play.one(t.quota)["lease_until"]
    await asyncio.sleep(0.2)
    assert play.one(t.quota)["lease_until"] > first
    await holding.release()
    assert play.one(t.quota)["leased_by"] is None


async def test_a_database_that_fails_for_a_moment_loses_no_lease(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 26
    monkeypatch.setattr(hold, "RENEW", 0.01)
    fails = iter([True] * 3)
    times: list[bool] = []

    async def run(step: Any, *args: Any) -> Any:
        times.append(True)
        if len(times) > 1 and next(fails, False):
            raise OperationalError("UPDATE", {}, Exception("deadlock detected"))
        return await play.store.run(step, *args)

    clocks = iter(NOON + number * MINUTE / 10 for number in range(10_000))
    holding = hold.Hold(run, "mail", "one", lambda: next(clocks))
    assert await holding.take() is None
    first = play.one(t.quota)["lease_until"]
    await asyncio.sleep(0.3)
    assert play.one(t.quota)["lease_until"] > first
    await holding.release()
    assert play.one(t.quota)["leased_by"] is None


async def test_a_lease_is_let_go_though_renewing_it_broke(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "RENEW", 0.01)
    holding = hold.Hold(play.store.run, "mail", "one", lambda: NOON)
    await holding.take()

    async def broken(*args: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(holding, "run", broken)
    await asyncio.sleep(0.1)
    monkeypatch.setattr(holding, "run", play.store.run)
    await holding.release()
    assert play.one(t.quota)["leased_by"] is None


async def test_a_lane_whose_lease_is_gone_sends_nothing_and_says_so(play: Play) -> None:
    # SEMANTICS 26
    play.channels = {"email": [entry(Modem, "mail")]}
    queue(play, 2)
    now = [NOON]
    holding = hold.Hold(play.store.run, "mail", "one", lambda: now[0])
    await holding.take()
    gateway = Modem(accept)
    now[0] = NOON + hold.LEASE
    done = await deliver(play.store.run, play.setup, "mail", gateway, lambda: NOON, hold=holding)
    assert (gateway.asked, done.put_off["mail"]) == ([], "could not keep it to itself: its lease lapsed")
    await play.store.run(hold.take, "mail", "two", now[0])
    done = await deliver(play.store.run, play.setup, "mail", gateway, lambda: NOON, hold=holding)
    assert (gateway.asked, done.put_off["mail"]) == ([], "busy elsewhere: two uses it")
    assert {row["state"] for row in play.rows(t.message)} == {"queued"}
    await holding.release()
    assert play.one(t.quota)["leased_by"] == "two"


def test_another_process_leaves_an_exclusive_gateway_alone(play: Play) -> None:
    """Two dispatches at once: one has the modem, the other says so and ends."""
    # SEMANTICS 26
    inside, go_on = asyncio.Event(), asyncio.Event()
    opened: list[str] = []

    class Slow(Modem):
        async def open(self) -> None:
            opened.append(self.account)  # type: ignore[arg-type]

        async def deliver(self, message: Message) -> Receipt:
            inside.set()
            await go_on.wait()
            return message.accepted()

    play.channels = {"email": [entry(Slow, "mail")]}
    queue(play, 3)
    other = Store(play.store.engine.url.render_as_string(hide_password=False))

    async def closed() -> None:
        pass

    def host(name: str) -> Any:
        def gateway(made: Any) -> Slow:
            found = Slow(accept)
            found.account, found.http = name, SimpleNamespace(aclose=closed)  # type: ignore[assignment]
            return found

        crm = SimpleNamespace(instance=None)
        config = SimpleNamespace(crm=crm, folder=play.folder, path=play.folder / "crmkit.toml")
        nothing = {"migrations": {}, "setup": lambda known: play.setup, "gateway": gateway, "shops": {}}
        return SimpleNamespace(**nothing, config=config, entries={"mail": play.setup.entry("mail")}, memory=None)

    async def both() -> tuple[Any, Any]:
        first = asyncio.create_task(Local(host("one"), play.store).dispatch(now=NOON))
        await inside.wait()
        play.take(order("9", buyer("late")))
        second = await Local(host("two"), other).dispatch(now=NOON)
        go_on.set()
        return await first, second

    first, second = asyncio.run(both())
    other.close()
    assert opened == ["one"]
    assert first.delivered.states["sent"] + second.delivered.states["sent"] == first.delivered.states["sent"] == 4
    assert second.delivered.put_off["mail"].startswith("busy elsewhere")
    assert play.one(t.quota)["leased_by"] is None
