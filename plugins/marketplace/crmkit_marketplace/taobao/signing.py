"""How requests show whose they are, and calls of the platform that they are its own: one keyed hash over sorted pairs.

https://open.taobao.com/doc.htm?docId=101617. Every parameter that is sent is signed, and none is sent that is empty.
A request is stamped and signed as it leaves, so each try is its own; its time is that of China, wherever this runs.
"""

import hashlib
import hmac
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal
from urllib.parse import parse_qsl, urlencode

import httpx

from crmkit import Call, same

#: The time of all of China, which has had no other since 1991.
CHINA = timezone(timedelta(hours=8))
#: A request is taken so long before and after its time.
TOLERANCE = timedelta(minutes=10)
Way = Literal["md5", "hmac", "hmac-sha256"]


def written(moment: datetime) -> str:
    """A moment as the platform writes it, to the second."""
    return moment.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S")


def read(text: str) -> datetime:
    """A moment the platform wrote.

    Raises:
        ValueError: it is none.
    """
    return datetime.strptime(text.strip(), "%Y-%m-%d %H:%M:%S").replace(tzinfo=CHINA).astimezone(UTC)


def signature(params: Mapping[str, str], secret: str, way: Way, body: bytes = b"") -> str:
    """The signature of parameters.

    Args:
        params: all that is sent, as it is before it is encoded; empty ones and `sign` do not count.
        secret: the application's.
        way: the value of `sign_method`.
        body: what follows the parameters, where a body that is no form is signed.
    """
    pairs = sorted((name, value) for name, value in params.items() if name and value and name != "sign")
    text = "".join(f"{name}{value}" for name, value in pairs).encode() + body
    key = secret.encode()
    if way == "md5":
        return hashlib.md5(key + text + key, usedforsecurity=False).hexdigest().upper()
    return hmac.new(key, text, "md5" if way == "hmac" else "sha256").hexdigest().upper()


class Signed(httpx.Auth):
    """Adds the system's parameters to a form, and signs it.

    Args:
        session: gives the seller's token as it is at that moment; None: the call needs none.
        clock: the clock on the wall: the platform compares it with its own.
    """

    requires_request_body = True

    def __init__(
        self,
        key: str,
        secret: str,
        way: Way,
        session: Callable[[], str | None],
        clock: Callable[[], datetime],
    ) -> None:
        self._key, self._secret, self._way, self._session, self._clock = key, secret, way, session, clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Stamp and sign the request."""
        params = dict(parse_qsl(request.content.decode(), keep_blank_values=True)) | {
            "app_key": self._key,
            "session": self._session() or "",
            "timestamp": written(self._clock()),
            "v": "2.0",
            "format": "json",
            "sign_method": self._way,
        }
        params = {name: value for name, value in params.items() if value}
        params["sign"] = signature(params, self._secret, self._way)
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        headers["content-type"] = "application/x-www-form-urlencoded;charset=utf-8"
        yield httpx.Request(
            request.method,
            request.url,
            headers=headers,
            content=urlencode(params).encode(),
            extensions=request.extensions,
        )


def is_pushed(call: Call, secrets: list[str]) -> bool:
    """Whether a call is the platform's: the query's `sign` covers query, named headers, form, and other bodies whole.

    Of the platform's own kits one signs the body of a form once more, behind its fields, so both are taken.
    """
    query = dict(parse_qsl(call.query, keep_blank_values=True))
    given = query.get("sign", "")
    named = [name.strip() for name in call.headers.get("top-sign-list", "").split(",")]
    params = query | {name: call.headers.get(name.lower(), "") for name in named if name}
    bodies = [call.body]
    if call.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        params |= dict(parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True))
        bodies.append(b"")
    found = [same(given, signature(params, secret, "md5", body)) for secret in secrets for body in bodies]
    return any(found) and _is_fresh(params.get("timestamp", ""), call.received_at)


def _is_fresh(stamp: str, now: datetime) -> bool:
    try:
        return abs(now - read(stamp)) <= TOLERANCE
    except ValueError:
        return False
