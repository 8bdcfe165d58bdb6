"""Questions in GraphQL, and lists that lose nothing while they change.

Vendure answers HTTP 200 where it says no: `FORBIDDEN` when the session is over or may not read that. Its lists are
paged by offset, and what changes while they are read moves all others: an order that slips from the next page to this
one would be lost. So each next page begins a second before the last row, those seen of that second left out by their
ids. A second, since on SQLite `12:00:01` comes before `12:00:01.000`, and either is written.

A list is sorted by one field: of several the order in which a question names them does not count, but the schema's.

Where the shop fails at one row it leaves a field of it out, or answers nothing at all; then the rows are asked for in
halves, until that one stands alone.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from crmkit import AdapterError, AuthError, ConfigError, PayloadError, RefusedError, RetryableError, answered_at

from . import query
from .settings import VendureSettings

if TYPE_CHECKING:
    from .source import VendureSource

#: In this header the shop hands a session's token out.
TOKEN = "vendure-auth-token"
#: Codes after which the same question may be answered.
_PASSES = frozenset({"INTERNAL_SERVER_ERROR", "INTERNAL_ERROR"})
_NOT_LET_IN = frozenset({"FORBIDDEN", "UNAUTHENTICATED", "UNAUTHORIZED"})
#: Where none of so many rows can be read, it is not the rows.
MANY = 5
#: Headers by which the shop knows who asks.
_CREDENTIALS = ("authorization", "cookie")
_SECOND, _TICK = timedelta(seconds=1), timedelta(milliseconds=1)
#: More ids than these are not left out one by one: the shop takes questions of 100 kB.
BULK = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a list, raw, and when they were answered.

    Attributes:
        rows: as the shop wrote them.
        total: how many there are in the span.
        at: the shop's clock as it answered; None where it has none.
        failed: {id: why} of rows the shop itself could not read whole.
    """

    rows: list[Any] = field(default_factory=list)
    total: int | None = None
    at: datetime | None = None
    failed: Mapping[str, str] = field(default_factory=dict)


class _RowFailsError(RetryableError):
    """A list that cannot be read because of some of its rows."""


class _RowRefusedError(RefusedError):
    """A list that is refused because of some of its rows."""


