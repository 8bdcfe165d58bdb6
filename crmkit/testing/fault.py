"""The ways in which a vendor, or the way to it, fails; and what each must come to. `Vendor` acts them out.

The table of docs/reliability.md is made from this list, and tests/faults holds the engine against it.
"""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

#: The kinds of gateway there are: the vendor tells no repeats and cannot be asked; tells repeats by their key; can be
#: asked what became of a message.
Kind = Literal["plain", "deduplicating", "asking"]
KINDS: tuple[Kind, ...] = ("plain", "deduplicating", "asking")


class Verdict(StrEnum):
    """What is known after a try."""

    TAKEN = "it was taken"
    NOTHING_LEFT = "nothing left"
    NOT_NOW = "not now"
    NO = "no"
    STRANGER = "credentials refused"
    DOUBT = "nobody can say"


#: How a connection ends: kept for the next request, closed, reset, held open without a word, or one byte at a time.
Ending = Literal["keep", "close", "reset", "hang", "drip"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail.

    Attributes:
        name: what it is called in scripts and tests.
        told: what happens, in words.
        verdict: what must be known afterwards.
        takes: whether the vendor took the message all the same.
        writes: makes what it writes from the answer it should have given.
        ends: what then becomes of the connection.
        when: `answer`: it read the request; `connection`: it never reads one; `way`: it is not even reached.
    """

    name: str
    told: str
    verdict: Verdict
    takes: bool = False
    writes: Callable[[bytes], bytes] = lambda good: b""
    ends: Ending = "keep"
    when: Literal["answer", "connection", "way"] = "answer"

    def fate(self, kind: Kind) -> tuple[str, str]:
        """The states a message must be in after the first try, and after the fault is gone and time has passed."""
        return FATES[self.verdict].get(kind) or FATES[self.verdict]["plain"]

    def accepted(self, kind: Kind) -> int:
        """How often the vendor must have taken it in the end."""
        return int(self.takes or self.fate(kind)[1] == "sent")


FATES: Mapping[Verdict, Mapping[Kind, tuple[str, str]]] = {
    Verdict.TAKEN: {"plain": ("sent", "sent")},
    Verdict.NOTHING_LEFT: {"plain": ("queued", "sent")},
    Verdict.NOT_NOW: {"plain": ("queued", "sent")},
    Verdict.STRANGER: {"plain": ("queued", "sent")},
    Verdict.NO: {"plain": ("failed", "failed")},
    Verdict.DOUBT: {
        "plain": ("in-doubt", "in-doubt"),
        "deduplicating": ("queued", "sent"),
        "asking": ("in-doubt", "sent"),
    },
}


def answer(
    status: int, body: bytes = b"", headers: Mapping[str, str] = MappingProxyType({}), length: int | None = None
) -> bytes:
    """An HTTP answer.

    Args:
        status: its status.
        body: its body.
        headers: further headers.
        length: the length it claims, where that is not the body's.
    """
    fields = {"Content-Length": str(len(body) if length is None else length), **headers}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"HTTP/1.1 {status} -", *lines, "", ""]).encode() + body


def _says(status: int, body: bytes = b'{"error": "-"}', **headers: str) -> Callable[[bytes], bytes]:
    written = answer(status, body, {name.replace("_", "-").title(): value for name, value in headers.items()})
    return lambda good: written


def _claims(more: int) -> Callable[[bytes], bytes]:
    """The right answer with a length that is so much more than it is long."""

    def wrong(good: bytes) -> bytes:
        body = good.partition(b"\r\n\r\n")[2]
        return answer(200, body, length=len(body) + more)

    return wrong


def _all(good: bytes) -> bytes:
    return good


PAGE = b"<!doctype html><title>We will be back soon</title>"
#: Where the moved vendor says it is now: a port nobody listens on.
ELSEWHERE = "http://127.0.0.1:9/elsewhere"

_LIST = [
    # on the way
    Fault("refused", "the connection is refused", Verdict.NOTHING_LEFT, when="way"),
    Fault("no-name", "its name is not known", Verdict.NOTHING_LEFT, when="way"),
    Fault("silent-name", "nobody answers for its name", Verdict.NOTHING_LEFT, when="way"),
    Fault("untrusted", "its certificate is signed by nobody known", Verdict.NOTHING_LEFT, when="way"),
    Fault("no-tls", "TLS is spoken to a port without", Verdict.NOTHING_LEFT, when="way"),
    # it answers
    Fault("slow", "it takes its time", Verdict.TAKEN, True, _all),
    Fault("slow-taken", "it takes the message at once, and its time to say so", Verdict.TAKEN, True, _all),
    Fault("400", "it says no (another 4xx)", Verdict.NO, False, _says(400)),
    Fault("401", "it refuses the credentials (401, 403)", Verdict.STRANGER, False, _says(401)),
    Fault("429", "429", Verdict.NOT_NOW, False, _says(429)),
    Fault("429-later", "429 with Retry-After", Verdict.NOT_NOW, False, _says(429, retry_after="1800")),
    Fault("503-later", "503 with Retry-After", Verdict.NOT_NOW, False, _says(503, retry_after="1800")),
    Fault("301", "301: moved", Verdict.NOT_NOW, False, _says(301, location=ELSEWHERE)),
    Fault("307", "307: elsewhere", Verdict.NOT_NOW, False, _says(307, location=ELSEWHERE)),
    Fault("308", "308: moved", Verdict.NOT_NOW, False, _says(308, location=ELSEWHERE)),
    # nobody can say
    Fault("302", "302: the answer is elsewhere", Verdict.DOUBT, True, _says(302, location=ELSEWHERE)),
    Fault("303", "303: the answer is elsewhere", Verdict.DOUBT, True, _says(303, location=ELSEWHERE)),
    Fault("408", "408: it waited for the rest", Verdict.DOUBT, False, _says(408)),
    Fault("503", "503 without Retry-After", Verdict.DOUBT, False, _says(503)),
    Fault("500", "500 before it took the message", Verdict.DOUBT, False, _says(500)),
    Fault("500-taken", "500 after it took the message", Verdict.DOUBT, True, _says(500)),
    Fault("unread", "it hangs up before it read anything", Verdict.DOUBT, ends="close", when="connection"),
    Fault("close", "it reads, and hangs up", Verdict.DOUBT, ends="close"),
    Fault("close-taken", "it takes the message, and hangs up", Verdict.DOUBT, True, ends="close"),
    Fault("reset", "it reads, and resets the connection", Verdict.DOUBT, ends="reset"),
    Fault("reset-taken", "it takes the message, and resets the connection", Verdict.DOUBT, True, ends="reset"),
    Fault("hang", "it reads, and says nothing more", Verdict.DOUBT, ends="hang"),
    Fault("hang-taken", "it takes the message, and says nothing more", Verdict.DOUBT, True, ends="hang"),
    Fault("drip", "it answers a byte at a time", Verdict.DOUBT, True, _all, "drip"),
    Fault("half-head", "half the head of an answer", Verdict.DOUBT, True, lambda good: good[:24], "close"),
    Fault("half-body", "half the body of an answer", Verdict.DOUBT, True, lambda good: good[:-6], "close"),
    Fault("too-long", "an answer said to be longer than it is", Verdict.DOUBT, True, _claims(40), "close"),
    Fault("too-short", "an answer said to be shorter than it is", Verdict.DOUBT, True, _claims(-6)),
    Fault("empty", "200 without a body", Verdict.DOUBT, True, _says(200, b"")),
    Fault("garbage", "200 with what is no JSON", Verdict.DOUBT, True, _says(200, b"\x00\xfe ok?")),
    Fault("other", "200 with JSON that says something else", Verdict.DOUBT, True, _says(200, b'{"result": []}')),
    Fault("page", "200 with a page for people", Verdict.DOUBT, False, _says(200, PAGE, content_type="text/html")),
    Fault(
        "gzip",
        "200 with a body that cannot be unpacked",
        Verdict.DOUBT,
        True,
        _says(200, gzip.compress(b"{}")[:-9] + b"?" * 9, content_encoding="gzip"),
    ),
    Fault("no-http", "what is no HTTP", Verdict.DOUBT, False, lambda good: b"220 mail.example ESMTP\r\n", "close"),
]
FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _LIST}
