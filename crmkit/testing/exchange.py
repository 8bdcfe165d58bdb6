r"""Fixtures of adapters: exchanges with a vendor as they were sent, beside what was given and what is expected.

`NAME.http` holds one exchange or several. `---` stands between a request and its response, `===` between exchanges:

```
POST /2/messages?dry=false HTTP/1.1
Content-Type: application/json

{"to": "+8613800138000", "nonce": "*"}
---
HTTP/1.1 200 OK
Content-Type: application/json

{"id": "v1"}
===
GET https://files.vendor.example/report.csv
---
HTTP/1.1 200 OK

...
```

A request's address is a path, below whichever base URL the adapter has, or a whole URL. Of its headers only those that
stand there are compared. JSON bodies, forms and queries are compared by what they say, other bodies byte by byte. `*`
as a header's, a query's, a form's or a JSON field's whole value stands for any that is not empty: signatures, nonces,
times. A webhook is a request alone. In a body, a line that is a separator stands behind a backslash; one that is no
text, or holds carriage returns, is written in base64, which a header line `Fixture-Body: base64` says.

`NAME.json` beside it tells what the adapter was given and what is expected of it; a fixture that needs no exchange (a
message the adapter refuses by itself) has it alone. What may stand there is told at `Fixture`.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

import httpx

#: Stands for any value that is not empty.
ANY = "*"
#: What says that a body is written in base64.
ENCODED = "Fixture-Body"
_SEPARATOR = re.compile(rb"\\*(---|===)")


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it was sent.

    Attributes:
        method: `POST`.
        target: path and query, or a whole URL.
        headers: those that matter, as they are written.
        body: its bytes.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    @classmethod
    def of(cls, request: httpx.Request, headers: Iterable[str] = (), *, whole: bool = False) -> "Sent":
        """A request as httpx made it.

        Args:
            request: it, with its body read.
            headers: the names of those that matter, in any case; those it has not are left out.
            whole: whether the whole URL matters, not its path and query alone.
        """
        names = {name.lower() for name in headers}
        kept = [(name.title(), value) for name, value in request.headers.items() if name.lower() in names]
        target = str(request.url) if whole else request.url.raw_path.decode("ascii")
        return cls(request.method, target, tuple(kept), request.content)

    def differences(self, other: "Sent", *, any_of: Iterable[str] = ()) -> list[str]:
        """How another request differs from this one, which is what is expected; empty if it does not.

        Args:
            other: what was sent, with all its headers and its whole URL.
            any_of: names of headers, query parameters, form and JSON fields of which any value is right.
        """
        free = {name.lower() for name in any_of}
        found = [] if self.method == other.method else [f"method: {other.method} instead of {self.method}"]
        here, there = urlsplit(self.target), urlsplit(other.target)
        if here.netloc and (here.scheme, here.netloc) != (there.scheme, there.netloc):
            found.append(f"host: {there.scheme}://{there.netloc} instead of {here.scheme}://{here.netloc}")
        if here.path != there.path:
            found.append(f"path: {there.path} instead of {here.path}")
        found += _apart("query", _pairs(here.query), _pairs(there.query), free)
        named = {name.lower(): value for name, value in other.headers}
        for name, value in self.headers:
            if name != ENCODED and name.lower() != "content-type":
                found += _apart(f"header {name}", {name: value}, {name: named.get(name.lower())}, free)
        ours, theirs = self._media(), other._media()
        if ours and ours != theirs:
            found.append(f"content type: {theirs or 'none'} instead of {ours}")
        return found + _bodies(self.body, other.body, ours or theirs, free)

    def open_to(self, names: Iterable[str]) -> "Sent":
        """The same with `*` for the values of these headers, query parameters, and form or JSON fields."""
        free = {name.lower() for name in names}
        headers = tuple((name, ANY if name.lower() in free else value) for name, value in self.headers)
        path, mark, query = self.target.partition("?")
        body = self.body
        if self._media() == "application/x-www-form-urlencoded":
            body = _starred(body.decode(), free).encode()
        elif self._media().endswith("json") and free:
            said = json.loads(body or b"null")
            if isinstance(said, dict) and free & {name.lower() for name in said}:
                told = {name: ANY if name.lower() in free else value for name, value in said.items()}
                body = json.dumps(told, ensure_ascii=False).encode()
        return Sent(self.method, path + mark + _starred(query, free), headers, body)

    @property
    def stars(self) -> set[str]:
        """Names of what stands there as `*`."""
        found = {name for name, value in self.headers if value == ANY}
        parts = [urlsplit(self.target).query]
        if self._media() == "application/x-www-form-urlencoded":
            parts.append(self.body.decode())
        found |= {name for part in parts for name, value in parse_qsl(part) if value == ANY}
        if self._media().endswith("json") and self.body[:1] == b"{":
            found |= {name for name, value in json.loads(self.body).items() if value == ANY}
        return found

    def _media(self) -> str:
        found = next((value for name, value in self.headers if name.lower() == "content-type"), "")
        return found.partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it came.

    Attributes:
        status: its status.
        headers: as they are written.
        body: its bytes.
    """

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def response(self, request: httpx.Request | None = None) -> httpx.Response:
        """It, as httpx reads it."""
        headers = [pair for pair in self.headers if pair[0].lower() not in {"content-length", "transfer-encoding"}]
        return httpx.Response(self.status, headers=headers, content=self.body, request=request)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what was answered; None where the fixture is a webhook, or the connection was closed instead."""

    request: Sent
    response: Answer | None = None


@dataclass(slots=True)
class Fixture:
    """What an adapter was given, what it must send, what it is answered, and what must come of it.

    `document` is `NAME.json`. What was given, one of:

    - `message`: changes to a standard message, which is delivered; `messages`: several, for a gateway that takes
      batches
    - `look_up`: changes to a standard message that is in doubt; `cancel`: to one that is to be taken back
    - `stream`: a stream's name, with `start` and `end` (a window), or `from` (a cursor) or `since` (a stream)
    - `read`: ids, as `"order:17"` or `{"kind": "order", "external_id": "17"}`
    - `webhook`: what is special of the call: `{"path_secret": ..., "received_at": ...}`, or `{}`
    - `check`: `{}`; `balance`: `{}`, for a gateway that tells what is left on its account
    - `connect`: what a person answers, one question after the other
    - `template`: changes to a standard template that a gateway is asked of, `form` as a table
    - `may_say`: `{"purpose": "marketing", "template": ..., "order": {...}}`, or `{}` for news that are about no order

    Beside it `settings`, `account` and `memory` change the contract's own for this fixture; `code` is how the vendor
    writes the reason of a refusal; `about` is for readers.

    What is expected, as far as it stands there:

    - `receipt`, `receipts`: `{"outcome": "accepted", "vendor_id": ...}`; of a look-up also null; `cancelled`: a bool
    - `records`: `{"record": "order", "external_id": ...}` with what the record says and no more, so that null (the
      vendor says it is empty) and nothing (it does not say) are two; `{"reread": "order", "external_id": "17"}` for a
      hint
    - `refused`: `{"kind": ..., "place": ..., "reason": ...}`; `cursor`: the last one
    - `reply`: `{"status": 200, "body": ...}`, of a webhook that is a handshake
    - `problems`: what a check says, or of a template a gateway; of that also `warnings`, which are no more
    - `said`: why something may not be said; null where it may
    - `left`: what is left on the account: `"12.50 USD"`, a number of messages, or null where there is no such thing
    - `kept`: what it remembers from then on, by name; null where it forgets something
    - `error`: an error class's name, or `{"error": ..., "retry_after": seconds}`

    Attributes:
        name: the file's name without its ending.
        folder: where it lies.
        document: what was given and what is expected.
        exchanges: in the order they were made.
    """

    name: str
    folder: Path
    document: dict[str, Any] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)

    #: What may be given; exactly one is.
    GIVEN = (
        *("message", "messages", "look_up", "cancel", "stream", "read", "webhook", "check", "connect"),
        *("template", "may_say", "balance"),
    )
    #: What may be expected.
    EXPECTED = (
        *("receipt", "receipts", "cancelled", "records", "refused", "cursor", "reply", "problems"),
        *("kept", "warnings", "said", "left", "error"),
    )
    MORE = ("start", "end", "since", "from", "settings", "account", "memory", "about", "code")

    @property
    def given(self) -> str:
        """Which of `GIVEN` it is.

        Raises:
            ValueError: it is none, or more than one, or something else stands there too.
        """
        names = [name for name in self.GIVEN if name in self.document]
        known = {*self.GIVEN, *self.EXPECTED, *self.MORE}
        strange = sorted(set(self.document) - known)
        if strange:
            raise ValueError(f"{self.path}.json: {strange[0]!r} is nothing a fixture says; {', '.join(sorted(known))}")
        if not names and len(self.exchanges) == 1 and self.exchanges[0].response is None:
            return "webhook"
        if len(names) != 1:
            what = " and ".join(names) if names else "nothing"
            raise ValueError(f"{self.path}.json: {what} is given; one of {', '.join(self.GIVEN)} should be")
        return names[0]

    @property
    def path(self) -> Path:
        """Its files, without their endings."""
        return self.folder / self.name

    def save(self) -> None:
        """Write both files, as far as there is something to write."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.exchanges:
            Path(f"{self.path}.http").write_bytes(written(self.exchanges))
        text = json.dumps(self.document, indent=2, ensure_ascii=False)
        Path(f"{self.path}.json").write_text(f"{text}\n", "utf-8", newline="\n")