class Api:
    """The Admin API of one shop.

    Args:
        source: whose account it is; its `call` makes the calls.
        settings: its section of crmkit.toml.
    """

    def __init__(self, source: "VendureSource", settings: VendureSettings) -> None:
        self.source, self.settings = source, settings
        headers = source.http.headers
        if settings.channel is not None:
            headers["vendure-token"] = settings.channel.get_secret_value()
        if settings.session is not None:
            headers["authorization"] = f"Bearer {settings.session.get_secret_value()}"
        if settings.api_key is not None:
            headers["vendure-api-key"] = settings.api_key.get_secret_value()

    async def ask(self, operation: str, question: str, **variables: Any) -> tuple[Mapping[str, Any], httpx.Response]:
        """What the shop says to a question.

        Raises:
            AdapterError: it does not, or cannot be asked.
            PayloadError: it is no GraphQL that answered.
        """
        response = await self.source.call(
            operation, "POST", self.settings.url, json={"query": question, "variables": variables}
        )
        self._keep_token(response)
        data = _body(response).get("data")
        if not isinstance(data, dict):
            raise self.source.error(
                PayloadError, operation, "an answer without data", "check url: it ends in /admin-api"
            )
        return data, response

    def recall(self) -> None:
        """Go on in the session that was begun before: each log-in leaves a row in the shop's database for a year."""
        if self.settings.session is None and self.settings.api_key is None:
            self.source.http.headers.update(self.source.memory.get(self._place, {}))

    async def log_in(self) -> bool:
        """Begin a session; whether there is one."""
        if self.settings.username is None or self.settings.password is None:
            return False
        for name in _CREDENTIALS:
            self.source.http.headers.pop(name, None)
        password = self.settings.password.get_secret_value()
        data, _ = await self.ask("log in", query.LOGIN, username=self.settings.username, password=password)
        said = data.get("login") or {}
        begun = self._credentials()
        if said.get("__typename") != "CurrentUser" or not begun:
            return False
        with suppress(ConfigError):  # without a key nothing can be remembered, and the next run logs in again
            await self.source.memory.keep(**{self._place: begun})
        return True

    @property
    def _place(self) -> str:
        """The session's name in memory: another shop, or another user, is not given it."""
        whose = f"{self.settings.url} {self.settings.username}".encode()
        return f"session {hashlib.sha256(whose).hexdigest()[:16]}"

    def _credentials(self) -> dict[str, str]:
        headers = self.source.http.headers
        return {name: headers[name] for name in _CREDENTIALS if name in headers}

    def _keep_token(self, response: httpx.Response) -> None:
        """A session's token is in a header, or in cookies, as the shop is set up; a new one replaces the old."""
        token = response.headers.get(TOKEN)
        if token:
            self.source.http.headers["authorization"] = f"Bearer {token}"
            return
        cookies = [one.partition(";")[0].strip() for one in response.headers.get_list("set-cookie")]
        ours = [one for one in cookies if one.startswith(("session=", "session.sig="))]
        if ours:
            self.source.http.headers["cookie"] = "; ".join(ours)

    async def span(
        self,
        operation: str,
        name: str,
        question: str,
        start: datetime,
        end: datetime,
        by: str = "updatedAt",
        **where: Any,
    ) -> AsyncIterator[Answer]:
        """All rows of a list one of whose times is within a span, oldest first.

        Args:
            name: the list's, `orders`.
            question: asks for it with the variable `o`.
            by: the time.
            where: what else must be so of a row, as the shop's filters have it.
        """
        since, seen, total = start, dict[str, datetime](), None
        while True:
            filters = {**where, by: _between(since, end)}
            if seen:
                filters["id"] = {"notIn": list(seen)}
            options = {"take": self.settings.per_page, "sort": {by: "ASC"}, "filter": filters}
            answer = await self._list(operation, name, question, options)
            total = answer.total if total is None else total
            yield replace(answer, total=total)
            if len(answer.rows) < self.settings.per_page:
                return
            seen |= {self._id_of(operation, row): self._time_of(operation, row, by) for row in answer.rows}
            last = max(seen.values())
            since = max(start, last - _SECOND)
            seen = {number: at for number, at in seen.items() if at >= since}
            if len(seen) > BULK:
                within = {**where, by: _between(since, last + _TICK)}
                async for answer in self._bulk(operation, name, question, within):
                    yield replace(answer, total=total)
                since, seen = last + _TICK, {}

    async def _bulk(self, operation: str, name: str, question: str, within: Mapping[str, Any]) -> AsyncIterator[Answer]:
        """All rows of one moment, of which there are many: a change of the whole shop. By offset, sorted by id.

        None comes to a moment that is past, but rows may leave it, and the others move up. So a page begins with the
        last row of the page before; if that has moved, with one that was seen.
        """
        seen, skip = set[str](), 0
        while True:
            options = {"take": self.settings.per_page, "skip": skip, "sort": {"id": "ASC"}, "filter": within}
            answer = await self._list(operation, name, question, options)
            ids = [self._id_of(operation, row) for row in answer.rows]
            if skip and (not ids or ids[0] not in seen):
                skip = max(0, skip - self.settings.per_page + 1)
                continue
            fresh = [row for row, own in zip(answer.rows, ids, strict=True) if own not in seen]
            yield replace(answer, rows=fresh, total=None)
            seen.update(ids)
            if len(ids) < self.settings.per_page:
                return
            skip += len(ids) - 1

    async def by_id(self, operation: str, name: str, question: str, ids: list[str]) -> AsyncIterator[Answer]:
        """The rows of a list with these ids."""
        for first in range(0, len(ids), self.settings.per_page):
            some = ids[first : first + self.settings.per_page]
            options = {"take": len(some), "filter": {"id": {"in": some}}}
            yield await self._list(operation, name, question, options)

    async def _list(self, operation: str, name: str, question: str, options: dict[str, Any]) -> Answer:
        try:
            return await self._whole(operation, name, question, options)
        except (_RowFailsError, _RowRefusedError):
            bare = await self._whole(operation, name, query.BARE[name], options)
        ids = [self._id_of(operation, row) for row in bare.rows]
        found, failed = dict[str, Any](), dict[str, str]()
        await self._halves(operation, name, question, ids, found, failed)
        rows = [found.get(own, row) for own, row in zip(ids, bare.rows, strict=True) if own in found or own in failed]
        return replace(bare, rows=rows, failed=failed)

    async def _halves(
        self, operation: str, name: str, question: str, ids: list[str], found: dict[str, Any], failed: dict[str, str]
    ) -> None:
        """Read rows by id; those the shop fails at are told in `failed`.

        Raises:
            RetryableError, RefusedError: it fails at all of them.
        """
        try:
            answer = await self._whole(operation, name, question, {"take": len(ids), "filter": {"id": {"in": ids}}})
        except (_RowFailsError, _RowRefusedError) as error:
            if len(ids) == 1:
                failed[ids[0]] = error.what
                if len(failed) >= MANY and not found:
                    raise
                return
        else:
            found |= {self._id_of(operation, row): row for row in answer.rows}
            failed |= answer.failed
            return
        middle = len(ids) // 2
        for half in (ids[:middle], ids[middle:]):
            await self._halves(operation, name, question, half, found, failed)

    async def _whole(self, operation: str, name: str, question: str, options: dict[str, Any]) -> Answer:
        data, response = await self.ask(operation, question, o=options)
        found = data.get(name)
        rows = found.get("items") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(rows, list):
            raise self.source.error(
                PayloadError, operation, f"an answer without {name}", "its adapter does not know it"
            )
        total = found.get("totalItems")
        failed = {
            self._id_of(operation, rows[number]): f"the shop failed at it ({code})"
            for number, code in _failed_rows(_body(response)).items()
            if number < len(rows)
        }
        return Answer(rows, total if isinstance(total, int) else None, answered_at(response), failed)

    def _time_of(self, operation: str, row: Any, by: str) -> datetime:
        try:
            return datetime.fromisoformat(row[by])
        except (KeyError, TypeError, ValueError):
            raise self.source.error(PayloadError, operation, f"a row without {by}") from None

    def _id_of(self, operation: str, row: Any) -> str:
        try:
            return str(row["id"])
        except (KeyError, TypeError):
            raise self.source.error(PayloadError, operation, "a row without id") from None

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """What the shop says went wrong, whatever the status."""
        body = _body(response)
        errors = body.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        if not isinstance(first, dict):
            return None
        code = _code(first)
        is_of_rows = bool(_failed_rows(body))
        if is_of_rows and _has_rows(body):
            return None
        if code in _NOT_LET_IN:
            used = "username and password" if self.settings.username is not None else "api_key or session"
            do = f"check {used}, and that the role may ReadOrder and ReadCustomer in this channel"
            return self.source.error(AuthError, operation, f"the shop does not let us read this ({code})", do)
        if code in _PASSES:
            kind = _RowFailsError if is_of_rows else RetryableError
            return self.source.error(kind, operation, f"the shop failed ({code})")
        what = f"the shop refused the question ({code or 'no code'})"
        return self.source.error(
            _RowRefusedError if is_of_rows else RefusedError,
            operation,
            what,
            "is it Vendure 2.0 or newer?",
            status=response.status_code,
            body=response.text,
        )


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _code(error: dict[str, Any]) -> str:
    """What an error is, as far as it may be shown."""
    extensions = error.get("extensions")
    code = str(extensions.get("code", "")) if isinstance(extensions, dict) else ""
    return code if re.fullmatch(r"\w{1,80}", code) else ""


def _failed_rows(body: dict[str, Any]) -> dict[int, str]:
    """{place in its list: code} of the rows that errors are about.

    {} where one is about something else, or says that we may not read it.
    """
    errors = body.get("errors")
    failed: dict[int, str] = {}
    for error in errors if isinstance(errors, list) else ():
        path = error.get("path") if isinstance(error, dict) else None
        if not isinstance(path, list) or len(path) < 3 or path[1] != "items" or type(path[2]) is not int:
            return {}
        if _code(error) in _NOT_LET_IN:
            return {}
        failed.setdefault(path[2], _code(error) or "no code")
    return failed


def _has_rows(body: dict[str, Any]) -> bool:
    data = body.get("data")
    lists = data.values() if isinstance(data, dict) else ()
    return any(isinstance(found, dict) and isinstance(found.get("items"), list) for found in lists)


def _between(start: datetime, end: datetime) -> dict[str, dict[str, str]]:
    return {"between": {"start": written(start), "end": written(end)}}


def written(moment: datetime) -> str:
    """A time as the shop's filters take it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
