"""A pause is told to what is queued: it waits for it, or goes by another gateway.

Whoever pauses by hand waits for nothing to be loaded: what only a paused gateway needs is imported for that alone.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from crmkit.store import bulk, chains, pauses

if TYPE_CHECKING:
    from crmkit.flow.setup import Setup


def spread(
    tx: Connection,
    setup: "Callable[[], Setup]",
    row: Mapping[str, Any],
    now: datetime,
    *,
    most: int | None = chains.SLICE,
    waits: bool = True,
) -> int:
    """Queued messages say that they wait for a pause; a gateway's go by the next of their chain, if any.

    Args:
        setup: asked for only where a gateway is paused.
        row: the pause.
        most: so many at once; a run goes on with the rest.
        waits: for others who move many messages; else nothing is done where somebody does, and a run does it.

    Returns:
        How many it is news for.
    """
    if waits:
        bulk.lock(tx, chains.LOCK)
    elif not bulk.take_free(tx, [chains.LOCK]):
        return 0
    if row["scope"] != "gateway":
        return pauses.label(tx, [row], most=most)
    from crmkit.flow import chain

    return chain.move_on(tx, setup(), row["name"], now, most=most)
