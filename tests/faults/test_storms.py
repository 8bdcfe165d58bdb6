"""Many messages and many faults at once: whatever comes, the vendor's ledger and the database tell the same story."""

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from crmkit.store import tables as t
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
    for hours in (0, 1, 24, 240):
        town.dispatch(NOON + timedelta(hours=hours))
        assert town.wrong() == []
    states = Counter(row["state"] for row in town.rows(t.message))
    faults = Counter(entry.fault for entry in town.vendor.ledger.entries("request"))
    assert sum(states.values()) == 60
    assert states["sent"] > 10
    assert states["failed"] == faults["400"]
    assert set(states) <= ({"sent", "failed", "in-doubt"} if kind == "plain" else {"sent", "failed"})


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
@pytest.mark.xfail(strict=False, reason="the last look says 'suppressed' of what may have left")
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


# SEMANTICS 24
@pytest.mark.xfail(strict=False, reason="its tries used up, 'failed' is said of what may have left")
def test_what_may_have_left_is_not_said_to_have_failed(town: Town) -> None:
    town.vendor.fail("close-taken", *["429"] * 20)
    town.configure("deduplicating")
    town.sync()
    town.dispatch(NOON + timedelta(days=30))
    assert town.message["tries"] == 10
    assert town.wrong() == []
