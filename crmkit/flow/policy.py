"""What may drop, hold or defer a message: rules on consent, staleness, overtaken news and quiet hours.

Pure: each rule is given the facts and answers with a verdict, or None to let the message pass. Decide asks them when a
message is decided; deliver asks them once more before it leaves.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from crmkit.core.customer import consent_news
from crmkit.core.hooks import Verdict
from crmkit.core.message import Reason
from crmkit.core.order import MILESTONES, RANK, Order
from crmkit.flow.setup import Setup
from crmkit.store.facts import Reach


def suppress(reason: Reason, detail: str | None = None) -> Verdict:
    """It is not sent, and this is why."""
    return Verdict("suppress", reason, detail=detail)


def hold(reason: Reason, detail: str | None = None) -> Verdict:
    """It waits for a person."""
    return Verdict("hold", reason, detail=detail)


def defer(reason: Reason, until: datetime, detail: str | None = None) -> Verdict:
    """It leaves later."""
    return Verdict("defer", reason, until=until, detail=detail)


def forbidden(setup: Setup, shop: int | None, order: Order | None, purpose: str, template: str) -> Verdict | None:
    """Whether the marketplace of a shop lets this be said to its buyers; asked before anything else."""
    ask = setup.may_say.get(shop) if shop is not None else None
    if shop is None or ask is None:
        return None
    try:
        why = ask(order, purpose, template)
        if why is not None and not isinstance(why, str):
            raise TypeError(f"answered {why!r}; give the reason as text, or None")
    except (Exception, SystemExit) as error:  # an adapter's code: what it breaks is this message only
        return hold(Reason.POLICY_ERROR, f"{setup.shops[shop].name}.may_say: {error!r}")
    return None if why is None else suppress(Reason.MARKETPLACE_FORBIDS, why)


def consent(
    *,
    purpose: str,
    channel: str,
    ledger: Iterable[Mapping[str, Any]],
    about_address: Iterable[Mapping[str, Any]],
    suppressed: Iterable[Mapping[str, Any]],
    marketing_default: str,
    address: str | None = None,
) -> Verdict | None:
    """Whether a customer may be told something for this purpose over this channel.

    Transactional news is allowed unless it was withdrawn. Marketing needs a grant that was not withdrawn since, unless
    `marketing_default` is `allow`. A suppressed address is not written to at all. Of each profile, and of the address,
    the newest word holds; where they disagree, the most restrictive. What was withdrawn for one address of a customer
    holds for all of them; what was granted for one is a grant for that one only.

    Args:
        ledger: consent entries of the customer's profiles, oldest first.
        about_address: consent entries about the address and the customer's others, oldest first.
        suppressed: standing suppressions of the address.
        address: the address.
    """
    for row in suppressed:
        if row["channel"] in {channel, "*"} and row["purpose"] in {purpose, "*"}:
            return suppress(Reason.OPTED_OUT, f"address suppressed: {row['reason']} ({row['source']})")
    latest: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for entry in (*consent_news(ledger), *consent_news(about_address)):
        if entry["channel"] in {channel, "*"} and entry["purpose"] in {purpose, "*"}:
            latest[entry["profile_id"], entry["address"]] = entry
    withdrawn = next((entry for entry in latest.values() if entry["state"] == "withdrawn"), None)
    if withdrawn is not None:
        return suppress(Reason.OPTED_OUT, f"withdrawn {withdrawn['occurred_at'].isoformat()} ({withdrawn['source']})")
    is_granted = any(about in (None, address) for _, about in latest)
    if purpose == "marketing" and not is_granted and marketing_default != "allow":
        return suppress(Reason.NO_CONSENT, "marketing needs an opt-in and there is none")
    return None


def address(
    setup: Setup, reach: Reach, family: int, channel: str, purpose: str, row: Mapping[str, Any]
) -> Verdict | None:
    """Whether a customer may be told something for this purpose over this channel at one of their addresses.

    Args:
        family: the customer.
        row: the address, one of `reach.addresses`.
    """
    if purpose not in row["purposes"].split(","):
        return suppress(Reason.NO_CONSENT, f"not an address for {purpose} news")
    return consent(
        purpose=purpose,
        channel=channel,
        ledger=reach.consent.get(family, ()),
        about_address=reach.said_of_addresses(family, row["value"]),
        suppressed=reach.suppressed.get(row["value"], ()),
        marketing_default=setup.rules.marketing_default,
        address=row["value"],
    )


def stale(expires_at: datetime | None, leaves_at: datetime) -> Verdict | None:
    """Whether the news is too old when the message would leave."""
    if expires_at is not None and leaves_at >= expires_at:
        return suppress(Reason.STALE, f"valid until {expires_at.isoformat()}")
    return None


def overtaken(milestone: str | None, order: Order | None) -> Verdict | None:
    """Whether a later milestone of the same order is known already."""
    if milestone is None or order is None:
        return None
    for later in MILESTONES[RANK[milestone] + 1 :]:
        if order.reached(later) is not None:
            return suppress(Reason.OVERTAKEN, f"the order is {later} already")
    return None


def quiet_hours(leaves_at: datetime, hours: tuple[time, time] | None, zone: ZoneInfo) -> Verdict | None:
    """Whether the message would arrive at night."""
    if hours is None:
        return None
    until = in_hours(leaves_at, hours, zone)
    return None if until is None else defer(Reason.QUIET_HOURS, until)


def vendor_hours(leaves_at: datetime, purpose: str, hours: tuple[time, time, str] | None) -> Verdict | None:
    """Whether a vendor takes no marketing at this time.

    Args:
        hours: (from, to, IANA zone) in which it does; None: always.
    """
    if hours is None or purpose != "marketing":
        return None
    begin, end, zone = hours
    return quiet_hours(leaves_at, (end, begin), ZoneInfo(zone))


def in_hours(moment: datetime, hours: tuple[time, time], zone: ZoneInfo) -> datetime | None:
    """The end of the quiet hours `moment` falls into, None if it falls into none.

    Args:
        moment: an aware time.
        hours: local (from, to); may pass midnight.
        zone: where the local times hold.
    """
    begin, end = hours
    local = moment.astimezone(zone)
    clock = local.time().replace(tzinfo=None)
    inside = begin <= clock < end if begin <= end else (clock >= begin or clock < end)
    if not inside:
        return None
    day = local.date()
    if begin > end and clock >= begin:
        day += timedelta(days=1)
    until = datetime.combine(day, end, zone)
    if until.astimezone(UTC) <= moment:  # the clock was put back, and the hours come a second time
        until = until.replace(fold=1)
    return until.astimezone(UTC)
