"""What an answer or a webhook says, by the places the configuration names: `messages.0.status`.

A place is names and numbers with points between: a name looks into an object, a number into a list. Values are
compared as they are written, so `0`, `"0"` and `0` in a form are one.
"""

import json
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import AfterValidator

Format = Literal["json", "form", "query"]
Scalar = str | int | float | bool


def _is_place(text: str) -> str:
    if not text or not all(text.split(".")):
        raise ValueError("should be a place like messages.0.status")
    return text


#: Where something stands in an answer.
Place = Annotated[str, AfterValidator(_is_place)]


def find(document: Any, place: str) -> Any:
    """What stands at a place; None where there is nothing."""
    for step in place.split("."):
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isascii() and step.isdigit() and len(step) < 6:
            document = document[int(step)] if int(step) < len(document) else None
        else:
            return None
    return document


def written(value: Any) -> str | None:
    """A single value as it is written; None for nothing, and for what is no single value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json.dumps(value)
    return None


def said(document: Any, place: str | None) -> str | None:
    """The single value at a place, as it is written; None where there is none."""
    return written(find(document, place)) if place is not None else None


def parsed(body: bytes, form: Format = "json", query: str = "") -> Any:
    """A body as a document.

    Raises:
        ValueError: it is none.
    """
    if form == "json":
        try:
            return json.loads(body)
        except RecursionError:
            raise ValueError("nested too deep") from None
    text = query if form == "query" else body.decode("utf-8")
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=1000, errors="strict"))
