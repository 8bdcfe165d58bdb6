"""Many messages and many faults at once: whatever comes, the vendor's ledger and the database tell the same story."""

import asyncio
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

import crmkit.flow.deliver
from crmkit.engine.local import Local
from crmkit.store import accounts
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.testing.fault import FAULTS, KINDS, Kind, Verdict
from crmkit.testing.vendor import Vendor
from tests.faults.conftest import Town
from tests.faults.town import NOON

#: What a vendor does in a storm: all but what takes long, or stops the account.
WEATHER = [
    fault.name
    for fault in FAULTS.values()
    if fault.when != "way" and fault.ends not in {"hang", "drip"} and fault.verdict is not Verdict.STRANGER
]


# SEMANTICS 22
# SEMANTICS 27
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_after_a_storm_both_tell_the_same(town: Town, kind: Kind, seed: int) -> None:
    dice = random.Random(seed)
    town.vendor.pause = 0.0
    script = [dice.choice(WEATHER) if dice.random() < 0.5 else "slow" for _ in range(120)]
    town.vendor.fail(*(name for name in script if name != "unread"))
    town.vendor.fail("unread", "unread", at="connection")
    town.configure(kind, orders=60)
    town.sync()
    for hours in (0, 1, 24, 240, 480, 720):
        town.dispatch(NOON + timedelta(hours=hours))
        assert town.wrong() == []
    states = Counter(row["state"] for row in town.rows(t.message))
    faults = Counter(entry.fault for entry in town.vendor.ledger.entries("request"))
    assert sum(states.values()) == 60
    assert states["sent"] > 10
    refused = [row for row in town.rows(t.message) if "other" in (row["reason"], str(row["detail"]).split(":")[0])]
    assert len(refused) == faults["400"]  # those of which an earlier try may have been taken are in doubt
    assert set(states) <= ({"sent", "failed"} if kind == "asking" else {"sent", "failed", "in-doubt"})


@pytest.mark.parametrize("kind", KINDS)
def test_credentials_that_expire_in_the_middle_of_a_run_double_nothing(town: Town, kind: Kind, tmp_path: Path) -> None:
    with Vendor(tmp_path / "strict", expires_after=15) as strict:
        town.vendor = strict
        town.configure(kind, orders=40)
        town.sync()
        town.dispatch(NOON)
        assert {row["state"] for row in town.rows(t.message)} == {"sent"}
        assert town.wrong() == []
        assert len(strict.ledger.entries("accepted")) == 40
        assert strict.token >= 3


def test_credentials_that_are_refused_for_good_keep_the_messages(town: Town, tmp_path: Path) -> None:
    with Vendor(tmp_path / "strict", expires_after=10, renews=False) as strict:
        town.vendor = strict
        town.configure("plain", orders=30)
        town.sync()
        town.dispatch(NOON)
        states = Counter(row["state"] for row in town.rows(t.message))
        assert states == {"sent": 10, "queued": 20}
        assert town.wrong() == []


# SEMANTICS 24
def test_what_may_have_left_is_not_said_to_be_suppressed(town: Town) -> None:
    (town.folder / "templates" / "news.en.email.txt").write_text(
        '---\npurpose = "transactional"\nsubject = "News"\nvalid_for = "1h"\n---\nNews.\n', "utf-8"
    )
    town.vendor.fail("close-taken")
    town.configure("deduplicating")
    town.sync()
    town.dispatch(NOON)
    assert town.message["state"] == "queued"
    with town.store.begin() as tx:  # nothing ran until the news was stale
        tx.execute(t.message.update().values(not_before=NOON + timedelta(hours=2)))
    town.dispatch(NOON + timedelta(hours=2))
    assert town.wrong() == []


# SEMANTICS 22
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_in_the_same_storm_double_nothing(town: Town, kind: Kind) -> None:
    dice = random.Random(3)
    town.vendor.pause = 0.0
    town.vendor.fail(*(dice.choice(["slow", "close", "close-taken", "503", "429", "500-taken"]) for _ in range(40)))
    town.configure(kind, orders=60)
    town.sync()
    second = Store(town.database)
    try:
        engines = [town.engine, Local(town.engine.host, second)]

        async def both() -> None:
            await asyncio.gather(*(engine.dispatch(now=NOON) for engine in engines))

        asyncio.run(both())
        assert town.wrong() == []
    finally:
        second.close()
    for days in (2, 3):
        town.dispatch(NOON + timedelta(days=days))
        assert town.wrong() == []
    states = Counter(row["state"] for row in town.rows(t.message))
    assert set(states) <= ({"sent", "in-doubt"} if kind == "plain" else {"sent"})
    assert sum(states.values()) == 60


def test_two_processes_that_meet_an_account_at_once_give_it_one_number(town: Town) -> None:
    told = {"name": "new", "kind": "gateway", "adapter": "plain", "vendor_account": None}
    second = Store(town.database)
    try:
        with ThreadPoolExecutor() as pool:
            with town.store.begin() as tx:
                first = accounts.meet(tx, **told, announce_from=NOON, now=NOON)

                def meet() -> tuple[int, object]:
                    with second.begin() as other:
                        return accounts.meet(other, **told, announce_from=NOON, now=NOON)

                meeting = pool.submit(meet)
                time.sleep(0.1)
            assert meeting.result() == first
    finally:
        second.close()


# SEMANTICS 22
@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_with_requests_in_flight_only_those_are_in_doubt(
    town: Town, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crmkit.flow.deliver, "GRACE", 0.1)
    town.vendor.fail(*["hang-taken", "hang"] * 2)
    town.configure(kind, orders=20, more="concurrency = 4")
    town.sync()

    async def interrupted() -> None:
        sending = asyncio.create_task(town.engine.dispatch(now=NOON))
        async with asyncio.timeout(10):
            while len(town.vendor.ledger.entries("request")) < 4:  # noqa: ASYNC110  it is written in another thread
                await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    asyncio.run(interrupted())
    assert Counter(row["outcome"] for row in town.rows(t.attempt)) == {"in-doubt": 4}
    assert sum(town.vendor.ledger.requests().values()) == 4
    assert town.wrong() == []
    town.dispatch(NOON + timedelta(hours=2))
    states = Counter(row["state"] for row in town.rows(t.message))
    assert states == ({"sent": 16, "in-doubt": 4} if kind == "plain" else {"sent": 20})
    assert town.wrong() == []
