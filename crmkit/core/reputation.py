"""What a gateway's vendor, and those it writes to, make of what it sends: how much of it may go wrong.

Vendors close accounts that bounce or are complained of too much, long before a person has seen it: Amazon SES pauses
at 10 % bounces and at 0.5 % complaints. So crmkit stops first.
"""

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from crmkit.core.message import BOUNCES, Reason

#: However few were sent, so many must have gone wrong: one in a hundred says nothing.
FEWEST = 5
#: Refusals that are about one recipient: they count as no error of the gateway's.
OF_RECIPIENT = BOUNCES | {Reason.MAILBOX_FULL, Reason.OPTED_OUT, Reason.EXPIRED}
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%")


def read_share(written: Any) -> float | None:
    """A share written as `10%`; None where it is `never`.

    Raises:
        ValueError: it is not written so.
    """
    if written == "never" or written is None:
        return None
    if isinstance(written, float):
        return written
    found = _SHARE.fullmatch(written.strip()) if isinstance(written, str) else None
    share = float(found[1]) / 100 if found is not None else 0.0
    if not 0 < share <= 1:
        raise ValueError('should be a share like "10%", or "never"')
    return share


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of what a gateway sent in a while.

    Attributes:
        accepted: messages its vendor took.
        errors: tries that were refused, or got no verdict, for no fault of the recipient's.
        turned_away: messages the vendor refused because of their recipient.
        came_back: messages it took, and that came back later.
        complaints: recipients who called it spam.
    """

    accepted: int = 0
    errors: int = 0
    turned_away: int = 0
    came_back: int = 0
    complaints: int = 0

    @property
    def total(self) -> int:
        """How many were tried."""
        return self.accepted + self.errors + self.turned_away


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How much may go wrong before a gateway is paused; None: however much.

    Attributes:
        errors, bounces, complaints: shares of what was tried.
        window: within this long, or since it was last resumed.
        sample: of fewer tries nothing is concluded.
    """

    errors: float | None = 0.2
    bounces: float | None = 0.1
    complaints: float | None = 0.005
    window: timedelta = timedelta(hours=24)
    sample: int = 100

    @property
    def any(self) -> bool:
        """Whether anything is watched at all."""
        return any(share is not None for share in (self.errors, self.bounces, self.complaints))

    def enough(self, tried: Tried) -> int:
        """How many accepted messages make what went wrong little enough: so many, and no more, are to be counted.

        Args:
            tried: what went wrong; 0 is returned where that is too little whatever was accepted.
        """
        shares = [count / share for count, share, _ in self._kinds(tried) if share is not None and count >= FEWEST]
        return max(math.ceil(max(shares)), self.sample) if shares else 0

    def passed(self, tried: Tried) -> str | None:
        """Which of these was passed, with its figures; None where none was."""
        for count, share, what in self._kinds(tried):
            if share is None or count < FEWEST or tried.total < self.sample or count / tried.total <= share:
                continue
            figures = f"{count:,} of {tried.total:,} {what}, {count / tried.total:.1%}"
            return f"{figures} (policy.pause allows {share * 100:.3g}%)"
        return None

    def _kinds(self, tried: Tried) -> list[tuple[int, float | None, str]]:
        return [
            (tried.errors, self.errors, "tries were refused or got no verdict"),
            (tried.turned_away + tried.came_back, self.bounces, "messages came back"),
            (tried.complaints, self.complaints, "messages were complained of"),
        ]
