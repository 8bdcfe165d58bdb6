"""Takes secrets and persons out of what was recorded: the same value is replaced by the same everywhere.

A value is found as it is, percent-encoded, in base64, in hexadecimal and as JSON escapes it, and in any of these within
another. What is left is looked through once more, more widely than it can be replaced: whoever writes it refuses where
a value survived.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

from crmkit.testing.secrecy import SHORTEST, spellings

#: Encodings within encodings are followed so far.
_DEEPEST = 4
_EMAIL = re.compile(r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_PHONE = re.compile(r"(?<![\w+])\+[1-9][0-9]{7,14}(?![0-9])")
_JSON_TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_PERCENT = re.compile(
    r"(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9._~+*@!'()-])*%[0-9A-Fa-f]{2}(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9._~+*@!'()-])*"
)
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{8,}={0,2}(?![A-Za-z0-9+/_=-])")
_HEX = re.compile(r"(?<![A-Za-z0-9])(?:[0-9A-Fa-f]{2}){4,}(?![A-Za-z0-9])")
#: Addresses that are nobody's.
_NOBODYS = (".example", "@example.com", "@example.org", "@example.net", ".invalid", ".test")
#: Names of headers and fields that hold a secret, without what is no letter.
_TELLING = (
    *("authorization", "cookie", "token", "secret", "password", "passwd", "apikey", "accesskey", "signature", "sign"),
    *("sig", "session", "credential", "privatekey", "nonce"),
)


def is_telling(name: str) -> bool:
    """Whether a header or field of this name holds a secret."""
    return re.sub(r"[^a-z]", "", name.lower()).endswith(_TELLING)


class Scrubber:
    """Replaces secrets and persons.

    Args:
        secrets: {secret: what stands for it}.
        personal: names and other words that are a person's; e-mail addresses and phone numbers in E.164 are found by
            themselves.

    Raises:
        ValueError: a value is too short to be told from any other word.
    """

    def __init__(self, secrets: Mapping[str, str], personal: Iterable[str] = ()) -> None:
        self._secrets = dict(secrets)
        self._persons: dict[str, str] = {}
        short = [one for one in (*self._secrets, *personal) if len(one) < SHORTEST]
        if short:
            raise ValueError(f"scrub: a value of {len(short[0])} characters cannot be told from any other word")
        for value in personal:
            self._person(value)

    @property
    def known(self) -> dict[str, str]:
        """Everything that is replaced, and by what."""
        return {**self._secrets, **self._persons}

    def text(self, text: str) -> str:
        """A text without them."""
        self._notice(text, 0)
        return self._scrub(text, 0)

    def document(self, value: Any) -> Any:
        """A document of JSON without them; its keys stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {name: self.document(item) for name, item in value.items()}
        return [self.document(item) for item in value] if isinstance(value, list | tuple) else value

    def survivors(self, text: str) -> list[str]:
        """What is still told, by what stands for it."""
        wide = "\n".join(_readings(text, 0)).lower()
        dense = re.sub(r"[^\w@+]", "", wide)
        found = []
        for value, instead in self.known.items():
            if value.lower() in instead.lower():
                continue
            told = {one.lower() for one in spellings(value)}
            if any(one in wide for one in told) or re.sub(r"[^\w@+]", "", value.lower()) in dense:
                found.append(instead)
        return sorted(set(found))

    # finding persons

    def _notice(self, text: str, depth: int) -> None:
        for reading in _readings(text, depth):
            for pattern in (_EMAIL, _PHONE):
                for value in pattern.findall(reading):
                    self._person(value)

    def _person(self, value: str) -> None:
        known = self.known
        if value in known or value in known.values() or value.lower().endswith(_NOBODYS):
            return
        number = len(self._persons) + 1
        if _EMAIL.fullmatch(value):
            self._persons[value] = f"person-{number}@example.com"
        elif _PHONE.fullmatch(value):  # as long as it was, and of the same country
            self._persons[value] = f"{value[:4]}{number:0{len(value) - 4}d}"
        else:
            self._persons[value] = f"Person {number}"

    # replacing

    def _scrub(self, text: str, depth: int) -> str:
        for value, instead in sorted(self.known.items(), key=lambda pair: -len(pair[0])):
            for found, new in _pairs(value, instead):
                text = text.replace(found, new)
        if depth >= _DEEPEST:
            return text
        for pattern, decode, encode in _WAYS:
            text = pattern.sub(lambda token, d=decode, e=encode: self._within(token[0], d, e, depth), text)  # type: ignore[misc]
        return text

    def _within(
        self, token: str, decode: Callable[[str], str | None], encode: Callable[[str, str], str], depth: int
    ) -> str:
        """A token that encodes something, scrubbed; as it is where nothing is in it."""
        plain = decode(token)
        if plain is None or plain == token:
            return token
        clean = self._scrub(plain, depth + 1)
        return token if clean == plain else encode(clean, token)


