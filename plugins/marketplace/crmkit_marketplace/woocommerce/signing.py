"""How requests show whose they are: Basic over https, OAuth 1.0a without a token over http, or keys in the query.

https://woocommerce.github.io/woocommerce-rest-api-docs/#authentication. A nonce is taken once, so every try of a
request is signed anew, which is what httpx asks an `Auth` for.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Generator, Iterable
from datetime import datetime
from urllib.parse import quote

import httpx

from .settings import WooSettings


def signature(method: str, url: str, params: Iterable[tuple[str, str]], secret: str) -> str:
    """The signature of a request as OAuth 1.0a has it, HMAC-SHA256 in base64.

    Args:
        url: without the query.
        params: those of the query and those of OAuth, as they are before they are encoded.
    """
    pairs = sorted((_encoded(name), _encoded(value)) for name, value in params)
    written = "&".join(f"{name}={value}" for name, value in pairs)
    base = "&".join((method.upper(), _encoded(url), _encoded(written)))
    made = hmac.new(f"{secret}&".encode(), base.encode(), hashlib.sha256).digest()
    return base64.b64encode(made).decode()


def _encoded(text: str) -> str:
    return quote(text, safe="~")


class OneLegged(httpx.Auth):
    """OAuth 1.0a with a consumer and no token; what it adds stands in the query, since hosts drop the header.

    Args:
        nonce: a fresh one.
        clock: the clock on the wall: the shop compares it with its own.
    """

    def __init__(
        self,
        key: str,
        secret: str,
        clock: Callable[[], datetime],
        nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._key, self._secret, self._nonce, self._clock = key, secret, nonce, clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request."""
        params = [
            *request.url.params.multi_items(),
            ("oauth_consumer_key", self._key),
            ("oauth_nonce", self._nonce()),
            ("oauth_signature_method", "HMAC-SHA256"),
            ("oauth_timestamp", str(int(self._clock().timestamp()))),
        ]
        plain = str(request.url.copy_with(query=None, fragment=None))
        signed = signature(request.method, plain, params, self._secret)
        request.url = request.url.copy_with(params=httpx.QueryParams([*params, ("oauth_signature", signed)]))
        yield request


class InQuery(httpx.Auth):
    """Key and secret in the query, for hosts that drop the `Authorization` header."""

    def __init__(self, key: str, secret: str) -> None:
        self._keys = {"consumer_key": key, "consumer_secret": secret}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the keys."""
        request.url = request.url.copy_merge_params(self._keys)
        yield request


def auth_of(settings: WooSettings, clock: Callable[[], datetime]) -> httpx.Auth:
    """How this shop's requests are authenticated."""
    key, secret = settings.consumer_key.get_secret_value(), settings.consumer_secret.get_secret_value()
    if settings.way == "basic":
        return httpx.BasicAuth(key, secret)
    return OneLegged(key, secret, clock) if settings.way == "oauth" else InQuery(key, secret)
