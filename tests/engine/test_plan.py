"""A plan in slices is applied as it is, or what has changed since is named; nothing else leaves."""

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmkit.cli import output
from crmkit.core.actions import Action, Broadcast, Send, staff
from crmkit.core.broadcast import Audience
from crmkit.core.errors import ConfigError, RetryableError
from crmkit.core.events import OrderPaid, OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.money import Money
from crmkit.core.quota import Limits
from crmkit.engine import apply as applying
from crmkit.engine import plan_file, sliced
from crmkit.engine.apply import Applied, apply, dispatch_chosen
from crmkit.engine.local import DispatchRun
from crmkit.engine.plan import Plan, totals
from crmkit.engine.plan_file import Made
from crmkit.flow.cap import parse_cap
from crmkit.flow.pause import pause
from crmkit.flow.setup import Rules, StaffMember
from crmkit.store import accounts, bulk, plans
from crmkit.store import tables as t
from crmkit.store.choice import ALL, Choice
from tests.dump import everything
from tests.engine.test_local import HANDLERS, Accepting, Stage, _orders, stage
from tests.engine.test_schedule import NINE, digest
from tests.play import DAY, HOUR, MINUTE, NOON, PLAY_TABLES, buyer, entry, order, statements

__all__ = ["stage"]

TELL = on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))])


def drawn(stage: Stage, file: Path, now: datetime = NOON, choice: Choice = ALL) -> Plan:
    """A plan, and its file."""
    plan = stage.local.plan(now=now, in_slices=True, choice=choice)
    with stage.play.store.begin() as tx:
        database, schema = applying.facts(tx, stage.local, now)
    plan_file.write(file, plan, Made(None, database, schema, now, datetime.now(UTC)), output.line)
    return plan


def applied(stage: Stage, file: Path, now: datetime = NOON, choice: Choice = ALL) -> Applied:
    return asyncio.run(apply(stage.local, plan_file.read(file), now=now, choice=choice))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.jsonl"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of one customer."""
    monkeypatch.setattr(sliced, "FIRST", 1)
    monkeypatch.setattr(sliced, "LEAST", 1)
    monkeypatch.setattr(sliced, "MOST", 1)
    monkeypatch.setattr(sliced, "REST", 0)


# --- a plan, applied, is a dispatch -----------------------------------------------------------------------------------


SAME = ("key", "state", "reason", "address", "gateways", "text", "not_before", "decided_at")


def said(stage: Stage) -> Counter[tuple[Any, ...]]:
    """The outbox, and what the gateways were given."""
    rows = stage.play.rows(t.message)
    return Counter(tuple(str(row[name]) for name in SAME) for row in rows)


def clear(stage: Stage) -> None:
    stage.play.write(*(lambda tx, table=table: tx.execute(table.delete()) for table in (*t.CORE, *PLAY_TABLES)))
    stage.asked.clear()


def dispatched(stage: Stage, now: datetime) -> None:
    """A run by the wall clock, if it stood at `now`."""

    async def run() -> None:
        assert await stage.play.store.run(stage.local.fence.enter, now) is None
        setup = await stage.play.store.run(stage.local.setup)
        await stage.local._dispatch_now(setup, stage.local.gateways(setup, now), DispatchRun(), lambda: now, None)

    asyncio.run(run())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 0.3), ("postgresql", 0.1)])
def test_a_plan_that_is_applied_is_the_dispatch(stage: Stage, file: Path, share: float) -> None:
    # SEMANTICS 28
    play = stage.play
    play.plugin("one", *HANDLERS[:5])
    play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@example.com"})]
    play.shop(announce_from=NOON - 20 * HOUR)

    @settings(max_examples=int(settings().max_examples * share))
    @given(data=st.data())
    def held(data: st.DataObject) -> None:
        orders, now = data.draw(_orders(), label="orders"), NOON + timedelta(hours=data.draw(st.integers(-10, 60)))
        play.more["rules"] = Rules(quiet_hours=data.draw(st.sampled_from([None, (time(21), time(9))])))
        clear(stage)
        play.take(*orders)
        dispatched(stage, now)
        expected, asked = said(stage), Counter(stage.asked)
        clear(stage)
        play.take(*orders)
        with play.store.read() as tx:
            before = everything(tx)
        plan = stage.local.plan(now=now, in_slices=True)
        with play.store.read() as tx:
            assert everything(tx) == before
        drawn(stage, file, now)
        done = applied(stage, file, now)
        assert (done.differences, done.waiting) == ([], 0)
        assert said(stage) == expected
        assert Counter(stage.asked) == asked
        assert {row["key"] for row in plan.leaving} == set(asked)
        applied(stage, file, now)
        assert Counter(stage.asked) == asked

    held()


