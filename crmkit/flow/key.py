"""Keys of messages: what tells two of them apart, for ever and in every database.

A key is made of natural keys only. A decision that is rolled back and repeated comes to the same keys, though a server
draws new numbers for its rows.
"""

import hashlib
import json
from collections.abc import Iterable

from crmkit.core.events import Event


def of_cause(event: Event) -> str:
    """What tells an event from others: its type, whom and what it is about, when it happened, and what it says.

    Two events may come to one key; the second message of it is then numbered when it is stored.
    """
    own = event.own()
    own.pop("message", None)  # a number of ours
    parts = [
        event.name,
        event.shop.id if event.shop is not None else None,
        event.order.external_id if event.order is not None else None,
        event.customer.key if event.customer is not None else None,
        *_subjects(event),
        event.at.isoformat() if event.at is not None else None,
        event.actor,
        own or None,
    ]
    return digest(json.dumps(parts, sort_keys=True, default=str))


def _subjects(event: Event) -> Iterable[str | None]:
    parcel = getattr(event, "parcel", None)
    yield getattr(parcel, "key", None)
    for name in ("refund", "review"):
        yield getattr(getattr(event, name, None), "external_id", None)


def of_recipient(event: Event) -> str:
    """What tells the customer of a key of the author's own from others: the profile's natural key, for ever."""
    return "customer" if event.customer is None else f"customer:{digest(event.customer.key)}"


def digest(text: str) -> str:
    """16 characters that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
