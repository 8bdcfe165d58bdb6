from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from crmkit.core.duration import Duration, parse_duration, write_duration


class Model(BaseModel):
    delay: Duration = timedelta(0)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("30m", timedelta(minutes=30)), ("36h", timedelta(hours=36)), ("7d", timedelta(days=7)), ("0s", timedelta(0))],
)
def test_a_duration_is_a_number_and_a_unit(written: str, meant: timedelta) -> None:
    assert parse_duration(written) == meant


@pytest.mark.parametrize("written", ["", "h", "2 hours", "-1h", "1.5h", "9999999y", 5, None, "1h30m", "٣h"])
def test_what_is_written_otherwise_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="is no duration; write it like 30m, 36h or 7d, in s, m, h, d or w"):
        parse_duration(written)
    with pytest.raises(ValidationError, match="30m, 36h or 7d"):
        Model.model_validate({"delay": written})


@pytest.mark.parametrize("written", ["99999w", "36501d", "99999999d", "3153600001s", f"{'9' * 5_000}w"])
def test_nothing_lasts_longer_than_a_century(written: str) -> None:
    with pytest.raises(ValueError, match=r"is too long: 36500d is the most, in s, m, h, d or w"):
        parse_duration(written)


@pytest.mark.parametrize("meant", [timedelta(days=36_500), timedelta(seconds=1_000_001), timedelta(seconds=30)])
def test_what_is_written_for_a_duration_is_read_again(meant: timedelta) -> None:
    assert parse_duration(write_duration(meant)) == meant
    assert parse_duration(f"{'0' * 20}{write_duration(meant)}") == meant


@given(st.integers(0, 5_000), st.sampled_from("smhdw"))
def test_a_duration_reads_back(number: int, unit: str) -> None:
    meant = parse_duration(f"{number}{unit}")
    assert parse_duration(write_duration(meant)) == meant
