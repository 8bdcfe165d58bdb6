"""What may come in: sentinels are empty, what no database takes is refused, equal content has one hash."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from crmkit.core.records import AnswerRecord, LineRecord, OrderRecord, ParcelRecord, ReviewRecord
from tests.strategies import START

EAST = timezone(timedelta(hours=9))


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-01T08:00:00+09:00"])
def test_sentinel_dates_are_empty(written: str) -> None:
    # SEMANTICS 4
    assert OrderRecord(external_id="1", updated_at=START, paid_at=written).paid_at is None  # type: ignore[arg-type]


def test_times_are_kept_in_utc() -> None:
    here = datetime(2026, 3, 1, 9, tzinfo=EAST)
    record = AnswerRecord(external_id="1", survey="s", answered_at=here, updated_at=here)
    assert (record.answered_at.tzinfo, record.updated_at) == (UTC, START)


def test_what_certainly_happened_has_a_time() -> None:
    with pytest.raises(ValidationError, match="no time"):
        AnswerRecord(external_id="1", survey="s", answered_at=datetime(1970, 1, 1, tzinfo=UTC))


BAD: dict[str, dict[str, Any]] = {
    "a NUL in its id": {"external_id": "1\x00"},
    "a NUL deep in its extras": {"extras": {"a": [{"b\x00": 1}]}},
    "half a character": {"note": "\ud800"},
    "an endless id": {"external_id": "x" * 256},
    "no id": {"external_id": ""},
    "no time": {"updated_at": None},
    "a time without a zone": {"paid_at": datetime(2026, 1, 1)},
    "a time beyond all times": {"paid_at": "9999-12-31T23:59:59-03:00"},
    "an amount without a currency": {"total": 1},
    "an endless amount": {"total": "1e30", "currency": "USD"},
    "no amount": {"total": "NaN", "currency": "USD"},
    "two lines with one id": {"lines": [LineRecord(external_id="l"), LineRecord(external_id="l")]},
    "a parcel of another order": {"parcels": [ParcelRecord(order_external_id="2", ordinal=1)]},
    "a word nobody knows": {"colour": "red"},
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_stored_is_refused(what: str) -> None:
    # SEMANTICS 7
    with pytest.raises(ValidationError):
        OrderRecord(**{"external_id": "1", "updated_at": START, **BAD[what]})


def test_equal_content_has_an_equal_hash_whenever_it_was_seen() -> None:
    # SEMANTICS 4
    one = OrderRecord(external_id="1", updated_at=START, observed_at=START)
    assert one.content_hash() == OrderRecord(external_id="1", updated_at=START).content_hash()
    assert one.content_hash() != OrderRecord(external_id="1", updated_at=START, note=None).content_hash()
    sent = ParcelRecord(order_external_id="1", ordinal=1, shipped_at=START)
    seen = [one.model_copy(update={"parcels": (sent.model_copy(update={"observed_at": at}),)}) for at in (None, START)]
    assert seen[0].content_hash() == seen[1].content_hash()


def test_a_parcel_is_told_by_its_id_else_its_ordinal_never_its_tracking_number() -> None:
    # SEMANTICS 5
    assert ParcelRecord(order_external_id="1", ordinal=2, tracking_number="t").key == "#2"
    assert ParcelRecord(order_external_id="1", external_id="p", tracking_number="t").key == "p"
    with pytest.raises(ValidationError):
        ParcelRecord(order_external_id="1", tracking_number="t")


def test_a_review_has_a_time() -> None:
    with pytest.raises(ValidationError):
        ReviewRecord(external_id="1")
