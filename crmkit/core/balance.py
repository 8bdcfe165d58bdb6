"""What is left on a gateway's account at its vendor: an amount of money, or a number of messages that were paid for."""

from typing import Any

from crmkit.core.money import Money
from crmkit.core.quota import read_price

Balance = Money | int


def read_balance(written: Any) -> Balance:
    """A balance written as `20 USD`, or as a number of messages.

    Raises:
        ValueError: it is not written so.
    """
    if isinstance(written, int) and not isinstance(written, bool) and written >= 0:
        return written
    try:
        return read_price(written)
    except ValueError:
        raise ValueError('should be an amount of money like "20 USD", or a number of messages like 500') from None


def is_low(left: Balance, low: Balance) -> bool | None:
    """Whether less is left than that; None where the two cannot be compared: messages and money, or two currencies."""
    if isinstance(left, Money) and isinstance(low, Money):
        return left.amount < low.amount if left.currency == low.currency else None
    if isinstance(left, int) and isinstance(low, int):
        return left < low
    return None


def in_words(balance: Balance) -> str:
    """`12.50 USD`, or `300 messages`."""
    if isinstance(balance, Money):
        return f"{balance.amount} {balance.currency}"
    return f"{balance:,} message{'' if balance == 1 else 's'}"
