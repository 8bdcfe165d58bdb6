"""Decimal amounts in records, integer minor units (ISO 4217) in tables."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

#: Digits after the point where they are not two (ISO 4217, active codes).
EXPONENTS = {
    **dict.fromkeys(
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(),
        0,
    ),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}


def exponent(currency: str) -> int:
    """Digits after the point in `currency` (an ISO 4217 code)."""
    return EXPONENTS.get(currency, 2)


def to_minor(amount: Decimal, currency: str) -> int:
    """`amount` in minor units of `currency`, rounded half to even where it is finer."""
    return int(amount.scaleb(exponent(currency)).to_integral_value(ROUND_HALF_EVEN))


def is_exact(amount: Decimal, currency: str) -> bool:
    """Whether `amount` has no part finer than a minor unit of `currency`."""
    scaled = amount.scaleb(exponent(currency))
    return scaled == scaled.to_integral_value()


@dataclass(frozen=True, slots=True)
class Money:
    """An amount with its currency, as handlers and templates see it."""

    amount: Decimal
    currency: str

    @classmethod
    def of_minor(cls, minor: int | None, currency: str | None) -> "Money | None":
        """The amount a table holds as `minor` units, or None where either part is unknown."""
        if minor is None or not currency:
            return None
        return cls(Decimal(minor).scaleb(-exponent(currency)), currency)

    def __str__(self) -> str:
        return f"{self.currency} {self.amount:,.{exponent(self.currency)}f}"