def fixture(path: Path) -> Fixture:
    """The fixture of a path without ending.

    Raises:
        ValueError: it cannot be read; the text says where and why.
    """
    found = Fixture(path.name, path.parent)
    http, document = Path(f"{path}.http"), Path(f"{path}.json")
    if http.exists():
        found.exchanges = exchanges(http.read_bytes(), str(http))
    if document.exists():
        try:
            found.document = json.loads(document.read_bytes())
        except ValueError as error:
            raise ValueError(f"{document}: {error}") from None
    return found


def fixtures(folder: Path) -> list[Fixture]:
    """All fixtures of a folder, by name. JSON files that are no fixture's lie in folders of their own."""
    names = {path.stem for path in folder.glob("*.http")} | {path.stem for path in folder.glob("*.json")}
    return [fixture(folder / name) for name in sorted(names)]


def exchanges(text: bytes, where: str = "exchanges") -> list[Exchange]:
    """What a file of exchanges holds.

    Raises:
        ValueError: it is no such file.
    """
    return [_exchange(part, f"{where}, exchange {number}") for number, part in enumerate(_parts(text, b"==="), 1)]


def written(several: Iterable[Exchange]) -> bytes:
    """Exchanges as a file holds them."""
    found = []
    for one in several:
        head = _written(f"{one.request.method} {one.request.target} HTTP/1.1", one.request.headers, one.request.body)
        if one.response is not None:
            reason = httpx.codes.get_reason_phrase(one.response.status)
            status = f"HTTP/1.1 {one.response.status} {reason}".rstrip()
            head += b"---\n" + _written(status, one.response.headers, one.response.body)
        found.append(head)
    return b"===\n".join(found)


