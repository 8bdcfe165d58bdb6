"""Marketing waits until it is known who wanted none before crmkit: old opt-outs were imported, or declared none.

A shop that comes from another system brings people who said no there. So each shop's marketing waits, decided and not
sent, until a person imports that list or says that there is none; what is of no shop waits for all shops.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.columns import storable
from crmkit.core.message import Reason, State
from crmkit.store import accounts, outbox


class OptOuts:
    """Of which shops it is known who wanted no marketing before.

    Args:
        shops: {every shop: whether it is}.
    """

    def __init__(self, shops: Mapping[int, bool]) -> None:
        self.shops = shops
        self.unknown = frozenset(number for number, is_known in shops.items() if not is_known)

    @classmethod
    def standing(cls, tx: Connection) -> "OptOuts":
        """As of now."""
        return cls(accounts.opt_outs(tx))

    def keep(self, message: Mapping[str, Any]) -> bool:
        """Whether a message waits for that to be known."""
        if not self.unknown or message["purpose"] != "marketing" or message["staff"] is not None:
            return False
        return message["shop_id"] in self.unknown or message["shop_id"] not in self.shops

    def apply(self, messages: Sequence[dict[str, Any]]) -> None:
        """Say of messages that are about to be queued that they wait for it."""
        for message in messages if self.unknown else ():
            if message["state"] == State.QUEUED and self.keep(message):
                message.update(reason=Reason.OPT_OUTS_UNKNOWN, detail=None)


def know(tx: Connection, shops: Collection[int], now: datetime, *, actor: str, how: str) -> int:
    """A person says that it is known of these shops who wanted no marketing before; what waited for it may leave.

    Args:
        actor: who says so.
        how: by an import, or because there was nobody; kept with the shop.

    Returns:
        How many messages waited for it.
    """
    accounts.know_opt_outs(tx, shops, now, storable(f"{how}, said by {actor}"))
    standing = OptOuts.standing(tx)
    nowhere = not standing.unknown
    return outbox.free_of(tx, Reason.OPT_OUTS_UNKNOWN, shops, with_rest=nowhere)
