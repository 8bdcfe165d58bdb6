"""Preferences: what a customer says on a page of their own about what they want to be told, and by what channel.

What holds now is asked of the policies that decide and deliver ask: the page never says other than what is done.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.customer import consent_news
from crmkit.flow import consent, policy
from crmkit.flow.setup import Setup
from crmkit.store import bulk, customers
from crmkit.store import tables as t
from crmkit.store.facts import Reach

#: Who said it, in the ledger.
SOURCE = "page"
PURPOSES = ("transactional", "marketing")
#: What a page says of a profile goes before what any shop says (`People`: 0 for masked, 1 for plain values of shops).
_BEFORE_SHOPS = 2


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel by which a customer can be reached.

    Attributes:
        addresses: by which, each with whether it is suppressed there: nothing reaches it.
        allowed: {purpose: whether that is sent now}; what none of the addresses may be used for is not here.
    """

    name: str
    addresses: tuple[tuple[Mapping[str, Any], bool], ...]
    allowed: Mapping[str, bool]

    @property
    def is_suppressed(self) -> bool:
        """Whether no address is left that anything reaches."""
        return all(is_suppressed for _, is_suppressed in self.addresses)


def newest(tx: Connection, family: int) -> int:
    """The number of the newest entry of the ledger about a customer, 0 where there is none."""
    members = customers.members(tx, [family])[family]
    addresses = {row["value"] for row in customers.addresses_of(tx, members)}
    return max((entry["id"] for entry in customers.consent_of(tx, members, addresses)), default=0)


def channels(setup: Setup, reach: Reach, family: int) -> list[Channel]:
    """The channels by which a customer can be reached, in the order of the configuration."""
    found = []
    for name, entries in setup.channels.items():
        kinds = {kind for entry in entries for kind in entry.adapter.reaches}
        rows = [row for row in reach.addresses.get(family, ()) if row["kind"] in kinds]
        allowed = {
            purpose: any(policy.address(setup, reach, family, name, purpose, row) is None for row in rows)
            for purpose in PURPOSES
            if any(purpose in row["purposes"].split(",") for row in rows)
        }
        unique = {(row["kind"], row["value"]): row for row in rows}
        told = tuple((row, _is_suppressed(reach, name, row["value"])) for row in unique.values())
        if rows:
            found.append(Channel(name, told, allowed))
    return found


def _is_suppressed(reach: Reach, channel: str, address: str) -> bool:
    return any(row["channel"] in {channel, "*"} and row["purpose"] == "*" for row in reach.suppressed.get(address, ()))


# --- what is said -----------------------------------------------------------------------------------------------------


def withdraw(
    tx: Connection,
    profile: int,
    channel: str,
    purpose: str,
    *,
    wording: str | None,
    listened: Collection[str],
    now: datetime,
    correlation_id: str | None = None,
) -> bool:
    """The customer wants no more of this; it holds for the addresses they are reached at too. False: known already.

    Args:
        channel, purpose: what; `*` for all of them.
        wording: what the page asked.
    """
    said = _Said(tx, profile, channel, purpose, now)
    addresses = {row["value"] for row in customers.addresses_of(tx, said.members) if _is_of(channel, row["kind"])}
    keys = [(profile, None), *((None, one) for one in sorted(addresses))]
    return said.enter(
        [key for key in keys if not said.is_withdrawn(*key)], "withdrawn", wording, listened, correlation_id
    )


def grant(
    tx: Connection,
    profile: int,
    channel: str,
    purpose: str,
    *,
    wording: str | None,
    listened: Collection[str],
    now: datetime,
    correlation_id: str | None = None,
) -> bool:
    """The customer wants this: said of the profile, and wherever this customer had said that it is not wanted.

    Args:
        channel, purpose: what.
        wording: what the page asked.
    """
    said = _Said(tx, profile, channel, purpose, now)
    others = [key for key in said.subjects() if key != (profile, None) and said.is_withdrawn(*key)]
    return said.enter([(profile, None), *others], "granted", wording, listened, correlation_id)


