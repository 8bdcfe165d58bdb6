"""Who calls, and how often he may: token buckets in memory, as many as are bounded."""

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Buckets that are remembered; of more the one used longest ago is forgotten, and so full again.
MOST = 10_000
#: Of what all callers share, one has an eighth at the most.
SHARE = 8
#: Of what a proxy says of who came before it, characters that are read.
_LONGEST = 1_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a second for ever, and `burst` of them at once."""

    per_second: float
    burst: float


def burst(per_second: float) -> Rate:
    """A rate at which what ten seconds allow may come at once."""
    return Rate(per_second, max(1.0, per_second * 10))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a door allows.

    Attributes:
        strangers: calls of one address to one account that could not show whose they are.
        calls: webhooks of one account.
        body_within: seconds a body may take to come in.
    """

    strangers: Rate = Rate(30 / 60, 30)
    calls: Rate = field(default_factory=lambda: burst(200))
    body_within: float = 10.0


class Buckets:
    """A bucket of tokens for each key; what one may do takes one.

    Args:
        rate: how fast they fill, and how full they are.
        clock: seconds that only go forward.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.clock = rate, clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def wait(self, key: Hashable) -> float:
        """Seconds until there is a token; 0 if there is one now. Takes none."""
        left = self._now(key)
        return 0.0 if left >= 1 else (1 - left) / self.rate.per_second

    def take(self, key: Hashable) -> None:
        """Take a token, or what is left of one."""
        self._left[key] = (max(0.0, self._now(key) - 1), self.clock())
        self._left.move_to_end(key)
        if len(self._left) > MOST:
            self._left.popitem(last=False)

    def _now(self, key: Hashable) -> float:
        left, at = self._left.get(key, (self.rate.burst, 0.0))
        return min(self.rate.burst, left + (self.clock() - at) * self.rate.per_second)


class Callers:
    """Who calls: the address of the connection, or what a proxy of ours says of it.

    Args:
        proxies: addresses and networks of our own proxies; nobody else is believed.
    """

    def __init__(self, proxies: Iterable[str]) -> None:
        networks = tuple(ipaddress.ip_network(one, strict=False) for one in proxies)
        self._of = lru_cache(maxsize=2_000)(lambda peer, told: _caller(networks, peer, told))
        self._is_ours = lru_cache(maxsize=2_000)(lambda peer: _is_one_of(networks, peer))

    def of(self, scope: Scope) -> str:
        """The caller of a request, by whom is counted: an address, of IPv6 the network one customer of a provider has.

        Every line of `X-Forwarded-For` counts, in the order they came: a proxy may add one of its own.
        """
        lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        told = b",".join(lines)[-_LONGEST:].decode("latin-1") if lines else None
        return self.told(scope["client"][0] if scope.get("client") else "", told)

    def told(self, peer: str, forwarded: str | None = None) -> str:
        """The caller.

        Args:
            peer: the address of the connection.
            forwarded: what is said of who came before it.
        """
        return self._of(peer, None if forwarded is None else forwarded[-_LONGEST:])

    def is_ours(self, peer: str) -> bool:
        """Whether an address is one of our own proxies."""
        return self._is_ours(peer)


class Crowd:
    """How many connections each address has.

    Args:
        callers: knows our own proxies, which may have any number: of whom they call for is asked elsewhere.
    """

    def __init__(self, callers: Callers | None) -> None:
        self.callers = callers
        self._open: Counter[str] = Counter()

    def enter(self, peer: str) -> str | None:
        """One more; by what it is counted, None where it is not."""
        if self.callers is None or self.callers.is_ours(peer):
            return None
        caller = self.callers.told(peer)
        self._open[caller] += 1
        return caller

    def is_full(self, caller: str | None, share: int) -> bool:
        """Whether it has more than its share."""
        return caller is not None and self._open[caller] > share

    def leave(self, caller: str | None) -> None:
        """One less."""
        if caller is not None:
            self._open[caller] -= 1
            if self._open[caller] <= 0:
                del self._open[caller]


def _plain(written: str) -> "ipaddress.IPv4Address | ipaddress.IPv6Address | None":
    """An address as it is compared; None where it is none."""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_one_of(proxies: tuple[Network, ...], written: str) -> bool:
    address = _plain(written)
    return address is not None and any(address in network for network in proxies)


def _caller(proxies: tuple[Network, ...], peer: str, forwarded: str | None) -> str:
    """The last address of the way that is none of our proxies."""
    way = [peer] if forwarded is None else [*(one.strip() for one in forwarded.split(",")), peer]
    caller = peer
    for written in reversed(way):
        plain = _plain(written)
        if plain is None:
            break  # nobody of ours wrote that
        caller = str(ipaddress.ip_network((plain, 64), strict=False)) if plain.version == 6 else str(plain)
        if not any(plain in network for network in proxies):
            break
    return caller
