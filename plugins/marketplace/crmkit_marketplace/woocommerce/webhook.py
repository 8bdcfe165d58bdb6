"""Webhooks: who sent one, and what it says: https://woocommerce.github.io/woocommerce-rest-api-docs/#webhooks.

The id of a delivery is a hash of webhook and second: two updates within one second share it. The body is made when it
is delivered, minutes after its topic, so an `order.created` may tell of a completed order.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from crmkit import Call, Hmac, PayloadError, Record, Ref, Refused, Reply, Reread, Verified, fingerprint

from .api import id_of
from .settings import WooSettings

TOPIC = "x-wc-webhook-topic"
_SIGNED = Hmac("x-wc-webhook-signature", secret="webhook_secret")
#: What comes when a webhook is switched on: a form, unsigned.
_PING = re.compile(rb"webhook_id=\d{1,20}\s*")
#: The topics an operator should have, one webhook each.
WANTED = ("order.created", "order.updated", "order.deleted", "order.restored")


def verify(call: Call, settings: WooSettings) -> Verified | Reply:
    """Whether a call is the shop's. A ping is answered and not kept."""
    if _SIGNED.header not in call.headers and _PING.fullmatch(call.body):
        return Reply(200)
    if not _SIGNED.holds(call, settings):
        return Reply(401, b"unverified")
    delivery = call.headers.get("x-wc-webhook-delivery-id", "")
    return Verified(fingerprint(delivery, call.headers.get(TOPIC, ""), call.body), is_fingerprint=not delivery)


def said(
    call: Call,
    who: str,
    order: Callable[[Any], Iterable[Record | Ref | Refused]],
    customer: Callable[[Any], Iterable[Record | Ref | Refused]],
) -> Iterator[Record | Ref | Refused]:
    """What a call says.

    Args:
        order, customer: what a raw order or customer comes to.

    Raises:
        PayloadError: it is not what WooCommerce sends.
    """
    topic = call.headers.get(TOPIC, "")
    resource, _, event = topic.partition(".")
    if resource not in {"order", "customer"} or (resource, event) == ("customer", "deleted"):
        return
    try:
        body = json.loads(call.body)
    except (ValueError, RecursionError):
        raise PayloadError("a body that is not JSON", who=who, operation=f"read webhook {topic}") from None
    number = id_of(body)
    if number is None:
        raise PayloadError(
            f"{resource} without an id",
            who=who,
            operation=f"read webhook {topic}",
            do="set the webhook's API version to WP REST API Integration v3",
        )
    if event == "deleted" or len(body) == 1:
        yield Reread(resource, str(number))
    elif event in {"created", "updated", "restored"}:
        yield from (order if resource == "order" else customer)(body)