# --- reading and writing ----------------------------------------------------------------------------------------------


def _parts(text: bytes, separator: bytes) -> list[bytes]:
    """What stands between lines that are a separator, each without the newline before it."""
    parts: list[list[bytes]] = [[]]
    for line in text.replace(b"\r\n", b"\n").split(b"\n"):
        if line == separator:
            parts[-1].append(b"")
            parts.append([])
        else:
            parts[-1].append(line)
    return [b"\n".join(lines) for lines in parts]


def _exchange(text: bytes, where: str) -> Exchange:
    sent, *came = _parts(text, b"---")
    if len(came) > 1:
        raise ValueError(f"{where}: two lines of ---; in a body, write \\---")
    first, headers, body = _message(sent, f"{where}, request")
    words = first.split(" ")
    if len(words) not in (2, 3) or not words[0].isupper():
        raise ValueError(f"{where}, request: {first!r} should be like POST /path HTTP/1.1")
    request = Sent(words[0], words[1], headers, body)
    if not came:
        return Exchange(request)
    first, headers, body = _message(came[0], f"{where}, response")
    if first == "closed":
        return Exchange(request)
    status = first.split(" ")[1] if first.startswith("HTTP/") and " " in first else first
    if not status.isdigit():
        raise ValueError(f"{where}, response: {first!r} should be like HTTP/1.1 200 OK")
    return Exchange(request, Answer(int(status), headers, body))


