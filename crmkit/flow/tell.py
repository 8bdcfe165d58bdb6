"""Tell: what happened outside of any run (on a page of a plugin's) becomes an interaction, decided like any other."""

import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.columns import storable
from crmkit.core.errors import PluginError
from crmkit.core.events import Event
from crmkit.core.inner import INNER
from crmkit.store import customers, log

#: A key that is longer is kept as a hash of it: no index takes it as it is.
LONGEST = 200


def tell(tx: Connection, plugin: str, event: Event, key: str, *, listened: Collection[str], now: datetime) -> bool:
    """Append an event to the log. False: one of this key was told before, or its customer is forgotten.

    Args:
        plugin: who tells it.
        key: what makes it the same one when it is told again.
        listened: wire names of the events somebody handles.

    Raises:
        PluginError: it is no event a plugin can tell.
    """
    given: object = event  # a plugin's code: it may be anything
    if not isinstance(given, Event) or isinstance(event, INNER) or not key:
        do = "tell an object of an event's class, with a key"
        raise PluginError(f"{event!r} with the key {key!r} cannot be told", who=plugin, operation="tell", do=do)
    profile = event.customer.profile_id if event.customer is not None else None
    if profile is not None and customers.is_forgotten(tx, profile):
        return False
    order = event.order
    shop = event.shop.id if event.shop is not None else order.shop_id if order is not None else None
    kept = storable(key)
    if len(kept) > LONGEST:
        kept = hashlib.sha256(kept.encode()).hexdigest()
    row = {
        "type": event.name,
        "profile_id": profile,
        "shop_id": shop,
        "order_id": order.id if order is not None else None,
        "actor": f"plugin:{plugin}",
        "occurred_at": now,
        "payload": _storable(event.payload()),
        "key": f"{plugin}:{event.name}:{kept}",
    }
    return bool(log.append(tx, [row], listened, now))


def _storable(value: Any) -> Any:
    """A document as any database takes it: it holds what somebody typed."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(name): _storable(item) for name, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list) else value
