"""Calls of the REST API, and lists that lose nothing while they change.

A list is read by offset, sorted by id, each page beginning with the last row of the page before. Where it does not,
rows have left the list meanwhile and the others moved up unseen; then the page is asked for again, further up. Rows
that the key's user may not see are left out of their page though they count, so a page that misses its first row is
taken as it is while the count has not gone down.
"""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from crmkit import AuthError, PayloadError, RefusedError, RetryableError, Source, answered_at

from .settings import WooSettings
from .signing import auth_of

NAMESPACE = "wc/v3"
_NO_ROUTE = "rest_no_route"
#: Statuses whose bodies say more than their number.
_READ_HERE = frozenset({301, 302, 303, 307, 308, 400, 401, 403, 404})
#: So many pages in a row may bring nothing new until the list is taken to go in circles.
_STALE = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What the shop answered.

    Attributes:
        rows: the list, or the one thing in a list; `is_list` says which.
        total: how many there are in all, where the shop says so.
        at: when, by the shop's clock.
        offset, last: where the list goes on, and the last id that was read.
    """

    rows: list[Any]
    total: int | None = None
    at: datetime | None = None
    offset: int = 0
    last: int = 0
    new: list[Any] = field(default_factory=list)
    is_list: bool = True


class Api:
    """The API of one shop."""

    def __init__(self, source: Source, settings: WooSettings) -> None:
        self._source, self._settings = source, settings
        self._auth = auth_of(settings, source.now)
        self._who = source.account.name

    async def get(self, operation: str, path: str, *, namespace: str = NAMESPACE, **params: Any) -> Answer:
        """Ask for something.

        Args:
            operation: what it is for, as errors name it.
            path: `orders`, `orders/7/refunds`.
            params: None ones are left out.

        Raises:
            AuthError: the keys were refused, or may not see this.
            RefusedError: the shop said no, or has no such thing (status 404, see `is_missing`, `has_no_route`).
            RetryableError: not now, or an answer that is none: a page for people, half a body.
        """
        query = {name: str(value) for name, value in params.items() if value is not None}
        url = f"{self._settings.url}/wp-json/{namespace}/{path}"
        if self._settings.rest_route:
            url, query = f"{self._settings.url}/", {"rest_route": f"/{namespace}/{path}", **query}
        response = await self._source.call(
            operation,
            "GET",
            url,
            params=query,
            auth=self._auth,
            answers=_READ_HERE,
            headers={"accept": "application/json"},
        )
        if not response.is_success:
            raise self._refusal(operation, response)
        said = _json(response)
        if not isinstance(said, list | dict):
            why = "a page for people" if _is_page(response) else "half an answer, or none"
            raise RetryableError(
                f"{why} instead of data (HTTP {response.status_code})",
                who=self._who,
                operation=operation,
                do="look whether the shop is in maintenance, or shows PHP's warnings before its data",
            )
        total = response.headers.get("x-wp-total", "")
        return Answer(
            rows=said if isinstance(said, list) else [said],
            is_list=isinstance(said, list),
            total=int(total) if total.isascii() and total.isdigit() else None,
            at=answered_at(response),
        )

    async def listing(
        self, operation: str, path: str, *, offset: int = 0, last: int = -1, **params: Any
    ) -> AsyncIterator[Answer]:
        """Every page of a list, by ascending id; `new` holds the rows that no page before had.

        Args:
            offset, last: those of the answer after which to go on.

        Raises:
            PayloadError: the list is not sorted as asked, or goes in circles.
        """
        size, stale, total = self._settings.per_page, 0, None
        while True:
            answer = await self.get(
                operation, path, **params, orderby="id", order="asc", per_page=size, offset=offset or None
            )
            if not answer.is_list:
                raise self._strange(operation, "something else than the list that was asked for")
            ids = [number for row in answer.rows if (number := id_of(row)) is not None]
            if ids != sorted(ids):
                raise self._strange(operation, "a list that is not sorted by id, as asked")
            if (
                offset
                and (not ids or ids[0] > last)
                and (answer.total is None or total is None or answer.total < total)
            ):
                offset = max(0, offset - size // 2)
                continue
            new = [row for row in answer.rows if (number := id_of(row)) is None or number > last]
            is_end = len(answer.rows) < size if answer.total is None else offset + size >= answer.total
            stale = 0 if new or is_end or not ids else stale + 1
            if stale == _STALE:
                raise self._strange(operation, "the same page again and again")
            offset, last, total = offset + size - 1, max([last, *ids]), answer.total
            yield Answer(answer.rows, answer.total, answer.at, offset, last, new)
            if is_end:
                return

    def _strange(self, operation: str, what: str) -> PayloadError:
        return PayloadError(
            what, who=self._who, operation=operation, do="a cache or a plugin of the shop changes what its API answers"
        )

    def _refusal(self, operation: str, response: httpx.Response) -> AuthError | RefusedError | RetryableError:
        status, code = response.status_code, _code(response)
        shown = f"HTTP {status} {code}".strip()
        if response.is_redirect:
            return RetryableError(
                f"the shop is elsewhere ({shown})", who=self._who, operation=operation, do=self._elsewhere(response)
            )
        if status in {401, 403} and not code:
            return RetryableError(
                f"something before the shop refused ({shown})",
                who=self._who,
                operation=operation,
                do="let a firewall or a password before the shop pass what asks for /wp-json/wc/",
            )
        if status in {401, 403}:
            return AuthError(
                f"credentials refused ({shown})", who=self._who, operation=operation, do=self._advice(operation, code)
            )
        do = ""
        if status == 404 and code in {"", _NO_ROUTE}:
            do = (
                "switch on permalinks in WordPress (Settings > Permalinks, not Plain) or set rest_route = true; it"
                " needs WooCommerce 3.5 or newer, switched on"
            )
        return RefusedError(
            f"refused ({shown})",
            who=self._who,
            operation=operation,
            do=do,
            status=status,
            body=response.text[:1_000],
        )

    def _elsewhere(self, response: httpx.Response) -> str:
        try:
            target = httpx.URL(response.headers.get("location", ""))
        except httpx.InvalidURL:
            target = httpx.URL("")
        there = f"{target.scheme}://{target.netloc.decode('ascii', 'replace')}" if target.host else ""
        if self._settings.scheme == "http" and target.scheme == "https":
            return f"it answers over https: begin url with {there}"
        return f"write the address the shop calls itself as url{f', which begins with {there}' if there else ''}"

    def _advice(self, operation: str, code: str) -> str:
        way = self._settings.way
        if code == "woocommerce_rest_cannot_view" and self._settings.scheme == "http" and way != "oauth":
            return 'over http WooCommerce takes OAuth only: set auth = "oauth", or give the https address'
        if code == "woocommerce_rest_cannot_view" and way == "basic":
            return 'give the key\'s user the role of a shop manager; if its host drops headers, set auth = "query"'
        if code == "woocommerce_rest_cannot_view":
            return "give the key's user the role of a shop manager"
        if way == "oauth":
            return (
                "check consumer_key and consumer_secret, that url is what the shop calls itself, and that both clocks"
                " are right"
            )
        return "check consumer_key and consumer_secret"


def id_of(row: Any) -> int | None:
    """The id of a raw record; None where it has none that can be read."""
    number = row.get("id") if isinstance(row, dict) else None
    if isinstance(number, str) and number.isascii() and number.isdigit():
        return int(number)
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def is_missing(error: RefusedError) -> bool:
    """Whether the shop has no such thing."""
    return error.status == 404


def has_no_route(error: RefusedError) -> bool:
    """Whether the shop lacks the feature that was asked for."""
    return error.status == 404 and _NO_ROUTE in error.body


def _json(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _is_page(response: httpx.Response) -> bool:
    return response.content.lstrip()[:1] == b"<"


def _code(response: httpx.Response) -> str:
    """The vendor's word for an error; nothing else it says, which may be anything."""
    said = _json(response)
    code = said.get("code") if isinstance(said, dict) else None
    return code if isinstance(code, str) and re.fullmatch(r"[a-z0-9_]{1,80}", code) else ""
