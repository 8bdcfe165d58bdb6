"""What every adapter is held to, whichever way it goes: settings, fixtures, webhooks, secrecy.

`GatewayContract` and `SourceContract` inherit this, by way of those who add webhooks, memory and their own; a test
file inherits one of them and names the adapter, its
settings and its fixtures. Tests run by themselves (`asyncio.run`), so nothing has to be configured for them.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import httpx
import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from crmkit.adapters.adapter import Account, Adapter
from crmkit.adapters.http import client
from crmkit.adapters.memory import Memory
from crmkit.adapters.stream import Refused, Reread
from crmkit.core.errors import AdapterError, ConfigError
from crmkit.core.records import Record
from crmkit.host.document import Document
from crmkit.testing.adapter import ORIGIN
from crmkit.testing.exchange import Exchange, Fixture, Sent, fixtures
from crmkit.testing.exchange import written as written_exchanges
from crmkit.testing.outcome import FIXTURE, change, expected
from crmkit.testing.playback import Playback
from crmkit.testing.secrecy import secrets_in, spellings, texts_in, told

T = TypeVar("T")

#: The clock of contract tests, unless a fixture says otherwise.
NOW = datetime(2026, 5, 7, 9, 30, tzinfo=UTC)
#: A secret that is nobody's.
ANOTHER = "another-Secret-0123456789-abcdef"
#: So many places of a body or signature are changed, one at a time.
PLACES = 120
#: What no setting takes.
_WRONG: Sequence[Any] = ([], {"x": object()}, "", 10**400)
_TELLING = ("secret", "password", "passwd", "passphrase", "private_key", "access_token", "auth_token")


class AdapterContract:
    """What sources and gateways have in common.

    Class attributes:
        adapter: the class that is held to it.
        settings: as they stand in crmkit.toml, with secrets that are made up.
        fixtures: the folder of its fixtures, see `crmkit.testing.exchange`.
        account: changes to the account: `timezone`, `currency`, `region`, `webhook_url`.
        memory: what it remembers from `crmkit connect`.
        volatile: names of headers, query parameters, form and JSON fields whose value changes with every request
            (nonce, time, signature): only that there is one is looked at.
        headers: names of the request headers that `--update` writes into fixtures.
        open_settings: settings whose names sound like a secret, and which are none.
        lacks: {what its vendor has not: why}; the tests of it are skipped and say so. What may stand there is told
            where a test asks for it.
    """

    adapter: ClassVar[type[Adapter]]
    settings: ClassVar[Mapping[str, Any]] = {}
    fixtures: ClassVar[Path]
    account: ClassVar[Mapping[str, Any]] = {}
    memory: ClassVar[Mapping[str, Any]] = {}
    volatile: ClassVar[Sequence[str]] = ()
    headers: ClassVar[Sequence[str]] = ("content-type",)
    open_settings: ClassVar[Sequence[str]] = ()
    lacks: ClassVar[Mapping[str, str]] = {}

    folder: Path
    patch: pytest.MonkeyPatch
    caplog: pytest.LogCaptureFixture
    updates: bool
    kept: dict[str, Any]
    notes: list[tuple[str, object]]
    #: whether something can be kept where adapters are made
    has_memory = True
    error: AdapterError | ConfigError

    # --- what a test file may say otherwise -------------------------------------------------------------------------

    def pin(self, adapter: Any) -> None:
        """Fix what would differ from run to run: the clock of `now`. An adapter's nonces are its test's to fix.

        Called before `open`; whoever overrides it calls it too.
        """
        adapter.clock = lambda: NOW

    # --- making and running -----------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _at_work(
        self,
        request: pytest.FixtureRequest,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.folder, self.patch, self.caplog = tmp_path, monkeypatch, caplog
        self.kept, self.notes = {}, request.node.user_properties
        self.updates = bool(request.config.getoption("crmkit_update", False))
        caplog.set_level(logging.DEBUG)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each fixture, or each webhook."""
        if not hasattr(type(self), "adapter"):
            return
        for name, wanted in (("sample", None), ("webhook", "webhook")):
            if name in metafunc.fixturenames:
                found = [pytest.param(one, id=one.name) for one in self.samples(*([wanted] if wanted else []))]
                reason = f"{self.adapter.name} has no fixtures" + (" of webhooks" if wanted else "")
                metafunc.parametrize(name, found or [pytest.param(None, marks=pytest.mark.skip(reason=reason))])

    @classmethod
    def samples(cls, *given: str) -> list[Fixture]:
        """The fixtures, or those where one of these was given."""
        every = fixtures(cls.fixtures) if hasattr(cls, "fixtures") else []
        return [one for one in every if not given or one.given in given]

    def make(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        sample: Fixture | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> Any:
        """The adapter as crmkit makes it, not opened.

        Args:
            transport: answers instead of the network, which nothing may be asked of where it is None.
            settings: changes to the contract's.
            sample: whose `settings`, `account` and `memory` it is made with.
            http: a client instead.
        """
        document = sample.document if sample is not None else {}
        told_settings = {**self.settings, **document.get("settings", {}), **(settings or {})}
        place = {"timezone": "UTC", "currency": None, "region": None, **self.account, **document.get("account", {})}
        place.setdefault("webhook_url", f"https://crm.example.com/webhooks/{self.adapter.name}")
        account = Account(name=f"our-{self.adapter.name}", folder=self.folder, **place)
        made = self.adapter(
            self.adapter.Settings.model_validate(told_settings),  # type: ignore[attr-defined]
            account,
            http or client(transport=transport or _Nobody()),
        )

        async def keep(values: Mapping[str, Any]) -> None:
            self.kept.update(values)

        remembered = {**self.memory, **document.get("memory", {})}
        made.memory = Memory(remembered, keep if self.has_memory else None)
        made.origin = ORIGIN
        self.pin(made)
        return made

    @asynccontextmanager
    async def opened(self, transport: httpx.AsyncBaseTransport | None = None, **options: Any) -> AsyncIterator[Any]:
        """The adapter, open; closed at the end, its client too. Who connects it does not open it before."""
        made = self.make(transport, **options)
        sample = options.get("sample")
        try:
            if sample is None or sample.given != "connect":
                await made.open()
            yield made
        finally:
            await made.close()
            await made.http.aclose()

    async def outcome(self, adapter: Any, sample: Fixture) -> dict[str, Any]:
        """What came of a fixture, as `NAME.json` says it."""
        self.kept = {}
        try:
            came = await self.given(adapter, sample)
        except (AdapterError, ConfigError) as error:
            wait = getattr(error, "retry_after", None)
            self.error = error
            name = type(error).__name__
            came = {"error": name if wait is None else {"error": name, "retry_after": int(wait.total_seconds())}}
        return {**came, **({"kept": self.kept} if self.kept else {})}

    async def given(self, adapter: Any, sample: Fixture) -> dict[str, Any]:
        """What came of a fixture; raises what the adapter raises."""
        if sample.given == "check":
            return {"problems": list(await adapter.check())}
        raise NotImplementedError(f"{sample.path}.json: {self.adapter.name} cannot be given a {sample.given}")

    def plays(self, sample: Fixture) -> Playback:
        """A vendor that answers as a fixture says."""
        return Playback([] if sample.given == "webhook" else sample.exchanges, any_of=self.volatile)

    def play(self, sample: Fixture) -> tuple[dict[str, Any], Playback]:
        """Run a fixture against its exchanges; what came of it, and what was asked."""
        playback = self.plays(sample)

        async def run() -> dict[str, Any]:
            async with self.opened(playback, sample=sample) as adapter:
                return await self.outcome(adapter, sample)

        self.patch.setattr("crmkit.adapters.http.READ_PAUSE", 0.0)
        came = json.dumps(asyncio.run(run())).replace(json.dumps(str(self.folder))[1:-1], "FOLDER")
        return json.loads(came), playback

    def update(self, sample: Fixture, came: Mapping[str, Any], playback: Playback) -> None:
        """Write a fixture anew: what was sent, and what came of it; never what was answered."""
        before_it, was_sent = expected(sample.document), written_exchanges(sample.exchanges)
        if sample.given != "webhook":
            found = {}
            for number, request in playback.answered:
                before = sample.exchanges[number] if number < len(sample.exchanges) else None
                kept_names = {*self.headers, *(name for name, _ in (before.request.headers if before else ()))}
                now = Sent.of(request, kept_names, whole=bool(before and "://" in before.request.target))
                if before is not None and not before.request.differences(now, any_of=self.volatile):
                    continue
                stars = {*self.volatile, *(before.request.stars if before is not None else ())}
                found[number] = Exchange(now.open_to(stars), before.response if before is not None else None)
            sample.exchanges = [found.pop(number, one) for number, one in enumerate(sample.exchanges)]
            sample.exchanges += [one for _, one in sorted(found.items(), key=lambda pair: pair[0])]
        kept = {name: value for name, value in sample.document.items() if name not in Fixture.EXPECTED}
        sample.document = {**kept, **came}
        sample.save()
        is_sent_anew = was_sent != written_exchanges(sample.exchanges)
        what = [change(before_it, came), "its requests are written anew" if is_sent_anew else ""]
        self.notes.append((FIXTURE, (os.path.relpath(sample.path), "; ".join(part for part in what if part))))
        if playback.unanswered:
            pytest.fail(f"{sample.path}.http: say below --- what is answered to {', '.join(playback.unanswered)}")

    def needs(self, topic: str, is_there: bool, why: str) -> None:
        """Skip a test that cannot apply; fail where that was not said.

        Args:
            topic: the key of `lacks` that says so.
            is_there: whether what the test needs is there.
            why: what to do otherwise.
        """
        if topic in self.lacks:
            pytest.skip(f"{self.adapter.name}: {self.lacks[topic]}")
        if not is_there:
            pytest.fail(f"{self.adapter.name}: {why}")

    # --- settings ---------------------------------------------------------------------------------------------------

    def test_settings_hide_their_secrets(self) -> None:
        """Neither shown, nor dumped, nor told in what is wrong with the others."""
        made: BaseModel = self.adapter.Settings.model_validate(dict(self.settings))  # type: ignore[attr-defined]
        secrets = list(secrets_in(made))
        for name in type(made).model_fields:
            value = getattr(made, name)
            sounds = any(word in name.lower() for word in _TELLING) and name not in self.open_settings
            if sounds and isinstance(value, str):
                pytest.fail(f"{self.adapter.name}: the setting {name} is shown; make it a SecretStr")
        shown = "\n".join([repr(made), str(made), str(made.model_dump()), made.model_dump_json()])
        assert told(shown, secrets) == [], f"{self.adapter.name}: its settings show a secret"
        for name in type(made).model_fields:
            for wrong in _WRONG:
                found = "\n".join(self._problems({**self.settings, name: wrong}))
                assert told(found, secrets) == [], f"{self.adapter.name}: what is wrong with {name} shows a secret"

    def test_settings_name_what_is_missing(self) -> None:
        """Each required setting left out, and one too many."""
        model: type[BaseModel] = self.adapter.Settings  # type: ignore[attr-defined]
        required = [field.alias or name for name, field in model.model_fields.items() if field.is_required()]
        for name in required:
            left = {key: value for key, value in self.settings.items() if key != name}
            found = self._problems(left)
            assert any(name in line and "missing" in line for line in found), f"without {name}: {found}"
        found = self._problems({**self.settings, "nonsense_key": 1})
        assert any("nonsense_key" in line for line in found), f"an unknown setting is taken: {found}"
        assert self._problems(self.settings) == [], "the contract's own settings are wrong"

    def _problems(self, values: Mapping[str, Any]) -> list[str]:
        """What `crmkit config check` says of settings."""
        model: type[BaseModel] = self.adapter.Settings  # type: ignore[attr-defined]
        try:
            model.model_validate(dict(values))
        except ValidationError as error:
            document = Document(self.folder / "crmkit.toml", "", {}, {})
            return [str(one) for one in document.problems_of(error, ("section",), model)]
        except Exception as error:  # a validator that raises what it should not
            return [str(error)]
        return []

    # --- fixtures ---------------------------------------------------------------------------------------------------

    def test_a_fixture_gives_its_requests_and_what_is_expected(self, sample: Fixture) -> None:
        """Method, address, query, headers that stand there and body; and the receipt, the records or the error."""
        came, playback = self.play(sample)
        if self.updates:
            self.update(sample, came, playback)
            return
        assert [*playback.problems, *playback.missing] == [], f"{sample.path}.http"
        right = expected(sample.document)
        assert right, f"{sample.path}.json expects nothing; run pytest --update and look at what it writes"
        assert _comparable(came, right) == _comparable(right, right), f"{sample.path}.json"

    def test_what_a_fixture_raises_names_account_and_operation(self, sample: Fixture) -> None:
        came, _ = self.play(sample)
        if "error" not in came:
            pytest.skip("it raises nothing")
        self.names_its_place(self.error)

    def names_its_place(self, error: AdapterError | ConfigError) -> None:
        """Fail unless an error names the account and what it was doing."""
        name = f"our-{self.adapter.name}"
        assert error.who == name, f"{error!s}: who it is of is {error.who!r}, and should be {name!r}"
        assert error.operation, f"{error!s}: does not say what it was doing"

    def test_nothing_personal_and_no_secret_is_told(self, sample: Fixture) -> None:
        """Not in logs, not in errors, not in what a receipt says, not by showing the adapter."""
        came, _ = self.play(sample)
        made = self.make(sample=sample)
        secrets = [*secrets_in(made.settings), *texts_in(dict(made.memory)), *texts_in(came.get("kept", {}))]
        error = getattr(self, "error", None)
        shown = "\n".join([self.logged(), repr(made), str(made), *([str(error), repr(error)] if error else [])])
        shown += "\n".join(str(one.get("detail")) for one in _receipts(came))
        assert told(shown, secrets) == [], f"{sample.path}: a secret is told"
        assert told(shown, self.personal(sample, came)) == [], f"{sample.path}: somebody's data are told"
        if sample.given != "webhook":
            said = {name: value for name, value in came.items() if name != "kept"}
            assert told(str(said), secrets) == [], f"{sample.path}: a secret is in what came of it"

    def logged(self) -> str:
        """Everything that was logged, with what it was made from."""
        parts = []
        for record in self.caplog.records:
            parts += [record.getMessage(), repr(record.args), str(record.exc_text or ""), str(record.__dict__)]
        return "\n".join(parts)

    def personal(self, sample: Fixture, came: Mapping[str, Any]) -> list[str]:
        """What of a fixture is somebody's own."""
        found = []
        for record in came.get("records", ()):
            buyer = record.get("buyer") or {}
            found += [buyer.get(name) for name in ("name", "email", "phone")]
            found += [one["value"] for one in buyer.get("addresses", ())]
            found += [(record.get(name) or {}).get("value") for name in ("sender", "address")]
            found += [record.get(name) for name in ("text", "note", "wording")]
            found += list(texts_in(record.get("ship_to") or {}))
        return [one for one in found if one and len(one) >= 6]

    # --- opening and closing ----------------------------------------------------------------------------------------

    def test_it_closes_whatever_became_of_opening_it(self) -> None:
        """The host closes an adapter whose `open` failed, and one that was never opened."""

        async def run() -> None:
            made = self.make()
            await made.close()
            await made.http.aclose()
            made = self.make(httpx.MockTransport(_broken))
            try:
                await made.open()
            except AdapterError as error:
                self.names_its_place(error)
            await made.close()
            await made.http.aclose()
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert left == [], f"{self.adapter.name} leaves tasks behind: {left}"

        asyncio.run(run())


# --- writing what came ------------------------------------------------------------------------------------------------


def written(record: Record) -> dict[str, Any]:
    """A record as a fixture has it: what it says, and no more."""
    return {"record": record.kind, **record.model_dump(mode="json", exclude_unset=True)}


def written_all(found: Iterable[Any], key: str = "records") -> dict[str, Any]:
    """Records, hints and refusals as a fixture has them."""
    records, refused = [], []
    for one in found:
        if isinstance(one, Refused):
            refused.append({"kind": one.kind, "place": one.place, "reason": one.reason})
        elif isinstance(one, Record):
            records.append(written(one))
        elif isinstance(one, Reread):
            records.append({"reread": one.kind, "external_id": one.external_id})
        else:
            raise AssertionError(f"{one!r} is no record, no Reread and no Refused")
    return {key: records, **({"refused": refused} if refused else {})}


def _receipts(came: Mapping[str, Any]) -> list[dict[str, Any]]:
    every = [came.get("receipt"), *came.get("receipts", ()), *came.get("records", ())]
    return [one for one in every if one]


def _comparable(came: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """What came, with what an expectation leaves open left out."""
    found = {name: value for name, value in came.items() if name in expected or name not in {"cursor", "kept"}}
    error = found.get("error")
    if isinstance(error, dict) and isinstance(expected.get("error"), str):
        found["error"] = error["error"]
    return found


def _broken(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody is there", request=request)


class _Nobody(httpx.AsyncBaseTransport):
    """Fails a test that asks a vendor where none may be asked."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"{request.method} {request.url.path} was asked where nothing may be asked")


#: Runs something asynchronous to its end.
def runs(step: Callable[[], Awaitable[T]]) -> T:
    """What a coroutine function gives, in a loop of its own."""

    async def run() -> T:
        return await step()

    return asyncio.run(run())


__all__ = ["NOW", "AdapterContract", "SecretStr", "runs", "spellings", "written", "written_all"]
