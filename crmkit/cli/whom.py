"""Whom a text on the command line means, and who types."""

import getpass
from typing import TYPE_CHECKING

from crmkit.core.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def customer_meant(tx: "Connection", text: str) -> int:
    """The one customer a text means.

    Raises:
        ConfigError: there is none, or more than one.
    """
    from crmkit.store import search

    found = search.families_meant(tx, text, limit=6)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(
            f"nobody is known as {text!r}",
            who="customers",
            do="give a number, an e-mail address, a phone number, a buyer id, an order, or part of a name",
        )
    several = ", ".join(f"#{row['customer']} {row['name'] or ''}".strip() for row in search.overview(tx, found[:5]))
    more = ", ..." if len(found) > 5 else ""
    raise ConfigError(f"{text!r} fits more than one customer: {several}{more}", who="customers", do="say which: '#5'")


def profile_meant(tx: "Connection", text: str) -> int:
    """The profile a text means: the one of this number, else the one its customer goes by.

    Raises:
        ConfigError: nobody is meant, or more than one customer.
    """
    from crmkit.store import customers

    family = customer_meant(tx, text)
    number = text.strip().removeprefix("#")
    if number.isdecimal() and int(number) in customers.members(tx, [family])[family]:
        return int(number)
    return family


def typist() -> str:
    """Who types a command, as the machine knows them: who is said to have done what it does."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"
