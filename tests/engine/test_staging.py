"""An installation for trying out reaches whom it may, on whatever way a message leaves."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.actions import Send, staff
from crmkit.core.errors import DoubtError
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.message import Message, Reason, Receipt
from crmkit.core.records import ReceiptRecord
from crmkit.core.staging import HEADER, Staging
from crmkit.engine.apply import dispatch_chosen
from crmkit.engine.service import Service
from crmkit.engine.steps import Steps
from crmkit.flow import callback
from crmkit.flow.setup import StaffMember
from crmkit.store import tables as t
from crmkit.store.choice import Choice
from tests.engine.test_local import Accepting, Stage, stage
from tests.engine.test_plan import applied, drawn
from tests.play import DAY, HOUR, MINUTE, NOON, buyer, entry, order

__all__ = ["stage"]

ME = "me@shop.example"
ALLOWED = ("*@shop.example", "+49 151*")


class Noting(Accepting):
    """Takes everything, and remembers whom it was for."""

    given: list[Message] = []

    async def deliver(self, message: Message) -> Receipt:
        self.given.append(message)
        return await super().deliver(message)


class Bulk(Noting):
    """Takes many at once, told apart by their addresses."""

    batch = 50

    def batch_key(self, message: Message) -> Hashable:
        return "all"

    async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
        for message in {message.address: message for message in messages}.values():
            yield await self.deliver(message)


class Doubting(Noting):
    """Its first tries come to no verdict; it can be asked, and does not have them."""

    async def deliver(self, message: Message) -> Receipt:
        self.given.append(message)
        if len(self.given) <= 4:
            raise DoubtError("timeout")
        return message.accepted()

    async def look_up(self, message: Message) -> Receipt | None:
        self.given.append(message)
        return None


@pytest.fixture
def shop(stage: Stage) -> Stage:
    """Four customers, one of the staff's own; the staff is told of every order too."""
    sends = [Send("news", via=("email", "sms")), Send("news", via=("email",), to=staff("shop"))]
    stage.play.plugin("one", on(OrderPlaced)(lambda event, crm: sends))
    stage.play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@elsewhere.example"})]
    people = [buyer("ann"), buyer("bob"), buyer("cy")]
    tester = buyer("tess").model_copy(update={"email": "tess@shop.example"})
    stage.play.take(*(order(str(n), who) for n, who in enumerate([*people, tester])))
    Noting.given = []
    return stage


def use(stage: Stage, kind: type[Noting], **redirect: str) -> None:
    stage.adapters = {"mail": kind}
    stage.play.channels = {"email": [entry(kind, "mail")]}
    stage.play.more["staging"] = Staging(ALLOWED, redirect)


def ways(stage: Stage, file: Path) -> dict[str, Any]:
    """Every way in which messages leave, by name."""

    class Silent:
        stop: asyncio.Event | None = None

        def synced(self, runs: Any) -> None: ...

        def dispatched(self, run: Any) -> None:
            if self.stop is not None:
                self.stop.set()

        def heard(self, account: str, tally: Any) -> None: ...

        def failed(self, what: str, error: Exception) -> None:
            raise error

    async def run() -> None:
        told, stop = Silent(), asyncio.Event()
        told.stop = stop
        service = Service(stage.local, timedelta(hours=1), told)

        async def sync(*_: Any) -> list[Any]:
            return []

        stage.local.sync = sync  # type: ignore[method-assign]
        service._listening = list  # type: ignore[method-assign]
        await service.run(stop)

    async def steps() -> None:
        one = Steps(stage.local, Silent(), lambda: NOON + MINUTE)
        await one.decide(lambda: None)
        await one.deliver("mail", lambda: None)

    def planned() -> None:
        drawn(stage, file)
        applied(stage, file)

    return {
        "dispatch": lambda: stage.dispatch(NOON + DAY),
        "dispatch of a part": lambda: asyncio.run(dispatch_chosen(stage.local, Choice(limit=100), now=NOON)),
        "apply": planned,
        "run": lambda: asyncio.run(run()),
        "steps": lambda: asyncio.run(steps()),
    }


WAYS = ["dispatch", "dispatch of a part", "apply", "run", "steps"]


@pytest.mark.parametrize("kind", [Noting, Bulk, Doubting])
@pytest.mark.parametrize("way", WAYS)
def test_nobody_outside_is_reached_on_whatever_way(shop: Stage, tmp_path: Path, way: str, kind: type[Noting]) -> None:
    # SEMANTICS 28
    use(shop, kind)
    ways(shop, tmp_path / "plan.jsonl")[way]()
    assert {message.address for message in Noting.given} == {"tess@shop.example"}
    kept = [row for row in shop.play.rows(t.message) if row["address"] != "tess@shop.example"]
    why = None if way == "apply" else Reason.FENCED  # the plan said so, and they were not even taken up
    assert {(row["state"], row["reason"]) for row in kept} == {("queued", why)}
    assert len(kept) == 7


