"""What an adapter says of itself is held against what it does: each silence, and each word too many, is a failure."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from crmkit import (
    Call,
    Caution,
    ConfigError,
    Gateway,
    GatewaySettings,
    Message,
    Order,
    Page,
    Receipt,
    Record,
    Source,
    SourceSettings,
    Start,
    Verified,
    Wording,
    stream,
)
from crmkit.testing import GatewayContract, SourceContract
from crmkit.testing.contract import AdapterContract
from crmkit.testing.template_contract import FORMS

Hold = Callable[..., Any]
FAILS = (AssertionError, pytest.fail.Exception)


class WrenSource(Source):
    """A source that signs in, and verifies in a way of its own."""

    name = "wren"
    keeps: ClassVar[bool] = True
    minds: ClassVar[bool] = True

    class Settings(SourceSettings):
        secret: SecretStr = SecretStr("s3cret-0123456789")

    def verify(self, call: Call) -> Any:
        return Verified(call.body.decode())

    def records(self, call: Call) -> list[Record]:
        return []

    @stream
    async def orders(self, start: Start) -> AsyncIterator[Page]:
        yield Page((), cursor={"n": 1})
        if self.keeps:
            try:
                await self.memory.keep(token="t0ken-0123456789")
            except ConfigError:
                if self.minds:
                    raise


class Faithful(WrenSource):
    remembers = True


class GoesOn(WrenSource):
    minds = False


class NeverKeeps(WrenSource):
    remembers = True
    keeps = False


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Hold:
    """Makes a contract of an adapter, with fixtures: `{name: document}`, each without exchanges."""

    def make(
        contract: type[AdapterContract], kind: type, documents: dict[str, dict[str, Any]] | None = None, **said: Any
    ) -> Any:
        place = tmp_path / "fixtures"
        place.mkdir(exist_ok=True)
        for name, document in (documents or {}).items():
            (place / f"{name}.json").write_text(json.dumps(document))
        held: Any = type("TestHeld", (contract,), {"adapter": kind, "fixtures": place, **said})()
        held.folder, held.patch, held.caplog, held.updates = tmp_path, monkeypatch, caplog, False
        return held

    return make


# --- whether a time is signed -----------------------------------------------------------------------------------------


def sample_of(held: Any) -> Any:
    return held.samples("webhook")[0]


def test_who_verifies_in_a_way_of_its_own_says_whether_a_time_is_signed(hold: Hold) -> None:
    held = hold(SourceContract, WrenSource, {"hook": {"webhook": {}}})
    with pytest.raises(pytest.fail.Exception, match="write signs_time = True or False in TestHeld"):
        held.test_a_webhook_of_another_day_is_refused(sample_of(held))
    hold(SourceContract, WrenSource, signs_time=False).test_a_webhook_of_another_day_is_refused(sample_of(held))
    with pytest.raises(FAILS, match=r"taken in 1 day\(s\) later"):
        hold(SourceContract, WrenSource, signs_time=True).test_a_webhook_of_another_day_is_refused(sample_of(held))


def test_who_looks_at_a_time_and_says_that_none_is_signed_is_told(hold: Hold) -> None:
    class Timed(WrenSource):
        def verify(self, call: Call) -> Any:
            return super().verify(call) if call.received_at.day == 7 else None

    held = hold(SourceContract, Timed, {"hook": {"webhook": {}}}, signs_time=False)
    with pytest.raises(FAILS, match="write signs_time = True"):
        held.test_a_webhook_of_another_day_is_refused(sample_of(held))


# --- what is remembered -----------------------------------------------------------------------------------------------

READS = {"reads": {"stream": "orders", "records": []}}


@pytest.mark.parametrize("kind", [Faithful, GoesOn])
def test_what_is_declared_and_kept_is_fine_and_so_is_who_can_do_without(hold: Hold, kind: type[Source]) -> None:
    hold(SourceContract, kind, READS).test_what_it_says_that_it_remembers_it_keeps()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (WrenSource, "reads: it keeps token, and where nothing can be kept it comes to .*write remembers = True"),
        (NeverKeeps, "declares remembers, and no fixture shows what it keeps"),
    ],
)
def test_what_is_kept_and_declared_differ(hold: Hold, kind: type[Source], told: str) -> None:
    with pytest.raises(FAILS, match=told):
        hold(SourceContract, kind, READS).test_what_it_says_that_it_remembers_it_keeps()


def test_what_a_person_answers_is_a_fixture(hold: Hold) -> None:
    class Asks(Faithful):
        async def connect(self, ask: Any) -> None:
            await self.memory.keep(token=await ask("name") + await ask("code", secret=True))

    documents = {"connect": {"connect": ["ann", "-17"], "kept": {"token": "ann-17"}}, "less": {"connect": ["ann"]}}
    held = hold(SourceContract, Asks, documents)
    connect, less = held.samples("connect")
    held.test_a_fixture_gives_its_requests_and_what_is_expected(connect)
    with pytest.raises(pytest.fail.Exception, match="what is answered to 'code'"):
        held.play(less)
    connect.document["kept"] = {"token": "another"}
    with pytest.raises(AssertionError):
        held.test_a_fixture_gives_its_requests_and_what_is_expected(connect)


# --- what is said of templates, and what may be said ------------------------------------------------------------------


class LarkGateway(Gateway):
    """Sends approved texts only."""

    name = "lark"
    channel = "sms"
    reaches = ("phone",)
    needs_form = True

    class Settings(GatewaySettings):
        pass

    async def deliver(self, message: Message) -> Receipt:
        return message.accepted()

    def check_template(self, wording: Wording) -> Iterator[str]:
        if wording.form is None or not wording.form.template_id:
            yield "it has no template_id"
        elif len(wording.form.template_id) > 20:
            yield Caution("its template_id is long")


FINE = {"template": {"form": {"template_id": "7"}}, "problems": []}
WRONG = {"template": {"form": {}}, "problems": ["it has no template_id"]}
DOUBTFUL = {"template": {"form": {"template_id": "7" * 21}}, "problems": [], "warnings": ["its template_id is long"]}


def test_what_a_gateway_says_of_templates_is_shown_either_way(hold: Hold) -> None:
    held = hold(GatewayContract, LarkGateway)
    for documents, told in (
        ({}, "no fixture shows a template that it would not send"),
        ({"wrong": WRONG}, "no fixture shows a template that it would send"),
    ):
        held = hold(GatewayContract, LarkGateway, documents)
        with pytest.raises(AssertionError, match=told):
            held.test_what_it_says_of_templates_is_shown()
    held = hold(GatewayContract, LarkGateway, {"fine": FINE, "doubtful": DOUBTFUL})
    held.test_what_it_says_of_templates_is_shown()
    for sample in held.samples():
        held.test_a_fixture_gives_its_requests_and_what_is_expected(sample)
    sample.document["problems"] = []
    with pytest.raises(AssertionError, match="wrong"):
        held.test_a_fixture_gives_its_requests_and_what_is_expected(sample)


@pytest.mark.parametrize("form", FORMS)
def test_a_template_that_brings_a_gateway_down_is_found(hold: Hold, form: str) -> None:
    class Falls(LarkGateway):
        needs_form = False

        def check_template(self, wording: Wording) -> Iterator[str]:
            assert wording.form is not None
            yield {"empty": "", "odd": "it is odd", "long": "it is long"}[form]
            if form == "long":
                raise KeyError(form)

    held = hold(GatewayContract, Falls)
    if form == "odd":
        held.test_of_any_template_it_says_something_in_words(form)
        return
    with pytest.raises((AssertionError, KeyError)):
        held.test_of_any_template_it_says_something_in_words(form)


def test_what_may_be_said_is_shown_either_way_where_a_source_has_an_opinion(hold: Hold) -> None:
    class Strict(WrenSource):
        def may_say(self, order: Order | None, purpose: str, template: str) -> str | None:
            return "no advertising" if purpose == "marketing" and order is None else None

    no: dict[str, Any] = {"may_say": {"purpose": "marketing"}, "said": "no advertising"}
    yes: dict[str, Any] = {"may_say": {"purpose": "marketing", "order": {"number": "7"}}, "said": None}
    with pytest.raises(AssertionError, match="no fixture shows what may not be said"):
        hold(SourceContract, Strict, {"yes": yes}).test_what_may_not_be_said_is_shown()
    held = hold(SourceContract, Strict, {"yes": yes, "no": no})
    held.test_what_may_not_be_said_is_shown()
    for sample in held.samples():
        held.test_a_fixture_gives_its_requests_and_what_is_expected(sample)
    with pytest.raises(AssertionError, match="no may_say"):
        hold(SourceContract, WrenSource).test_what_may_not_be_said_is_shown()
