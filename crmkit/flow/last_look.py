"""The last look at messages before they leave: consent, age, later news, hours and pauses are as they are now.

It may put a message off or end it, with the same reasons as when it was decided, and never changes what it says.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.hooks import Verdict
from crmkit.core.message import Reason
from crmkit.flow import policy, staging
from crmkit.flow.compose import zone_of
from crmkit.flow.opt_outs import OptOuts
from crmkit.flow.pause import Pauses
from crmkit.flow.setup import Setup
from crmkit.store import facts, forgotten, pauses


def last_look(
    tx: Connection, setup: Setup, rows: Sequence[Mapping[str, Any]], now: datetime, paused: Pauses | None = None
) -> dict[int, Verdict]:
    """What may have changed since messages were decided: consent, suppression, age, later news, hours, pauses.

    Returns:
        {message: what keeps it from leaving now}; content never changes.
    """
    if not rows:
        return {}
    paused = paused if paused is not None else Pauses.standing(tx)
    profiles = {row["profile_id"] for row in rows if row["profile_id"] is not None}
    known = facts.customers_of(tx, profiles)
    addresses = {row["address"] for row in rows if row["address"] is not None}
    reach = facts.reach_of(tx, {customer.id for customer in known.values()}, now, addresses)
    about = [row for row in rows if row["milestone"] is not None or row["shop_id"] in setup.may_say]
    told = {row["order_id"] for row in about if row["order_id"] is not None}
    orders = facts.milestones_at(tx, told, now)
    persons = {person.name: person for person in setup.staff}
    opt_outs = OptOuts.standing(tx) if any(row["purpose"] == "marketing" for row in rows) else OptOuts({})
    nobodys = forgotten.meant(tx, rows)
    verdicts: dict[int, Verdict] = {}
    for row in rows:
        if row["id"] in nobodys or row["address"] is None or row["text"] is None:
            verdicts[row["id"]] = Verdict("suppress", Reason.FORGOTTEN)
            continue
        customer = known.get(row["profile_id"])
        is_nobodys = row["staff"] is None and row["profile_id"] is None  # an address that is to be proven
        shop = None if is_nobodys or row["staff"] is not None else row["shop_id"]
        order = orders.get(row["order_id"])
        verdict = policy.forbidden(setup, shop, order, row["purpose"], row["template"])
        verdict = verdict or policy.stale(row["expires_at"], now) or policy.overtaken(row["milestone"], order)
        hours = None if is_nobodys else setup.rules.quiet_hours
        if row["staff"] is not None:
            person = persons.get(row["staff"])
            hours = person.quiet_hours if person is not None else None
        elif verdict is None:
            verdict = policy.consent(
                purpose=row["purpose"],
                channel=row["channel"],
                ledger=reach.consent.get(customer.id, ()) if customer is not None else (),
                about_address=reach.said_of_addresses(customer.id if customer is not None else None, row["address"]),
                suppressed=reach.suppressed.get(row["address"], ()),
                marketing_default=setup.rules.marketing_default,
                address=row["address"],
            )
        if verdict is None and opt_outs.keep(row):
            verdict = Verdict("defer", Reason.OPT_OUTS_UNKNOWN)
        if verdict is None and (by := paused.of(row)) is not None:
            verdict = Verdict("defer", Reason.PAUSED, detail=pauses.detail(by))
        if verdict is None and hours is not None:
            zone = zone_of(customer.timezone if customer else None, setup.shops.get(row["shop_id"]), setup)
            verdict = policy.quiet_hours(now, hours, zone)
        if verdict is None and (entry := setup.entry(row["gateway"])) is not None:
            verdict = policy.vendor_hours(now, row["purpose"], entry.adapter.sends_marketing)
        if verdict is None:
            verdict = staging.verdict(setup, row, now)
        if verdict is not None and verdict.reason is Reason.QUIET_HOURS and verdict.until is not None:
            verdict = policy.stale(row["expires_at"], verdict.until) or verdict
        if verdict is not None:
            verdicts[row["id"]] = verdict
    return verdicts