@pytest.mark.parametrize("kind", [Noting, Bulk, Doubting])
@pytest.mark.parametrize("way", WAYS)
def test_others_are_redirected_on_whatever_way(shop: Stage, tmp_path: Path, way: str, kind: type[Noting]) -> None:
    use(shop, kind, email=ME)
    ways(shop, tmp_path / "plan.jsonl")[way]()
    assert {message.address for message in Noting.given} == {"tess@shop.example", ME}
    if kind is Doubting:
        return
    rows = {row["id"]: row for row in shop.play.rows(t.message)}
    assert {row["state"] for row in rows.values()} == {"sent"}
    assert len(Noting.given) == 8
    for message in Noting.given:
        row = rows[message.id]
        assert message.text == row["text"]
        assert message.headers == ({HEADER: f"message {row['id']}"} if message.address == ME else {})
    tries = {row["message_id"]: row["redirected_to"] for row in shop.play.rows(t.attempt)}
    assert Counter(tries.values()) == {ME: 7, None: 1}


def test_what_was_tried_before_staging_is_asked_about_no_more_and_reaches_nobody(shop: Stage) -> None:
    # SEMANTICS 24
    use(shop, Doubting)
    shop.play.more["staging"] = None
    shop.dispatch(NOON)
    assert Counter(row["state"] for row in shop.play.rows(t.message))["in-doubt"] == 4
    Noting.given = []
    use(shop, Doubting)
    shop.dispatch(NOON + 2 * DAY)
    assert Noting.given == []
    assert Counter(row["state"] for row in shop.play.rows(t.message))["in-doubt"] == 4


def test_what_waits_is_looked_at_again_when_the_settings_have_changed(shop: Stage) -> None:
    use(shop, Noting)
    shop.dispatch(NOON)
    assert len(Noting.given) == 1
    shop.dispatch(NOON + HOUR)
    assert len(Noting.given) == 1
    shop.play.more["staging"] = Staging((*ALLOWED, "ann@example.com"))
    shop.dispatch(NOON + HOUR)
    assert sorted(message.address for message in Noting.given) == ["ann@example.com", "tess@shop.example"]
    shop.play.more["staging"] = None
    shop.dispatch(NOON + HOUR)
    assert {row["state"] for row in shop.play.rows(t.message)} == {"sent"}


def test_a_plan_says_what_staging_keeps(shop: Stage) -> None:
    use(shop, Noting)
    plan = shop.local.plan(now=NOON, in_slices=True)
    assert {row["address"] for row in plan.leaving} == {"tess@shop.example"}
    assert Counter(row["reason"] for row in plan.rows) == {Reason.FENCED: 7, None: 1}


def test_a_bounce_of_who_it_was_redirected_to_says_nothing_of_the_customer(shop: Stage) -> None:
    class Bouncing(Noting):
        async def deliver(self, message: Message) -> Receipt:
            if message.text.endswith("0"):
                return message.rejected(Reason.BAD_ADDRESS, "no such user")
            return message.accepted(vendor_id=message.key)

    use(shop, Bouncing, email=ME)
    shop.dispatch(NOON)
    bob = shop.play.one(t.message, address="bob@example.com")
    receipt = ReceiptRecord(key=bob["key"], state="bounced", reason="bad-address", occurred_at=NOON)
    shop.play.write(lambda tx: callback.take(tx, [receipt], account="mail", listened=(), now=NOON))
    assert Counter(row["state"] for row in shop.play.rows(t.message))["bounced"] == 3
    assert shop.play.count(t.suppression) == 0


def test_a_redirect_a_gateway_cannot_reach_redirects_nothing() -> None:
    to_phone = Staging((), {"sms": "+4915112345678"})
    assert to_phone.target("sms", "phone", "+491701", ("phone",)) is not None
    assert to_phone.target("sms", "order", "token", ("order",)) is None
    assert to_phone.target("email", "email", "ann@example.com", ("email",)) is None


@given(st.text(max_size=40), st.lists(st.sampled_from(["*@shop.example", "a@b.example", "+4915*", "+49 15 1*"])))
def test_nothing_is_allowed_that_no_pattern_fits(address: str, allow: list[str]) -> None:
    staging = Staging(allow)
    fits = any(
        address.casefold().endswith("@shop.example")
        if pattern.startswith("*")
        else address.casefold() == pattern
        if "@" in pattern
        else address.startswith(pattern.replace(" ", "").removesuffix("*"))
        for pattern in allow
    )
    assert staging.allows(address) == fits


def test_the_number_that_names_the_settings_changes_with_them() -> None:
    one = Staging(ALLOWED, {"email": ME})
    assert one.detail == Staging(ALLOWED, {"email": ME}).detail
    assert len({one.detail, Staging(ALLOWED).detail, replace(one, allow=()).detail}) == 3
