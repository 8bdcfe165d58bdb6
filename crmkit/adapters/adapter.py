"""What sources and gateways have in common: settings, a client, a memory, a door for webhooks, streams, calls."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar, overload

import httpx

from crmkit.adapters import http as wire
from crmkit.adapters.door import (
    CONTENT_TYPES,
    LARGEST_BODY,
    REFUSED,
    Call,
    Named,
    Reply,
    Signature,
    Verified,
    fingerprint,
)
from crmkit.adapters.memory import Memory
from crmkit.adapters.stream import Page, Ref, Refused, Window
from crmkit.core.errors import AdapterError
from crmkit.core.records import Record

T = TypeVar("T")
E = TypeVar("E", bound=AdapterError)
#: Asks the person at the terminal a question; `secret` ones are not shown as they are typed.
Ask = Callable[..., Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Account:
    """One configured use of an adapter: what the core knows of it.

    Attributes:
        name: its section in crmkit.toml, `flagship` of `[shops.flagship]`; of a gateway, its entry's name.
        timezone: an IANA name; times without a zone are read in it.
        currency: ISO 4217, for amounts that come without one; may be None.
        region: two-letter country in which phone numbers without a country code are read; may be None.
        folder: relative paths in the configuration are relative to it.
        webhook_url: where its webhooks come in, without a secret path; None where `[web] url` is not set.
    """

    name: str
    timezone: str
    currency: str | None
    region: str | None
    folder: Path
    webhook_url: str | None = None


class Adapter:
    """One configured use of a vendor.

    Class attributes:
        name: the slug; the same as module, entry point and configuration value.
        verifies: how its webhooks are signed; None: by `verify`, or it takes none.
        accepts_with: what the vendor wants to be answered when a webhook was kept. An instance may know it better.
        keeps_headers: headers, in lower case, that `records` needs; the others are not kept.
        methods: how its vendor calls; one who asks for a handshake with GET says so, and `verify` answers it.
        content_types: what bodies it takes, in lower case; one that begins with `+` is an ending. None given is taken.
        largest_body: bytes of a body at the most.
        sends: whether what it calls has effects that must not be doubled: then what became of a call that was lost on
            its way is in doubt, and it is not repeated.
        remembers: whether it cannot be used without what it remembers: then the installation needs a key, and
            `crmkit config check` says so where there is none. An instance may know it better.

    Attributes:
        settings, account: this use of the adapter.
        http: a client ready to use; `call` is the way to use it.
        memory: what it remembers from run to run.
        origin: 16 characters that are this account's of this installation alone. Where a vendor repeats what it
            was given with a message, they tell news of ours from news of who else sends through it (a trial beside the
            shop has keys like ours). Empty before the account was met, and then no news are ours.
        clock: what `now` reads: the clock on the wall, unless a test sets another.
    """

    name: ClassVar[str]
    verifies: ClassVar[Signature | None] = None
    accepts_with: Reply = Reply()
    keeps_headers: ClassVar[tuple[str, ...]] = ("content-type",)
    methods: ClassVar[tuple[str, ...]] = ("POST",)
    content_types: ClassVar[tuple[str, ...]] = CONTENT_TYPES
    largest_body: ClassVar[int] = LARGEST_BODY
    sends: ClassVar[bool] = False
    remembers: bool = False

    settings: Any

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        self.settings = settings
        self.account = account
        self.http = http
        self.memory = Memory()
        self.origin = ""
        self.clock: Callable[[], datetime] = _wall
        #: when its vendor answered first since this was last emptied, by the vendor's own clock
        self.answered_at: datetime | None = None
        self._renewal = wire.Renewal()

    @classmethod
    def streams(cls) -> list[str]:
        """The names of its streams, in the order they are written."""
        names: list[str] = []
        for base in reversed(cls.__mro__):
            names.extend(n for n, m in vars(base).items() if hasattr(m, "__crmkit_stream__") and n not in names)
        return names

    @classmethod
    def window(cls, stream: str) -> Window | None:
        """How a stream wants to be asked for spans of time; None where it keeps a cursor of its own."""
        spans = getattr(cls, stream).__crmkit_stream__
        return spans if isinstance(spans, Window) else None

    def now(self) -> datetime:
        """The clock on the wall (aware, UTC): what calls are stamped and signed with, whatever moment a run is for."""
        return self.clock()

    async def open(self) -> None:
        """Called once before the first use."""

    async def close(self) -> None:
        """Called once after the last, also when the run is interrupted."""

    async def check(self) -> Iterable[str]:
        """Problems an operator should know of before the first run (`crmkit doctor`); none if all is well."""
        return ()

    async def connect(self, ask: Ask) -> None:
        """Fill the memory with what is needed to use the account (`crmkit connect ACCOUNT`)."""
        raise NotImplementedError(f"{self.name} needs no connecting")

    def credentials_end(self) -> datetime | None:
        """When what it signs in with ends and a person has to act, so far as it knows; None: never, or not known.

        Asked without the network, and perhaps before `open`: of what it remembers and was set. `crmkit doctor` warns a
        week before.
        """
        return None

    def listen(self) -> AsyncIterator[Page]:
        """Hold a connection open and yield pages as something comes in. Only a long-running service listens.

        A connection that ends, or raises, is made again.
        """
        raise NotImplementedError(f"{self.name} holds no connection open")

    async def renew(self) -> bool:
        """Get fresh credentials after the old were refused; whether there are any now. The call is then made again.

        They belong on the client (`self.http.headers`, `self.http.auth`): what `call` itself was given, it is given
        again as it was. Called once for all calls that were refused meanwhile.
        """
        return False

    # webhooks: the door and the parser are two

    def verify(self, call: Call) -> Verified | Reply:
        """Whether a call is the vendor's: `Verified` keeps it, a `Reply` answers it and keeps nothing.

        Works on what it is given, without the network.
        """
        if self.verifies is None or not self.verifies.holds(call, self.settings):
            return REFUSED
        if isinstance(self.verifies, Named):
            return Verified(fingerprint(self.verifies.key(call)))
        return Verified(fingerprint(call.query, call.body), is_fingerprint=True)

    def records(self, call: Call) -> Iterable[Record | Ref | Refused]:
        """What a kept call says: records, and `Reread`s of what it only hints at. Runs in ingest, and again on replay.

        Raises:
            PayloadError: it is not what we know; the call is kept and can be replayed.
        """
        raise NotImplementedError(f"{self.name} takes no webhooks")

    # calls

    def error(self, kind: type[E], operation: str, what: str, do: str = "", **more: Any) -> E:
        """An error of this account: `self.error(AuthError, "read orders", "the session ended (code 27)")`."""
        return kind(what, who=self.account.name, operation=operation, do=do, **more)

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """The error an answer tells of in its body; None: its status says what it is.

        For vendors that say "no" with HTTP 200, or more of it than the status does. Asked for every answer `call` gets,
        before its status is looked at; what it gives is taken as if the status had said so: after an `AuthError`
        `renew` is asked, and what only reads is tried again after a `RetryableError`.
        """
        return None

    @overload
    async def call(self, operation: str, method: str, url: str, *, read: type[T], **options: Any) -> T: ...

    @overload
    async def call(self, operation: str, method: str, url: str, **options: Any) -> httpx.Response: ...

    async def call(
        self,
        operation: str,
        method: str,
        url: str,
        *,
        read: Any = None,
        answers: Collection[int] = (),
        sends: bool | None = None,
        within: float = wire.LONGEST_CALL,
        **request: Any,
    ) -> Any:
        """Make one HTTP call. The one place that turns HTTP into errors.

        Args:
            operation: what it is for, as errors name it.
            method, url: as httpx takes them; a path is relative to the client's base URL.
            read: a type the body is read as (pydantic model or any type pydantic reads); the response where None.
            answers: statuses beside 2xx that the caller reads itself; the response is returned for them.
            sends: whether it has effects that must not be doubled; the adapter's own `sends` where None.
            within: seconds until it is given up, the whole answer included.
            request: `params`, `data`, `json`, `content`, `headers`, `auth` as httpx takes them.

        Raises:
            RetryableError: nothing left, or the vendor said "not now"; when reading, also whatever may pass.
            AuthError: the credentials were refused, and there are no fresh ones.
            RefusedError: the vendor said no (another 4xx); it holds the status and the body.
            PayloadError: an answer that cannot be read (when reading).
            DoubtError: it left, and no verdict came back (when sending).
        """
        what = wire.Exchange(
            client=self.http,
            who=self.account.name,
            operation=operation,
            method=method,
            url=url,
            request=request,
            has_effects=self.sends if sends is None else sends,
            answers=frozenset(answers),
            within=within,
            fault=self.fault,
        )
        response = await wire.exchange(what, self.renew, self._renewal)
        self.answered_at = self.answered_at or wire.answered_at(response)
        if read is None or response.status_code in what.answers:
            return response
        return wire.parse(what, response, read)


def _wall() -> datetime:
    return datetime.now(UTC)
