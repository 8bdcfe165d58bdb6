"""Decimals outside, whole minor units inside."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.money import Money, exponent, is_exact, to_minor
from crmkit.store import tables as t
from tests.play import Play, order

currencies = st.sampled_from(["EUR", "CNY", "JPY", "KWD", "CLF"])


@given(st.integers(-(10**15), 10**15), currencies)
def test_minor_units_come_back_as_the_amount_they_were(minor: int, currency: str) -> None:
    # SEMANTICS 37
    money = Money.of_minor(minor, currency)
    assert money is not None
    assert to_minor(money.amount, currency) == minor
    assert is_exact(money.amount, currency)


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("XYZ", 2)])
def test_currencies_have_their_own_digits(currency: str, digits: int) -> None:
    assert exponent(currency) == digits


def test_what_is_finer_than_a_minor_unit_is_rounded_to_even() -> None:
    assert [to_minor(Decimal(text), "EUR") for text in ("0.005", "0.015", "-0.005", "1.994")] == [0, 2, 0, 199]


def test_tables_hold_minor_units_and_a_finer_unit_price_its_text(play: Play) -> None:
    # SEMANTICS 37
    line = {"external_id": "l", "unit_price": Decimal("0.3333"), "total": Decimal("1.00"), "quantity": Decimal(3)}
    play.take(order("1", currency="EUR", total=Decimal("12.34"), lines=(line,)))
    assert play.one(t.orders)["total_minor"] == 1234
    stored = play.one(t.line)
    assert (stored["total_minor"], stored["unit_price"]) == (100, "0.3333")
