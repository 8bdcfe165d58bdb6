"""Preferences: what a customer says on a page of their own about what they want to be told, and by what channel."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.engine import Connection

from crmkit.flow import consent
from crmkit.store import customers, facts

#: Who said it, in the ledger.
SOURCE = "page"


def withdraw(
    tx: Connection,
    profile: int,
    channel: str,
    purpose: str,
    *,
    wording: str | None,
    listened: Collection[str],
    now: datetime,
) -> bool:
    """The customer wants no more of this; it holds for the addresses they are reached at too. False: known already.

    Args:
        channel, purpose: what; `*` for all of them.
        wording: what the page asked.
    """
    family = customers.family_of(tx, [profile])[profile]
    reach = facts.reach_of(tx, [family], now)
    said = {"channel": channel, "purpose": purpose, "state": "withdrawn", "source": SOURCE}
    entry = {**said, "actor": "customer", "wording": wording, "occurred_at": now}
    addresses = {row["value"] for row in reach.addresses.get(family, ()) if _is_of(channel, row["kind"])}
    entries = [{**entry, "profile_id": profile}, *({**entry, "address": one} for one in sorted(addresses))]
    return bool(
        consent.enter(tx, [one for one in entries if not _is_known(one, reach, family)], listened=listened, now=now)
    )


def _is_known(entry: dict[str, object], reach: facts.Reach, family: int) -> bool:
    """Whether it is what this page said last of the customer, or of the address."""
    address = entry.get("address")
    told = reach.consent.get(family, []) if address is None else reach.by_address.get(str(address), [])
    mine = [row for row in told if all(row[name] == entry.get(name) for name in ("profile_id", "channel", "purpose"))]
    return bool(mine) and mine[-1]["state"] == entry["state"]


def _is_of(channel: str, kind: str) -> bool:
    """Whether an address of this kind is reached by the channel."""
    kinds = {"email": {"email", "relay_email"}, "sms": {"phone", "virtual_phone"}, "call": {"phone", "virtual_phone"}}
    return channel == "*" or kind in kinds.get(channel, {kind})
