"""Codes: made of what was left and a secret, the same each time, and telling nothing of each other."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.contact import code_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def row(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "kind": "email", "value": "ann@home.example", "left_at": NOON, **changes}


@given(st.integers(1, 2**62), st.text(), st.binary(min_size=1))
def test_a_code_is_six_digits_and_the_same_each_time(number: int, value: str, key: bytes) -> None:
    code = code_of(row(id=number, value=value), key)
    assert len(code) == 6
    assert code.isascii()
    assert code.isdigit()
    assert code == code_of(row(id=number, value=value), key)


def test_another_row_address_moment_or_secret_has_another_code() -> None:
    others = [row(id=2), row(value="bob@home.example"), row(kind="phone"), row(left_at=NOON + timedelta(seconds=1))]
    codes = {code_of(row(), b"key"), code_of(row(), b"other"), *(code_of(one, b"key") for one in others)}
    assert len(codes) == 6


def test_no_digit_is_likelier_than_others() -> None:
    codes = [code_of(row(id=number), b"key") for number in range(5_000)]
    assert len(set(codes)) > 4_950
    for place in range(6):
        counts = Counter(code[place] for code in codes)
        assert all(400 < counts[digit] < 600 for digit in "0123456789")
