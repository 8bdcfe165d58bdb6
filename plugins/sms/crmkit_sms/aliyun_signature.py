"""How a request to Alibaba Cloud is signed: ACS3-HMAC-SHA256, over method, query, some headers and the body.

Vendor documentation: https://help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature. Each try has
a date and a number of its own, or it is taken for a repeat.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

import httpx

ALGORITHM = "ACS3-HMAC-SHA256"


def encoded(fields: Mapping[str, str]) -> str:
    """Fields as a query, in the spelling and order that are signed: `%20`, never `+`."""
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(fields.items()))


def authorization(
    key_id: str, secret: str, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
) -> str:
    """What stands in the header `Authorization`.

    Args:
        key_id, secret: the access key.
        method, path: `POST`, `/`.
        query: what stands after `?`.
        headers: all of the request's, names in lower case.
        body: as it is sent.
    """
    canonical = encoded(dict(parse_qsl(query, keep_blank_values=True)))
    signed = sorted(name for name in headers if name in {"host", "content-type"} or name.startswith("x-acs-"))
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in signed)
    request = "\n".join((method, path, canonical, lines, ";".join(signed), hashlib.sha256(body).hexdigest()))
    text = f"{ALGORITHM}\n{hashlib.sha256(request.encode()).hexdigest()}"
    made = hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()
    return f"{ALGORITHM} Credential={key_id},SignedHeaders={';'.join(signed)},Signature={made}"


class Acs3(httpx.Auth):
    """Signs each try anew.

    Args:
        key_id, secret: the access key.
        clock: the clock on the wall; the vendor takes fifteen minutes of difference.
        nonce: gives a number that was never used.
    """

    requires_request_body = True

    def __init__(
        self,
        key_id: str,
        secret: str,
        clock: Callable[[], datetime],
        nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._key_id, self._secret, self.clock, self.nonce = key_id, secret, clock, nonce

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Date, number, hash and signature."""
        request.headers["x-acs-date"] = self.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        request.headers["x-acs-signature-nonce"] = self.nonce()
        request.headers["x-acs-content-sha256"] = hashlib.sha256(request.content).hexdigest()
        request.headers["authorization"] = authorization(
            self._key_id,
            self._secret,
            request.method,
            request.url.path,
            request.url.query.decode("ascii"),
            {name.lower(): value for name, value in request.headers.items()},
            request.content,
        )
        yield request


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")