@pytest.mark.usefixtures("small")
def test_what_one_customer_sets_off_reaches_the_others_in_a_plan(stage: Stage, file: Path) -> None:
    """A broadcast, an event of somebody else's, a key that is told once, a cap: slices know of each other."""
    play = stage.play

    def tell(event: OrderPaid, crm: Any) -> Iterator[Action]:
        yield Broadcast(Audience(), "offer", via=("email",), key="spring")
        yield Send("news", via=("email",), to=staff("shop"), key="somebody paid")

    play.plugin("one", on(OrderPaid)(tell))
    play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@example.com"})]
    play.more["rules"] = Rules(marketing_default="allow")
    play.channels = {"email": [replace(entry(Accepting, "mail"), limits=Limits(daily=5))]}
    shared = buyer("cyd", phone="+4917012345678")
    people = [buyer("ann"), buyer("bob"), shared, shared.model_copy(update={"external_id": "cy"})]
    play.take(*(order(str(n), who, paid_at=NOON) for n, who in enumerate([*people, buyer("dee"), buyer("eve")])))
    plan = drawn(stage, file)
    assert len(plan.slices) > 4
    assert Counter(row["template"] for row in plan.leaving) == {"news": 1, "offer": 4}
    done = applied(stage, file)
    assert done.differences == []
    assert sorted(stage.asked) == sorted(row["key"] for row in plan.leaving)
    clear(stage)


@pytest.mark.usefixtures("small")
def test_a_broadcast_that_is_due_by_a_schedule_is_planned_and_applied_member_by_member(
    stage: Stage, file: Path
) -> None:
    # SEMANTICS 20
    play, now = stage.play, NINE + MINUTE
    play.plugin("one", digest(Broadcast(Audience(), "offer", via=("email",))))
    play.more["rules"] = Rules(marketing_default="allow", marketing_cap=parse_cap("1/day"))
    people = [buyer(f"b{n}", phone="+4917012345678" if n < 2 else None) for n in range(5)]
    play.take(*(order(str(n), who) for n, who in enumerate(people)))
    stage.dispatch(NOON)
    plan = drawn(stage, file, now)
    assert plan.slices[0] is None
    assert len(plan.slices) > 3
    assert len(plan.leaving) == 5
    assert play.count(t.broadcast) == 0
    done = applied(stage, file, now)
    assert (done.differences, play.count(t.broadcast)) == ([], 1)
    assert sorted(stage.asked) == sorted(row["key"] for row in plan.leaving)