def allow(
    tx: Connection,
    profile: int,
    address: str,
    channel: str,
    purpose: str,
    *,
    wording: str | None,
    listened: Collection[str],
    now: datetime,
    correlation_id: str | None = None,
) -> bool:
    """Whoever is reached at an address wants this there: said of that address, and of nothing and nobody else.

    An address that had said no to news is not asked again on behalf of one order: that stays as it is.
    """
    said = _Said(tx, profile, channel, purpose, now, (address,))
    if purpose == "transactional" and said.is_withdrawn(None, address):
        return False
    return said.enter([(None, address)], "granted", wording, listened, correlation_id)


def speak(tx: Connection, profile: int, locale: str, now: datetime) -> None:
    """The customer wants to be written to in this language, whatever a shop says."""
    bulk.lock(tx, bulk.INGEST)
    rank = [_BEFORE_SHOPS, now.isoformat(), "", "", 0]
    family = customers.family_of(tx, [profile])[profile]
    rows = customers.by_id(tx, customers.members(tx, [family])[family])
    changed = [
        {"id": number, "locale": locale, "sources": {**(row["sources"] or {}), "locale": rank}}
        for number, row in rows.items()
    ]
    bulk.update(tx, t.profile, ("id",), ("locale", "sources"), changed)


class _Said:
    """What the ledger says of one customer on one matter: by profile, and by address."""

    def __init__(
        self, tx: Connection, profile: int, channel: str, purpose: str, now: datetime, also: Collection[str] = ()
    ) -> None:
        bulk.lock(tx, bulk.INGEST)  # two that say the same at once say it once
        self.tx, self.channel, self.purpose, self.now = tx, channel, purpose, now
        family = customers.family_of(tx, [profile])[profile]
        self.members = customers.members(tx, [family])[family]
        addresses = {row["value"] for row in customers.addresses_of(tx, self.members)}.union(also)
        entries = customers.consent_of(tx, self.members, addresses)
        self._entries = [entry for entry in consent_news(entries) if entry["occurred_at"] <= now]

    def subjects(self) -> Iterator[tuple[int | None, str | None]]:
        """Whom and what something was said of."""
        yield from dict.fromkeys((entry["profile_id"], entry["address"]) for entry in self._entries)

    def is_withdrawn(self, profile: int | None, address: str | None) -> bool:
        """Whether all of this is withdrawn, and none of it granted since."""
        is_withdrawn = False
        for entry in self._entries:
            if (entry["profile_id"], entry["address"]) != (profile, address):
                continue
            said, asked = (entry["channel"], entry["purpose"]), (self.channel, self.purpose)
            if entry["state"] == "withdrawn":
                covers = all(one in {other, "*"} for one, other in zip(said, asked, strict=True))
                is_withdrawn = is_withdrawn or covers
            elif all("*" in (one, other) or one == other for one, other in zip(said, asked, strict=True)):
                is_withdrawn = False
        return is_withdrawn

    def enter(
        self,
        keys: Collection[tuple[int | None, str | None]],
        state: str,
        wording: str | None,
        listened: Collection[str],
        correlation_id: str | None,
    ) -> bool:
        """Enter it of these. False: nothing of it is new."""
        entry = {
            "channel": self.channel,
            "purpose": self.purpose,
            "state": state,
            "source": SOURCE,
            "actor": "customer",
            "wording": wording,
            "occurred_at": self.now,
            "correlation_id": correlation_id,
        }
        entries = [{**entry, "profile_id": profile, "address": address} for profile, address in keys]
        return bool(consent.enter(self.tx, entries, listened=listened, now=self.now)) if entries else False


def _is_of(channel: str, kind: str) -> bool:
    """Whether an address of this kind is reached by the channel."""
    kinds = {"email": {"email", "relay_email"}, "sms": {"phone", "virtual_phone"}, "call": {"phone", "virtual_phone"}}
    return channel == "*" or kind in kinds.get(channel, {kind})
