"""Reasons say where and why, and never what stands there."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, ValidationError

from crmkit import PayloadError, Refused
from crmkit.adapters.misreading import misread

SAID = "ann@buyers.example"


def _no(value: str) -> str:
    raise ValueError(f"{value} is nobody")


class Row(BaseModel):
    at: datetime | None = None
    total: Decimal | None = None
    buyer: Annotated[str, AfterValidator(_no)] | None = None
    lines: dict[str, int] = {}


def error_of(row: Any) -> Exception:
    with pytest.raises(ValidationError) as caught:
        Row.model_validate(row)
    return caught.value


def test_an_error_of_pydantic_is_its_place_and_its_rule() -> None:
    assert misread(error_of({"total": SAID})) == "total: Input should be a valid decimal"
    assert misread(error_of({"at": SAID})).startswith("at: Input should be a valid datetime")
    assert misread(error_of(7)).startswith("Input should be a valid dictionary")


@pytest.mark.parametrize("row", [{"total": SAID}, {"at": SAID}, {"buyer": SAID}, {"lines": {SAID: "x"}}, SAID])
def test_no_reason_holds_what_was_read(row: Any) -> None:
    assert SAID not in misread(error_of(row))


def test_of_an_author_the_words_are_shown_and_of_python_the_type_alone() -> None:
    assert misread(PayloadError("a trade without a number", who="x")) == "a trade without a number"
    with pytest.raises(ValueError, match=SAID) as caught:
        int(SAID)
    assert misread(caught.value) == "ValueError"


def test_a_refused_record_keeps_the_raw_one_and_says_where_it_is_wrong() -> None:
    row = {"total": SAID}
    refused = Refused.of(error_of(row), "order", "orders/7", row, "7")
    assert (refused.kind, refused.place, refused.ref) == ("order", "orders/7", "7")
    assert (refused.reason, json.loads(refused.raw)) == ("total: Input should be a valid decimal", row)