def test_a_plan_of_nobodys_comes_first(stage: Stage, file: Path) -> None:
    play = stage.play
    play.plugin("one", TELL)
    play.take(order("1"), order("2", buyer("bob")))
    play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@example.com"})]
    play.plugin("two", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",), to=staff("shop"))]))
    play.decide()
    plan = drawn(stage, file, NOON + HOUR)
    assert plan.slices[0] is None
    assert Counter((row["slice"], row["origin"]) for row in plan.leaving) == {(0, "outbox"): 2, (1, "outbox"): 2}
    assert applied(stage, file, NOON + HOUR).differences == []
    assert len(stage.asked) == 4


@pytest.mark.usefixtures("small")
def test_what_a_process_left_behind_that_ended_is_due_again_in_every_slice(stage: Stage, file: Path) -> None:
    play = stage.play
    two(stage)
    play.decide()
    lapsed = {"state": "sending", "claim_id": "gone", "claimed_at": NOON - DAY, "lease_until": NOON - HOUR}
    play.write(lambda tx: tx.execute(t.message.update().values(lapsed)))
    plan = drawn(stage, file)
    assert [row["slice"] for row in plan.leaving] == [0, 1]
    assert applied(stage, file).differences == []
    assert len(stage.asked) == 2


def test_a_slice_takes_as_many_statements_however_many_customers_it_is_about(stage: Stage) -> None:
    # SEMANTICS 28
    play = stage.play
    play.plugin("one", TELL)

    def said(first: int, after: int) -> int:
        play.take(*(order(str(n), buyer(f"b{n}")) for n in range(first, after)))
        with statements(play.store) as found:
            plan = stage.local.plan(now=NOON, in_slices=True)
        assert (len(plan.slices), len(plan.leaving)) == (1, after)
        return len(found)

    said(0, 2)
    assert said(2, 20) == said(20, 60)


# --- the world has changed --------------------------------------------------------------------------------------------


def two(stage: Stage) -> None:
    stage.play.plugin("one", TELL)
    stage.play.take(order("1"), order("2", buyer("bob")))


@pytest.mark.usefixtures("small")
def test_a_slice_whose_world_has_changed_is_rolled_back_and_the_others_go_on(stage: Stage, file: Path) -> None:
    # SEMANTICS 28
    play = stage.play
    two(stage)
    drawn(stage, file)
    play.take(order("3", at=NOON - MINUTE))
    done = applied(stage, file)
    assert [(one.what, one.template, one.to) for one in done.differences] == [("new", "news", "ann@example.com")]
    assert (done.refused, len(stage.asked)) == ({0}, 1)
    assert [row["address"] for row in play.rows(t.message)] == ["bob@example.com"]


@pytest.mark.usefixtures("small")
def test_each_thing_that_differs_is_named(stage: Stage, file: Path) -> None:
    play = stage.play

    def differs() -> list[tuple[str, Any, Any]]:
        done = applied(stage, file)
        assert stage.asked == []
        assert play.count(t.message) == 0
        return [(one.what, one.was, one.now) for one in done.differences]

    two(stage)
    drawn(stage, file)
    play.template("news.en.email", 'purpose = "transactional"\nsubject = "News"\n---\nOther news')
    assert [what for what, _, _ in differs()] == ["content_hash", "content_hash"]
    drawn(stage, file)
    play.channels = {"email": [entry(Accepting, "mail"), entry(Accepting, "spare")]}
    assert differs() == [("gateways", ["mail"], ["mail", "spare"])] * 2
    drawn(stage, file)
    play.plugins.clear()
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",), not_before=NOON + HOUR)]))
    assert differs() == [("not_before", NOON, NOON + HOUR)] * 2
    drawn(stage, file)
    play.plugins.clear()
    assert [what for what, _, _ in differs()] == ["missing", "missing"]
    two(stage)
    drawn(stage, file)
    values = {"value": "ann@new.example"}
    play.write(lambda tx: tx.execute(t.address.update().where(t.address.c.value == "ann@example.com").values(values)))
    done = applied(stage, file)
    assert [(one.what, one.was, one.now) for one in done.differences] == [
        ("address", "ann@example.com", "ann@new.example")
    ]
    assert len(stage.asked) == 1


def test_who_forbids_it_meanwhile_is_not_written_to(stage: Stage, file: Path) -> None:
    # SEMANTICS 21
    play = stage.play
    two(stage)
    play.decide()
    drawn(stage, file, NOON + MINUTE)
    play.write(lambda tx: pause(tx, play.setup, "template", "news", NOON, actor="ann"))
    done = applied(stage, file, NOON + MINUTE)
    assert (stage.asked, done.differences, done.waiting) == ([], [], 2)


# --- again ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_plan_that_was_cut_off_is_applied_to_its_end_and_nothing_leaves_twice(
    stage: Stage, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = stage.play
    play.plugin("one", TELL)
    play.take(*(order(str(n), buyer(f"b{n}")) for n in range(6)))
    plan = drawn(stage, file)
    whole, calls = applying._confirmed, list[int]()

    def cut_off(*given: Any) -> Any:
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return whole(*given)

    with monkeypatch.context() as patch:
        patch.setattr(applying, "_confirmed", cut_off)
        with pytest.raises(KeyboardInterrupt):
            applied(stage, file)
    assert (play.count(t.message), stage.asked) == (3, [])
    with monkeypatch.context() as patch:
        patch.setattr(applying, "TOGETHER", 2)
        whole_hand_over = stage.local.hand_over

        async def once(*given: Any) -> int:
            await whole_hand_over(*given)
            raise KeyboardInterrupt

        patch.setattr(stage.local, "hand_over", once)
        with pytest.raises(KeyboardInterrupt):
            applied(stage, file)
    assert len(stage.asked) == 2
    done = applied(stage, file)
    assert (done.differences, done.again, done.kept) == ([], 6, {"sent": 2})
    assert sorted(stage.asked) == sorted(row["key"] for row in plan.leaving)
    assert applied(stage, file).kept == {"sent": 6}
    assert len(stage.asked) == 6


def test_what_another_run_decided_and_sent_meanwhile_is_told_and_not_sent_again(stage: Stage, file: Path) -> None:
    two(stage)
    drawn(stage, file)
    dispatched(stage, NOON)
    done = applied(stage, file)
    assert (done.differences, done.kept, len(stage.asked)) == ([], {"sent": 2}, 2)


def test_only_the_plans_messages_are_handed_over(stage: Stage, file: Path) -> None:
    play = stage.play
    two(stage)
    drawn(stage, file)
    play.take(order("9", buyer("late")))
    play.decide()
    before = dict(play.one(t.message, address="late@example.com"))
    applied(stage, file)
    assert dict(play.one(t.message, address="late@example.com")) == before
    assert len(stage.asked) == 2


def test_what_is_done_in_part_ends_like_any_dispatch(stage: Stage, file: Path) -> None:
    """It looks for silence, is noted as a dispatch, and says what will be tried again."""

    class Dead(Accepting):
        async def open(self) -> None:
            raise RetryableError("connection refused")

    stage.adapters["mail"] = Dead
    two(stage)
    with stage.play.store.begin() as tx:
        common: dict[str, Any] = {"vendor_account": None, "announce_from": None, "now": NOON}
        accounts.meet(tx, name="mail", kind="gateway", adapter="mail", **common)
        came = {"id": 1, "account": "mail", "external_id": "1", "state": "delivered", "occurred_at": NOON}
        bulk.insert(tx, t.receipt, [{**came, "received_at": NOON, "given_up_at": NOON}])
    drawn(stage, file)
    done = applied(stage, file)
    assert (done.run.retrying, done.differences, done.again) == (2, [], 0)
    (row,) = stage.play.rows(t.run)
    assert (row["command"], row["outcome"], row["counts"]["decided"]) == ("dispatch", "failed", 2)
    (looked,) = {row["looked_at"] for row in stage.play.rows(t.rhythm)}
    assert looked == NOON
    run = asyncio.run(dispatch_chosen(stage.local, Choice(limit=5), now=NOON + HOUR))
    assert run.retrying == 2
    assert {row["looked_at"] for row in stage.play.rows(t.rhythm)} == {NOON + HOUR}
    assert [row["outcome"] for row in stage.play.rows(t.run)] == ["failed", "failed"]


def test_what_was_decided_before_a_plan_was_made_is_not_called_applied_before(stage: Stage, file: Path) -> None:
    two(stage)
    stage.play.decide()
    drawn(stage, file)
    done = applied(stage, file)
    assert (done.slices, done.again, len(stage.asked)) == (1, 0, 2)


# --- refused ----------------------------------------------------------------------------------------------------------


def test_a_plan_is_refused_that_is_old_or_of_another_database_or_was_changed(stage: Stage, file: Path) -> None:
    # SEMANTICS 28
    two(stage)
    drawn(stage, file)
    whole = file.read_bytes()

    def refused(now: datetime = NOON) -> str:
        with pytest.raises(ConfigError) as error:
            applied(stage, file, now)
        return str(error.value)

    assert "more than an hour ago" in refused(NOON + HOUR + MINUTE)
    assert "still to come" in refused(NOON - HOUR)
    file.write_bytes(whole.replace(b"Your order 2", b"Your order 3"))
    assert "not as it was written" in refused()
    file.write_bytes(whole[:-80])
    assert "no whole plan" in refused()
    file.write_bytes(whole.replace(b'"plan": 1', b'"plan": 2'))
    assert "format 2" in refused()
    file.write_text("")
    assert "no whole plan" in refused()
    file.write_bytes(whole)
    read = plan_file.read(file)
    for other, why in (
        ({"database": "0"}, "another database"),
        ({"schema": {"core": "0"}}, "another version"),
        ({"made_at": datetime.now(UTC) - 2 * HOUR}, "more than an hour ago"),
    ):
        with pytest.raises(ConfigError, match=why):
            asyncio.run(apply(stage.local, replace(read, made=replace(read.made, **other)), now=NOON))  # type: ignore[arg-type]
    assert stage.asked == []
    assert stage.play.count(t.message) == 0
    assert len(applied(stage, file).run.delivered.states) == 1


def test_a_plan_that_was_altered_with_its_checksum_is_no_whole_plan(stage: Stage, file: Path) -> None:
    two(stage)
    drawn(stage, file)
    header, slice_, message, *_ = [json.loads(text) for text in file.read_text().splitlines()]

    def written(*lines: Any) -> None:
        body = "".join(json.dumps(line) + "\n" for line in lines)
        file.write_text(body + json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n")

    written(header, slice_, message)
    assert len(plan_file.read(file).messages[0]) == 1
    print_ = message["fingerprint"]
    for lines in (
        *([header, slice_, {k: v for k, v in message.items() if k != name}] for name in message),
        *([{k: v for k, v in header.items() if k != name}, slice_, message] for name in ("database", "schema", "now")),
        *([header, slice_, {**message, "fingerprint": {**print_, name: 1}}] for name in ("not_before",)),
        *([header, slice_, {**message, "fingerprint": {k: print_[k] for k in print_ if k != name}}] for name in print_),
        [header, slice_, {**message, "fingerprint": 3}],
        [header, slice_, {**message, "slice": 1}],
        [header, slice_, {**message, "slice": "0"}],
        [header, slice_, 3],
        [header, {}],
        [header, {"slice": 0, "customers": "all"}, message],
        [{**header, "slices": 2}, slice_, message],
        [{**header, "schema": None}, slice_, message],
        [{**header, "now": 3}, slice_, message],
        *([{**header, name: header[name][:19]}, slice_, message] for name in ("now", "made_at")),
        [header, slice_, {**message, "fingerprint": {**print_, "not_before": print_["not_before"][:19]}}],
    ):
        written(*lines)
        with pytest.raises(ConfigError, match="no whole plan"):
            plan_file.read(file)


# --- forgetting -------------------------------------------------------------------------------------------------------


def test_a_plan_that_tells_the_staff_of_somebody_names_them(stage: Stage, file: Path) -> None:
    # SEMANTICS 12
    play = stage.play
    later = Send("news", via=("email",), to=staff("shop"), not_before=NOON + DAY)
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [later] if event.order.external_id == "1" else []))
    play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@example.com"})]
    play.take(order("1"), order("2", buyer("bob")))
    play.decide()
    plan = drawn(stage, file)
    assert [(row["slice"], row["profile_id"]) for row in plan.rows] == [(None, None)]
    ann, bob = (row["id"] for row in play.rows(t.profile))
    with play.store.read() as tx:
        of_ann, of_bob = plans.named(tx, {ann}), plans.named(tx, {bob})
    nothing = frozenset[int]()
    whole = file.read_bytes()
    assert plan_file.forget([file], of_bob) == ([], [])
    for named in (of_ann, replace(of_ann, orders=nothing), replace(of_ann, interactions=nothing)):
        assert plan_file.forget([file], named) == ([file], [])
        file.write_bytes(whole)


