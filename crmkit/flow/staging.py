"""Staging: an installation for trying out reaches those it may only; anybody else is redirected, or not written to.

Whatever hands a message to a gateway makes it by `claim.message_of`, and what that gives is redirected here. What may
go nowhere is put off before, at the last look; it is looked at again when the settings have changed.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.hooks import Verdict
from crmkit.core.message import Reason
from crmkit.core.staging import MARK, Target
from crmkit.flow.setup import Setup
from crmkit.store import outbox

#: What may go nowhere is put off for so long, unless the settings change.
LATER = timedelta(days=1)


def target_of(setup: Setup, message: Mapping[str, Any]) -> Target | None:
    """Where a message of the outbox goes by the gateway whose turn it is; None: nowhere."""
    if setup.staging is not None and message["address"] is None:  # of somebody who was forgotten
        return None
    if setup.staging is None:
        return Target(message["address_kind"], message["address"])
    entry = setup.entry(message["gateway"])
    reaches = entry.adapter.reaches if entry is not None else ()
    return setup.staging.target(message["channel"], message["address_kind"], message["address"], reaches)


def redirected_to(setup: Setup, message: Mapping[str, Any]) -> str | None:
    """The address a message goes to in the place of its own; None where it goes to its own, or nowhere."""
    if setup.staging is None or message["address"] is None:
        return None
    target = target_of(setup, message)
    return target.address if target is not None and target.is_redirected else None


def verdict(setup: Setup, message: Mapping[str, Any], now: datetime) -> Verdict | None:
    """Whether a message may go nowhere, and so has to wait."""
    if setup.staging is None or target_of(setup, message) is not None:
        return None
    return Verdict("defer", Reason.FENCED, detail=setup.staging.detail, until=now + LATER)


def lift(tx: Connection, setup: Setup, now: datetime) -> int:
    """What waits because of other settings than there are now is looked at again. Returns how many."""
    return outbox.unfence(tx, MARK, setup.staging.detail if setup.staging is not None else None, now)