def _pairs(value: str, instead: str) -> Iterator[tuple[str, str]]:
    """A value as it may be written, and what then stands for it."""
    yield value, instead
    raw, new = value.encode(), instead.encode()
    yield quote(value, safe=""), quote(instead, safe="")
    yield json.dumps(value)[1:-1], json.dumps(instead)[1:-1]
    yield base64.b64encode(raw).decode().rstrip("="), base64.b64encode(new).decode().rstrip("=")
    yield base64.urlsafe_b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(new).decode().rstrip("=")
    yield raw.hex(), new.hex()
    yield raw.hex().upper(), new.hex().upper()
    digits = value.removeprefix("+")
    if value.startswith("+") and digits.isdigit():
        yield digits, instead.removeprefix("+")


def _of_json(token: str) -> str | None:
    try:
        return str(json.loads(token)) if "\\" in token else None
    except ValueError:
        return None


def _of_base64(token: str) -> str | None:
    body = token.rstrip("=")
    try:
        plain = base64.b64decode(body.replace("-", "+").replace("_", "/") + "=" * (-len(body) % 4), validate=True)
        text = plain.decode()
    except (binascii.Error, ValueError):
        return None
    return _readable(text)


def _of_hex(token: str) -> str | None:
    try:
        return _readable(bytes.fromhex(token).decode())
    except ValueError:
        return None


def _readable(text: str) -> str | None:
    """A text somebody may have written; None where bytes happen to be one."""
    return text if text.isprintable() or "\n" in text or "\t" in text else None


def _to_hex(clean: str, token: str) -> str:
    made = clean.encode().hex()
    return made.upper() if token.upper() == token else made


def _to_base64(clean: str, token: str) -> str:
    made = base64.b64encode(clean.encode()).decode()
    if "-" in token or "_" in token:
        made = made.replace("+", "-").replace("/", "_")
    return made if token.endswith("=") or len(token) % 4 == 0 else made.rstrip("=")


#: How something may be written within a text: (what looks like it, what it says, how something else is said so).
_WAYS: tuple[tuple[re.Pattern[str], Callable[[str], str | None], Callable[[str, str], str]], ...] = (
    (_JSON_TEXT, _of_json, lambda clean, token: json.dumps(clean, ensure_ascii="\\u" in token)),
    (_PERCENT, lambda token: unquote(token.replace("+", " ")), lambda clean, token: quote(clean, safe="")),
    (_HEX, _of_hex, _to_hex),
    (_BASE64, _of_base64, _to_base64),
)


def _readings(text: str, depth: int) -> Iterator[str]:
    """A text, and whatever is written in it."""
    yield text
    if depth >= _DEEPEST + 2:
        return
    for pattern, decode, _ in _WAYS:
        for token in pattern.findall(text):
            plain = decode(token)
            if plain is not None and plain != token:
                yield from _readings(plain, depth + 1)