def test_a_plan_that_tells_the_staff_of_nobody_knows_whom_may_name_anybody(stage: Stage, file: Path) -> None:
    # SEMANTICS 12
    play = stage.play
    play.plugin("one", digest(Send("paid", via=("email",), to=staff("shop"))))
    play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@example.com"})]
    stage.dispatch(NOON)
    assert [row["staff"] for row in drawn(stage, file, NINE + MINUTE).leaving] == ["Chen"]
    with play.store.read() as tx:
        assert plan_file.forget([file], plans.named(tx, {99})) == ([file], [])


@pytest.mark.parametrize("whose", ["somebody", "anybody"])
def test_a_plan_whose_beginning_says_something_else_is_not_passed_over_in_silence(
    stage: Stage, file: Path, whose: str
) -> None:
    # SEMANTICS 12
    drawn(stage, file)
    header, rest = file.read_text().split("\n", 1)
    old = {name: value for name, value in json.loads(header).items() if name != "instance"}
    file.write_text(f"{json.dumps(old)}\n{rest}")
    with stage.play.store.read() as tx:
        named = plans.named(tx, {1}) if whose == "somebody" else None
    assert plan_file.forget([file], named) == ([], [file])
    assert file.exists()


def test_what_a_plan_that_was_cut_off_left_beside_it_goes(stage: Stage, file: Path) -> None:
    # SEMANTICS 12
    beside = file.with_name(".plan.jsonl.new")
    with stage.play.store.read() as tx:
        named = plans.named(tx, {1})
    beside.write_text('{"pl')
    assert plan_file.forget([file], named) == ([file], [])
    assert not beside.exists()
    beside.write_text('{"pl')
    plan_file.tidy([file])
    assert beside.exists()  # somebody may be writing it
    os.utime(beside, (0, 0))
    plan_file.tidy([file])
    assert not beside.exists()

    def broken(value: Any) -> str:
        raise RuntimeError

    plan, made = stage.local.plan(now=NOON), Made("x", "y", {}, NOON, NOON)
    with pytest.raises(RuntimeError):
        plan_file.write(file, plan, made, broken)
    assert list(file.parent.glob(".plan*")) == []


