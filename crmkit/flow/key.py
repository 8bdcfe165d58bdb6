"""Keys of messages: what tells two of them apart, for ever and in every database.

A key is made of natural keys only. A decision that is rolled back and repeated comes to the same keys, though a server
draws new numbers for its rows.
"""

import hashlib
import json

from crmkit.core.events import Event, subjects_of


def of_cause(event: Event) -> str:
    """What tells an event from others: its type, whom and what it is about, when it happened, and what it says.

    Two events may come to one key; the second message of it is then numbered when it is stored.
    """
    shop, order, customer = event.shop, event.order, event.customer
    parts = [
        event.name,
        "" if shop is None else str(shop.id),
        "" if order is None else order.external_id,
        "" if customer is None else customer.key,
        "" if event.at is None else event.at.isoformat(),
        event.actor,
        *(_subject(event, name) for name in subjects_of(type(event))),
    ]
    own = event.own()
    own.pop("message", None)  # a number of ours
    if own:
        parts.append(json.dumps(own, sort_keys=True))
    return digest("\x1f".join(parts))


def _subject(event: Event, name: str) -> str:
    """A parcel is told by its key, a contact by when it was left, others by the shop's own id for them."""
    subject = getattr(event, name)
    if subject is None:
        return ""
    if name == "contact":
        return str(subject.left_at.isoformat())
    return str(subject.key if name == "parcel" else subject.external_id)


def of_recipient(event: Event) -> str:
    """What tells the customer of a key of the author's own from others: the profile's natural key, for ever."""
    return "customer" if event.customer is None else of_profile(event.customer.key)


def of_profile(natural_key: str) -> str:
    """The same, by a profile's natural key."""
    return f"customer:{digest(natural_key)}"


def digest(text: str) -> str:
    """16 characters that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
