"""Staging: whom an installation for trying out may reach, and where what is for others goes."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

#: What the detail of what goes nowhere begins with.
MARK = "staging"
#: The header of a mail that went to somebody else: our number of the message, by which whoever may look finds for whom.
HEADER = "X-Crmkit-Redirected"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message goes."""

    kind: str
    address: str
    is_redirected: bool = False


@dataclass(frozen=True, slots=True)
class Staging:
    """Whom an installation for trying out may reach.

    Attributes:
        allow: addresses, `*` standing for anything.
        redirect: by channel, the address that others' messages go to.
    """

    allow: Sequence[str] = ()
    redirect: Mapping[str, str] = field(default_factory=dict)

    def target(self, channel: str, kind: str, address: str, reaches: Collection[str]) -> Target | None:
        """Where a message for an address goes by a gateway of these kinds; None: nowhere."""
        instead = self.redirect.get(channel)
        if address == instead or self.allows(address):
            return Target(kind, address)
        if instead is None:
            return None
        other = kind_of(instead)
        return Target(other, instead, is_redirected=True) if other in reaches else None

    def allows(self, address: str) -> bool:
        """Whether an address may be reached as it is."""
        return any(fnmatchcase(address.casefold(), pattern) for pattern in map(_plain, self.allow))

    @property
    def detail(self) -> str:
        """What is said of a message that goes nowhere; another where the settings are others."""
        told = repr((sorted(self.allow), sorted(self.redirect.items())))
        number = hashlib.blake2b(told.encode(), digest_size=4).hexdigest()
        return f"{MARK} ({number}): its address is not allowed, and its channel not redirected"

    def __str__(self) -> str:
        whom = f"only {', '.join(self.allow)} {'is' if len(self.allow) == 1 else 'are'} written to"
        others = ", ".join(f"{channel} to {address}" for channel, address in sorted(self.redirect.items()))
        elsewhere = f"others are redirected: {others}" if others else "others wait"
        return f"staging is on: {whom if self.allow else 'nobody is written to'}; {elsewhere}"


def _plain(pattern: str) -> str:
    """A pattern as addresses are stored: numbers without blanks, all in small letters."""
    return (pattern.replace(" ", "") if pattern.startswith("+") else pattern.strip()).casefold()


def kind_of(address: str) -> str:
    """What kind of address somebody wrote down: an e-mail address, or a number."""
    return "email" if "@" in address else "phone"
