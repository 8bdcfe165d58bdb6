"""What is due by a clock: which gateways have something to do now, and when there is more."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.engine import Connection

from crmkit.flow.claim import next_due
from crmkit.flow.setup import Setup
from crmkit.flow.verdict import TRIES
from crmkit.store import log, outbox


def gateways_due(tx: Connection, setup: Setup, now: datetime, only: Collection[int] | None = None) -> list[str]:
    """Gateways with messages that may leave now, or that may be asked about some; of these, those that may leave."""
    if only is not None:
        return outbox.gateways_due(tx, now, only)
    doubted = outbox.gateways_doubted(tx, setup.looking_up, now, TRIES)
    return sorted({*outbox.gateways_due(tx, now), *doubted})


def decide_next(tx: Connection, setup: Setup) -> datetime | None:
    """When something is to be decided next."""
    announcing = {number: shop.announce_from for number, shop in setup.shops.items()}
    return log.next_due(tx, announcing, setup.away)


def due_next(tx: Connection, setup: Setup, gateways: frozenset[str], step: datetime | None) -> datetime | None:
    """When a run whose clock has come to `step` next has something to do."""
    due = (decide_next(tx, setup), next_due(tx, setup, gateways, step))
    return min((moment for moment in due if moment is not None), default=None)
