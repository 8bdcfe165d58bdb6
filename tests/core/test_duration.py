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


@pytest.mark.parametrize("written", ["", "h", "2 hours", "-1h", "1.5h", "9999999d", 5, None, "1h30m", "٣h"])
def test_what_is_written_otherwise_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(ValueError, match="30m, 36h or 7d"):
        parse_duration(written)
    with pytest.raises(ValidationError, match="30m, 36h or 7d"):
        Model.model_validate({"delay": written})


def test_nothing_lasts_longer_than_a_century() -> None:
    with pytest.raises(ValueError, match="longer than 36500d"):
        parse_duration("99999w")


@given(st.integers(0, 5_000), st.sampled_from("smhdw"))
def test_a_duration_reads_back(number: int, unit: str) -> None:
    meant = parse_duration(f"{number}{unit}")
    assert parse_duration(write_duration(meant)) == meant
