"""A gateway whose tries are refused, whose messages come back or are complained of too much, pauses by itself.

Asked in the transaction that stores what went wrong, and only then: where all is well nothing is counted. It takes
effect at the next mark, in every process.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from sqlalchemy.engine import Connection

from crmkit.core.errors import AdapterError
from crmkit.core.events import GatewayPaused
from crmkit.core.interaction import CRMKIT
from crmkit.core.reputation import Thresholds
from crmkit.store import bulk, log, pauses, quotas, reputation


def judge(
    tx: Connection, gateway: str, thresholds: Thresholds, now: datetime, *, listened: Collection[str]
) -> str | None:
    """Pause a gateway if too much of what it sent went wrong. The last thing of a transaction: others wait for it.

    What is queued moves on, or says that it waits, with the next claim.

    Args:
        listened: wire names of the events somebody handles.

    Returns:
        Why it was paused now; None if it was not.
    """
    if not thresholds.any:
        return None
    since = max(now - thresholds.window, quotas.read(tx, gateway).watched_from or now - thresholds.window)
    tried = reputation.troubles(tx, gateway, since)
    most = thresholds.enough(tried)
    if most == 0:
        return None
    tried = replace(tried, accepted=reputation.accepted(tx, gateway, since, most))
    if thresholds.passed(tried) is None:
        return None
    came_back, complaints = reputation.of_late(tx, gateway, since)
    why = thresholds.passed(replace(tried, came_back=came_back, complaints=complaints))
    if why is None:
        return None
    bulk.lock(tx, f"pause of gateway {gateway}")
    if pauses.of_gateway(tx, gateway) is not None:
        return None
    pauses.begin(tx, "gateway", gateway, now, reason=why, actor=CRMKIT)
    tell(tx, gateway, why, now, listened=listened)
    return why


def tell(tx: Connection, gateway: str, why: str, now: datetime, *, listened: Collection[str]) -> None:
    """Tell that crmkit paused a gateway."""
    event = GatewayPaused(gateway=gateway, reason=why)
    row = {"type": event.name, "actor": CRMKIT, "occurred_at": now, "payload": event.payload()}
    log.append(tx, [row], listened, now)


def stopped(tx: Connection, gateway: str) -> AdapterError | None:
    """What stops a gateway that crmkit paused for what it sent; None if it did not."""
    row = pauses.of_gateway(tx, gateway)
    if row is None or row["actor"] != CRMKIT or row["fingerprint"] is not None:
        return None
    do = f"look into it, then run `crmkit resume gateway {gateway}`"
    return AdapterError(f"paused: {row['reason']}", who=gateway, operation="deliver", do=do)
