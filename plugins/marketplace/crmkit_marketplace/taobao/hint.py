"""What changed, as the platform tells it by itself: messages that are taken out of a queue, and pushes.

A message says what it is about in JSON in a text; what is told of it may be old, so it is a hint, and what it is about
is read again. A queue belongs to an application's group of sellers, and who takes a message out keeps it from others:
a shop has a group of its own. What was not confirmed comes again.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from crmkit import Call, Reread

from .shape import TaobaoMessage

#: So many messages are taken out at once, so many times in a run; so many are confirmed at once.
QUANTITY, ROUNDS, CONFIRMED = 200, 20, 200
#: The group of sellers that have none of their own.
DEFAULT = "default"


def about(message: TaobaoMessage) -> Iterator[Reread]:
    """What a message is about: a trade, or a review of one of its child orders; nothing where it is something else."""
    yield from _about(_said(message.content), message.topic)


def pushed(call: Call) -> list[Reread]:
    """What a push is about; nothing that is known where it is none of a trade."""
    query = dict(parse_qsl(call.query))
    form = call.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    body = dict(parse_qsl(call.body.decode("utf-8", "replace"))) if form else _said(call.body)
    found: list[Reread] = []
    for said in (body, _said(body.get("content")), query):
        found += _about(said, str(body.get("topic") or query.get("topic") or ""))
    return list(dict.fromkeys(found))


def _about(said: dict[str, Any], topic: str) -> Iterator[Reread]:
    tid = _number(said, "tid_str", "tid", "biz_order_id")
    if tid is not None:
        yield Reread("order", tid)
    if topic.endswith("TradeRated") and (oid := _number(said, "oid") or tid) is not None:
        yield Reread("review", oid)


def _number(said: dict[str, Any], *names: str) -> str | None:
    for name in names:
        value = said.get(name)
        if isinstance(value, int | str) and not isinstance(value, bool):
            written = str(value)
            if written.isascii() and written.isdigit() and 0 < len(written) < 30:
                return written
    return None


def _said(text: Any) -> dict[str, Any]:
    if isinstance(text, dict):
        return text
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
