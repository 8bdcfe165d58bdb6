"""Whether something that must not be told was told: as it is, or as a vendor, a log or an encoding writes it."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

from crmkit.core.secret import secrets_in as secrets_in

#: What is shorter cannot be told from any other word.
SHORTEST = 4


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a document of JSON, however deep; not its keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts_in(one)


def spellings(value: str) -> set[str]:
    """A value as it is, percent-encoded, in base64 and as JSON escapes it; a phone number without its plus too."""
    if len(value) < SHORTEST:
        return set()
    raw = value.encode("utf-8", "surrogatepass")
    found = {value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    found |= {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), raw.hex()}
    digits = value.removeprefix("+")
    if value.startswith("+") and digits.isdigit():
        found |= {digits, f"00{digits}"}
    return found


def told(text: str, values: Iterable[str]) -> list[str]:
    """Which of the values a text tells, in some spelling."""
    return sorted({value for value in values if any(one in text for one in spellings(value))})
