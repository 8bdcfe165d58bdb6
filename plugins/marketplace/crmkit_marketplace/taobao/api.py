"""Calls of the platform, and the seller's token they are made with.

All calls are forms posted to one address; `method` says what is asked. Lists are wrapped twice, `trades.trade`, and an
empty one is left out. A token is got by a person who signs in as the seller; only applications that sellers order in
the service market get one that can be renewed.
"""

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from crmkit import AdapterError, Ask, AuthError, ConfigError, Gateway, PayloadError, RetryableError, Source

from .fault import fault
from .settings import AppSettings
from .signing import Signed, read

AUTHORIZE = "https://oauth.taobao.com/authorize"
T = TypeVar("T")
#: A token is told to end so long before it does.
NOTICE = timedelta(days=7)


class Top:
    """The platform, as one account sees it."""

    def __init__(self, adapter: Source | Gateway, settings: AppSettings) -> None:
        self._adapter, self._settings = adapter, settings
        self._who = adapter.account.name
        app = settings.app_key, settings.secrets[0], settings.sign_method
        self._as_seller = Signed(*app, session=lambda: self.session, clock=adapter.now)
        self._as_application = Signed(*app, session=lambda: None, clock=adapter.now)

    @property
    def session(self) -> str | None:
        """The seller's token: that of crmkit.toml, else the one that was got by connecting."""
        if self._settings.session is not None:
            return self._settings.session.get_secret_value()
        return self._adapter.memory.get("session")

    async def ask(
        self, operation: str, method: str, *, sends: bool = False, as_seller: bool = True, **params: Any
    ) -> dict[str, Any]:
        """What a method answers, without the wrapping that names it.

        Args:
            operation: what it is for, as errors name it.
            method: `taobao.trades.sold.get`.
            sends: whether it has effects that must not be doubled.
            as_seller: whether it is about the seller.
            params: None ones are left out.

        Raises:
            AdapterError: see `Adapter.call`.
        """
        shape: Any = dict[str, dict[str, Any]]
        answer: dict[str, dict[str, Any]] = await self._call(operation, method, shape, sends, as_seller, params)
        name = f"{method.removeprefix('taobao.').replace('.', '_')}_response"
        if name not in answer:  # what answers another question is no empty list
            raise self.strange(operation, f"an answer without {name}")
        return answer[name]

    async def send(self, operation: str, method: str, shape: type[T], **params: Any) -> T:
        """What a method with effects answers, as a shape: an answer of another is doubt."""
        answer: T = await self._call(operation, method, shape, True, True, params)
        return answer

    async def _call(
        self, operation: str, method: str, shape: Any, sends: bool, as_seller: bool, params: dict[str, Any]
    ) -> Any:
        if as_seller and self.session is None:
            raise AuthError(
                "no seller authorized this application",
                who=self._who,
                operation=operation,
                do=f"run crmkit connect {self._who}, or set session",
            )
        form = {"method": method, **{name: _text(value) for name, value in params.items() if value is not None}}
        auth = self._as_seller if as_seller else self._as_application
        return await self._adapter.call(
            operation, "POST", self._settings.url, data=form, auth=auth, sends=sends, read=shape
        )

    def fault(self, operation: str, response: httpx.Response, *, sends: bool = False) -> AdapterError | None:
        """The error in an answer's body; see `Adapter.fault`."""
        return fault(self._who, operation, response, sends=sends)

    def strange(self, operation: str, what: str) -> PayloadError:
        """An answer that is not what the platform's documents say."""
        return PayloadError(what, who=self._who, operation=operation)

    def changing(self, operation: str) -> RetryableError:
        """A list that changes faster than it is read."""
        what = "the list grows faster than it is read"
        return RetryableError(what, who=self._who, operation=operation, do="it is read again with the next sync")

    async def now(self) -> datetime:
        """The platform's clock, to the second."""
        answer = await self.ask("read the clock", "taobao.time.get", as_seller=False)
        try:
            return read(answer["time"])
        except (KeyError, ValueError):
            raise self.strange("read the clock", "a time that is none") from None

    # the token

    async def connect(self, ask: Ask) -> None:
        """Ask a person to sign in as the seller, and remember the token that is given for it.

        Raises:
            ConfigError: the token is set in crmkit.toml, or what was entered is not the answer to this question.
            AdapterError: the platform does not take it.
        """
        if self._settings.session is not None:
            do = "remove session from crmkit.toml first"
            raise ConfigError("its token is set in crmkit.toml", who=self._who, operation="connect", do=do)
        state = secrets.token_urlsafe(8)
        query = {
            "response_type": "code",
            "client_id": self._settings.app_key,
            "redirect_uri": self._settings.redirect_url,
            "state": state,
            "view": "web",
        }
        address = f"{AUTHORIZE}?{urlencode(query)}"
        said = await ask(f"Open {address}\nas the seller, and enter the code, or the address you are led to")
        code = _code(said, state)
        if not code:
            do = "enter the address as it stands in the browser"
            raise ConfigError("that is no answer to this question", who=self._who, operation="connect", do=do)
        answer = await self.ask("connect", "taobao.top.auth.token.create", as_seller=False, sends=True, code=code)
        await self._remember(answer, "connect")

    async def renew(self) -> bool:
        """Exchange what the token can be renewed with; whether there was such a thing, and it was taken.

        Raises:
            RetryableError: the platform could not be asked.
        """
        token = self._adapter.memory.get("refresh_token")
        if self._settings.session is not None or not token:
            return False
        try:
            answer = await self.ask(
                "renew the authorization", "taobao.top.auth.token.refresh", as_seller=False, refresh_token=token
            )
            await self._remember(answer, "renew the authorization")
        except RetryableError:
            raise
        except AdapterError:
            return False
        return True

    async def _remember(self, answer: dict[str, Any], operation: str) -> None:
        try:
            token = json.loads(answer["token_result"])
            session = str(token["access_token"] or "")
        except (KeyError, TypeError, ValueError, RecursionError):
            session, token = "", {}
        if not session:
            raise self.strange(operation, "a token that cannot be read")
        ends = token.get("expire_time")
        lasts = timedelta(seconds=int(token.get("expires_in") or 0))
        at = datetime.fromtimestamp(int(ends) / 1000, UTC) if ends else self._adapter.now() + lasts
        renewable = int(token.get("re_expires_in") or 0)
        until = self._adapter.now() + timedelta(seconds=renewable)
        seller = token.get("taobao_user_id") or token.get("taobao_open_uid")
        await self._adapter.memory.keep(
            session=session,
            refresh_token=str(token.get("refresh_token") or "") or None if renewable > 0 else None,
            renewable_until=until.isoformat() if renewable > 0 else None,
            expires_at=at.isoformat(),
            user_id=str(seller) if seller else self._adapter.memory.get("user_id"),
        )

    def credentials_end(self) -> datetime | None:
        """When a token ends that cannot be renewed then; None: it can be, or when is not known.

        It is renewed by the next run after it ended, so what it is renewed with has to last a day longer.
        """
        ends = self._adapter.memory.get("expires_at")
        if self._settings.session is not None or ends is None:
            return None
        ends_at = datetime.fromisoformat(ends)
        if self._adapter.memory.get("refresh_token"):
            until = self._adapter.memory.get("renewable_until")
            if until is None or datetime.fromisoformat(until) > ends_at + timedelta(days=1):
                return None
        return ends_at

    def problems(self, now: datetime) -> list[str]:
        """What is to be said of the token at a moment of the platform's clock."""
        ends = self.credentials_end()
        if ends is None:
            return []
        left = ends - now
        if left > NOTICE:
            return []
        when = "ended" if left < timedelta(0) else f"ends in {left.days} days"
        who = self._who
        return [f"{who} check: the seller's authorization {when} and cannot be renewed; run crmkit connect {who}"]


def rows_of(answer: dict[str, Any], outer: str, inner: str) -> list[Any]:
    """The rows of a list, which is wrapped twice, and not there where it is empty."""
    wrapped = answer.get(outer)
    found = wrapped.get(inner) if isinstance(wrapped, dict) else wrapped
    return found if isinstance(found, list) else []


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def _code(said: str, state: str) -> str:
    """The code in what a person entered; "" where it was given for another question."""
    said = said.strip()
    query = parse_qs(urlsplit(said).query)
    if "code" in query:
        return query["code"][0] if query.get("state", [state]) == [state] else ""
    return "" if "://" in said or not said.isascii() or " " in said else said