# --- what is chosen ---------------------------------------------------------------------------------------------------


def test_what_is_not_chosen_stays_as_it_is(stage: Stage, file: Path) -> None:
    play = stage.play
    two(stage)
    play.plugin("two", on(OrderPaid)(lambda event, crm: [Send("paid", via=("email",))]))
    play.take(order("3", buyer("cy"), paid_at=NOON))
    ann, bob, cy = (row["id"] for row in play.rows(t.profile))
    only_bob = Choice(customers=frozenset({bob}), profiles=frozenset({bob}))
    for choice, expected in (
        (only_bob, {"bob@example.com"}),
        (Choice(templates=frozenset({"paid"})), {"cy@example.com"}),
        (Choice(limit=1), {"ann@example.com"}),
        (Choice(orders=frozenset({1}), buyers=frozenset({ann})), {"ann@example.com"}),
        (Choice(gateways=frozenset({"other"})), set()),
        (Choice(shops=frozenset({1})), {"ann@example.com", "bob@example.com", "cy@example.com"}),
        (Choice(shops=frozenset({2})), set()),
    ):
        plan = drawn(stage, file, choice=choice)
        assert {row["address"] for row in plan.leaving} == expected, choice
    drawn(stage, file, choice=only_bob)
    assert applied(stage, file).differences == []
    assert len(stage.asked) == 1
    assert {row["profile_id"] for row in play.rows(t.pending)} == {ann, cy}
    asyncio.run(dispatch_chosen(stage.local, Choice(templates=frozenset({"paid"})), now=NOON))
    assert Counter((row["template"], row["state"]) for row in play.rows(t.message)) == {
        ("news", "sent"): 1,
        ("news", "queued"): 2,
        ("paid", "sent"): 1,
    }
    asyncio.run(dispatch_chosen(stage.local, Choice(limit=1), now=NOON))
    assert Counter(row["state"] for row in play.rows(t.message)) == {"sent": 3, "queued": 1}


def test_a_limit_leaves_those_beyond_it_undecided(stage: Stage, file: Path) -> None:
    play = stage.play
    play.plugin("one", TELL)
    play.take(*(order(str(n), buyer(f"b{n}")) for n in range(30)))
    plan = drawn(stage, file, choice=Choice(limit=3))
    assert (len(plan.leaving), plan.beyond) == (3, 27)
    applied(stage, file)
    assert (len(stage.asked), play.count(t.message), play.count(t.pending)) == (3, 3, 27)
    asyncio.run(dispatch_chosen(stage.local, Choice(limit=12), now=NOON))
    assert len(stage.asked) == 15


def test_prices_and_segments_are_added_up_where_they_are_known(stage: Stage) -> None:
    play = stage.play
    priced = replace(entry(Accepting, "mail"), price=Money(Decimal("0.02"), "EUR"))
    play.channels = {"email": [priced]}
    play.plugin("one", TELL)
    play.take(*(order(str(n), buyer(f"b{n}")) for n in range(3)))
    plan = stage.local.plan(now=NOON, in_slices=True)
    assert totals(plan.rows) == [
        {"channel": "email", "gateway": "mail", "messages": 3, "segments": 3, "price": {"EUR": "0.06"}, "unpriced": 0}
    ]
