"""What a vendor repeats of a request: an answer that held the key it was sent holds the key of this one."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree

from crmkit.testing.exchange import Answer, Exchange, Sent

#: What is shorter stands in answers by chance.
SHORTEST = 4


def echoed(exchange: Exchange, sent: Sent) -> Answer:
    """The answer of an exchange, to another request than its own.

    Args:
        exchange: one with an answer.
        sent: what was sent instead of its request. Where the answer repeats a value of that one, it now has the value
            that stands at the same place of this one.
    """
    answer = exchange.response
    if answer is None:
        raise ValueError("an exchange without an answer repeats nothing")
    here, there = dict(values_of(exchange.request)), dict(values_of(sent))
    changed = {
        old: there[place]
        for place, old in here.items()
        if len(old) >= SHORTEST and there.get(place, old) not in {old, ""}
    }
    if not any(_raw(old) in answer.body or old.encode() in answer.body for old in changed):
        return answer
    try:
        body = json.dumps(_replaced(json.loads(answer.body), changed)).encode()
    except ValueError:
        words = "|".join(re.escape(old) for old in sorted(changed, key=len, reverse=True))
        text = answer.body.decode("utf-8", "surrogateescape")
        text = re.sub(rf"(?<!\w)(?:{words})(?!\w)", lambda found: changed[found[0]], text)
        body = text.encode("utf-8", "surrogateescape")
    return replace(answer, body=body)


def values_of(sent: Sent) -> Iterator[tuple[str, str]]:
    """Every value of a request with its place: of its path, query, form, JSON (within either too) and XML."""
    url = urlsplit(sent.target)
    for number, part in enumerate(url.path.split("/")):
        yield f"path {number}", part
    for name, value in parse_qsl(url.query):
        yield from _deep(f"query {name}", value)
    body = sent.body.decode("utf-8", "replace")
    if body[:1] in {"{", "["}:
        yield from _deep("body", body)
    elif body[:1] == "<":
        yield from ((f"body {number}", text) for number, text in enumerate(xml_texts(body)))
    else:
        for name, value in parse_qsl(body):
            yield from _deep(f"body {name}", value)


def xml_texts(body: str) -> Iterator[str]:
    """Every text and attribute of a document of XML, as it reads; none where it is none."""
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError):
        return
    for element in root.iter():
        yield from element.attrib.values()
        yield element.text or ""
        yield element.tail or ""


def _deep(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            pass
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _deep(f"{place} {name}", one)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _deep(f"{place} {number}", one)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield place, str(value)


def _replaced(value: Any, changed: Mapping[str, str]) -> Any:
    """JSON with whole values and names exchanged."""
    if isinstance(value, dict):
        return {changed.get(name, name): _replaced(one, changed) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, changed) for one in value]
    if isinstance(value, str):
        return changed.get(value, value)
    if isinstance(value, int) and not isinstance(value, bool) and changed.get(str(value), "").isdecimal():
        return int(changed[str(value)])
    return value


def _raw(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()


__all__ = ["SHORTEST", "echoed", "values_of", "xml_texts"]
