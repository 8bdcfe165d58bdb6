"""Part of forget: by what somebody is told in a raw body: addresses that stand in it, ids of records it is about.

A value counts only as a whole: `ann@example.com` does not stand in `joann@example.com`, and a name alone tells nobody.
It is found however it is written: in whatever case, escaped as JSON or a form escapes it, a domain in its own script,
a number with or without its country.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import phonenumbers

#: What may stand between the digits of a number.
_BETWEEN = b" ()./\\-"
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?|\\.")
_QUOTED = re.compile("%[0-9a-fA-F]{2}")
#: Not within something longer; a full stop ends a sentence, unless more of a domain follows.
_BEFORE, _AFTER = r"(?<![\w.+-])", r"(?![\w+-]|\.\w)"


@dataclass(frozen=True, slots=True)
class Traces:
    """By what raw bodies about somebody are told.

    Attributes:
        values: addresses: e-mail, E.164 numbers, what other kinds there are.
        refs: records about them: (account, `kind:id`).
    """

    values: frozenset[str] = frozenset()
    refs: frozenset[tuple[int, str]] = frozenset()


class Finder:
    """Whether one of some addresses stands in a raw body."""

    def __init__(self, values: Iterable[str]) -> None:
        wanted = sorted({value for value in values if value})
        numbers = {value: number for value in wanted if (number := _number(value)) is not None}
        texts = [form for value in wanted if value not in numbers for form in _forms(value.lower())]
        self._hints = {_hint(text) for text in texts}
        self._text = _any_of(_BEFORE, map(re.escape, texts), _AFTER)
        self._digits = [digits.encode() for _, digits in numbers.values()]
        self._number = _any_of(r"(?<!\d)", (_written(*one) for one in numbers.values()), r"(?!\d)")

    def __call__(self, held: Any) -> bool:
        """Look in bytes, text, or a mapping's values."""
        if not held:
            return False
        if isinstance(held, Mapping):
            return any(self(value) for value in held.values())
        raw = held if isinstance(held, bytes) else str(held).encode("utf-8", "replace")
        return self._holds_text(raw) or self._holds_number(raw)

    def _holds_text(self, raw: bytes) -> bool:
        if self._text is None:
            return False
        low = raw.lower()
        if not any(hint in low for hint in self._hints):
            return False
        text = raw.decode("utf-8", "replace").lower()
        return any(self._text.search(form) for form in _readings(text))

    def _holds_number(self, raw: bytes) -> bool:
        if self._number is None:
            return False
        return any(
            self._may_hold(form) and self._number.search(form) for form in _readings(raw.decode("utf-8", "replace"))
        )

    def _may_hold(self, text: str) -> bool:
        dense = text.encode("utf-8", "replace").translate(None, _BETWEEN)
        return any(digits in dense for digits in self._digits)


def _any_of(before: str, patterns: Iterable[str], after: str) -> re.Pattern[str] | None:
    listed = list(patterns)
    return re.compile(f"{before}(?:{'|'.join(listed)}){after}") if listed else None


def _forms(value: str) -> list[str]:
    """An address as it is kept, and with its domain in its own script."""
    local, at, domain = value.rpartition("@")
    if not at or "xn--" not in domain:
        return [value]
    try:
        return [value, f"{local}@{domain.encode('ascii').decode('idna')}"]
    except UnicodeError:
        return [value]


def _hint(text: str) -> bytes:
    """What stands in a body that holds this text, however it is escaped: its longest run of plain letters or digits."""
    return max(re.findall(r"[a-z0-9]+", text.rpartition("@")[0] or text), key=len, default="").encode()


def _number(value: str) -> tuple[str, str] | None:
    """The country's code and the digits within it of a number in E.164; None: it is something else."""
    if not re.fullmatch(r"\+\d{7,}", value):
        return None
    try:
        number = phonenumbers.parse(value)
    except phonenumbers.NumberParseException:
        return None
    return str(number.country_code), str(phonenumbers.national_significant_number(number))


def _written(country: str, digits: str) -> str:
    """A number as people write it: with its country or without, digits set apart or not."""
    apart = r"[ ()./\\-]{0,3}"
    return rf"(?:(?:\+|00|011)?{apart}{country}{apart})?(?:\(?0\)?{apart})?{apart.join(digits)}"


def _readings(text: str) -> Iterable[str]:
    """A text as it stands, and without the escapes of JSON and of forms."""
    yield text
    if "\\" in text:
        text = _ESCAPE.sub(_unescaped, text)
        yield text
    if _QUOTED.search(text):
        yield unquote_plus(text).lower()


def _unescaped(found: re.Match[str]) -> str:
    try:
        return str(json.loads(f'"{found[0]}"')).lower()
    except ValueError:
        return found[0]