def _message(text: bytes, where: str) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
    """The first line, the headers and the body."""
    head, blank, rest = text.lstrip(b"\n").partition(b"\n\n")
    first, *lines = head.decode("utf-8").strip("\n").split("\n")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"{where}: {line!r} is no header")
        headers.append((name.strip(), value.strip()))
    body = _body(rest.removesuffix(b"\n") if blank else b"")
    if dict(headers).get(ENCODED) == "base64":
        body = base64.b64decode(body)
        headers = [pair for pair in headers if pair[0] != ENCODED]
    return first, tuple(headers), body


def _body(text: bytes) -> bytes:
    lines = text.split(b"\n")
    return b"\n".join(line[1:] if line[:1] == b"\\" and _SEPARATOR.fullmatch(line) else line for line in lines)


def _written(first: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers)]
    if not body:
        return "\n".join([*lines, ""]).encode()
    try:
        body.decode("utf-8")
        is_text = b"\r" not in body and b"\x00" not in body
    except UnicodeDecodeError:
        is_text = False
    if is_text:
        told = [b"\\" + line if _SEPARATOR.fullmatch(line) else line for line in body.split(b"\n")]
    else:
        lines.append(f"{ENCODED}: base64")
        told = [base64.encodebytes(body).rstrip(b"\n")]
    return "\n".join([*lines, "", ""]).encode() + b"\n".join([*told, b""])


# --- comparing --------------------------------------------------------------------------------------------------------


def _pairs(text: str) -> dict[str, Any]:
    """A query or form: {name: value, or its values, where there are several}."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        before = found.get(name)
        found[name] = value if before is None else [*before, value] if isinstance(before, list) else [before, value]
    return found


def apart(where: str, ours: Any, theirs: Any) -> list[str]:
    """How a value differs from ours, place by place: `records 0 status: 'paid' instead of 'placed'`."""
    return _apart(where, ours, theirs, set())


def _bodies(ours: bytes, theirs: bytes, media: str, free: set[str]) -> list[str]:
    if ours == theirs or ours == ANY.encode():
        return []
    if media.endswith("json") or (not media and ours[:1] in b"{["):
        try:
            return _apart("body", json.loads(ours or b"null"), json.loads(theirs or b"null"), free)
        except ValueError:
            return [f"body: {theirs[:300]!r} instead of {ours[:300]!r}"]
    if media == "application/x-www-form-urlencoded":
        return _apart("body", _pairs(ours.decode()), _pairs(theirs.decode()), free)
    return [f"body: {theirs[:300]!r} instead of {ours[:300]!r}"]


def _apart(where: str, ours: Any, theirs: Any, free: set[str]) -> list[str]:
    """How two values differ, place by place."""
    if ours == ANY and theirs not in (None, "", [], {}):
        return []
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        found = []
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            place = where if where.startswith("header") else f"{where} {name}"
            if name not in ours:
                found.append(f"{place}: {theirs[name]!r}, which is not expected")
            elif theirs.get(name) is None and ours[name] is not None:
                found.append(f"{place}: missing")
            else:
                expected = ANY if str(name).lower() in free and ours[name] is not None else ours[name]
                found += _apart(place, expected, theirs.get(name), free)
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            line
            for at, pair in enumerate(zip(ours, theirs, strict=True))
            for line in _apart(f"{where} {at}", *pair, free)
        ]
    if type(ours) is type(theirs) and ours == theirs:
        return []
    return [f"{where}: {theirs!r} instead of {ours!r}"]


def _starred(text: str, free: set[str]) -> str:
    """A query or form with `*` for the values of these names."""
    pairs = (part.partition("=") for part in text.split("&")) if text else ()
    return "&".join(
        f"{name}={ANY}" if unquote_plus(name).lower() in free else name + mark + value for name, mark, value in pairs
    )
