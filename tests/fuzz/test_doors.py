"""Doors and parsers of every shipped adapter: strangers are never let in, and what cannot be read is said to be so."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit import Call, PayloadError, PluginError, Record, Ref, Refused, Reply, Verified
from crmkit.adapters.adapter import Adapter
from tests.fuzz.shipped import ADDRESSED, FORMS, HOOK, NOW, SAMPLES, SHIPPED, adapter, installed, twilio_call
from tests.fuzz.strange import bodies, bytes_of, changed_bytes, changed_documents, texts
from tests.fuzz.tally import Clock, fuzzed
from tests.web.conftest import Town

pytestmark = pytest.mark.fuzz

NAMES = [
    "x-wc-webhook-signature", "x-wc-webhook-topic", "x-wc-webhook-delivery-id", "x-wc-webhook-source", "content-type",
    "x-twilio-signature", "x-twilio-webhooks-signature-settings", "x-sign", "authorization", "content-encoding",
]  # fmt: skip
KINDS = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain", ""]
calls = st.builds(
    Call,
    body=bodies,
    headers=st.dictionaries(st.one_of(st.sampled_from(NAMES), texts), st.one_of(st.sampled_from(KINDS), texts)),
    url=st.one_of(st.just(HOOK), texts.map(lambda text: f"{HOOK}?{text}"), texts),
    query=texts,
    path_secret=texts,
    received_at=st.datetimes(timezones=st.just(NOW.tzinfo)),
    method=st.sampled_from(["POST", "GET"]),
)


def test_every_adapter_that_is_shipped_is_fuzzed() -> None:
    assert set(SHIPPED) == installed()


@pytest.mark.parametrize("name", SHIPPED)
def test_no_stranger_is_let_in(name: str) -> None:
    it, clock = adapter(name), Clock("calls of strangers to doors")

    @fuzzed()
    @given(calls)
    def strange(call: Call) -> None:
        if clock.goes():
            try:
                found = it.verify(call)
            except PluginError:
                return
            assert isinstance(found, Reply), call

    strange()


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_a_signed_call_that_was_changed_is_not_let_in(number: int) -> None:
    name, signed, body = SAMPLES[number]
    it, good, clock = adapter(name), signed(body), Clock("signed calls, changed")
    assert isinstance(it.verify(good), Verified)

    @fuzzed()
    @given(changed_bytes(body))
    def changed(other: bytes) -> None:
        if clock.goes() and other != body:
            assert isinstance(it.verify(dataclasses.replace(good, body=other)), Reply)

    changed()


@pytest.mark.parametrize("number", range(len(FORMS)))
def test_a_signed_form_that_was_changed_is_not_let_in(number: int) -> None:
    it, good, clock = adapter("sms.twilio"), twilio_call(FORMS[number]), Clock("signed calls, changed")
    assert isinstance(it.verify(good), Verified)

    @fuzzed()
    @given(changed_bytes(good.body))
    def changed(other: bytes) -> None:
        if clock.goes() and isinstance(it.verify(dataclasses.replace(good, body=other)), Verified):
            said = sorted(set(parse_qsl(other.decode(), keep_blank_values=True)))
            # Twilio signs names and values without what is between them: "Not protected against" in docs/security.md
            assert "".join(map("".join, said)) == "".join(map("".join, sorted(FORMS[number].items())))

    changed()


def _read(it: Adapter, call: Call) -> list[Any]:
    """What a parser says: records, refusals, hints; or nothing, where it says that it cannot read it."""
    try:
        found = list(it.records(call))
    except PayloadError:
        return []
    except NotImplementedError:
        return []
    assert all(isinstance(one, Record | Ref | Refused) for one in found)
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_parsers_say_what_they_cannot_read(name: str) -> None:
    it, clock = adapter(name), Clock("parsers on arbitrary bodies")

    @fuzzed()
    @given(calls)
    def arbitrary(call: Call) -> None:
        if clock.goes():
            _read(it, call)

    arbitrary()


@pytest.mark.parametrize("number", range(len([*SAMPLES, *ADDRESSED])))
def test_parsers_read_or_refuse_what_a_vendor_changed(number: int) -> None:
    name, signed, body = [*SAMPLES, *ADDRESSED][number]
    it, clock = adapter(name), Clock("parsers on changed samples")
    document = json.loads(body)

    @fuzzed()
    @given(st.one_of(changed_documents(document).map(bytes_of), changed_bytes(body)))
    def changed(other: bytes) -> None:
        if clock.goes():
            _read(it, signed(other))

    changed()


@fuzzed()
@given(st.sampled_from(FORMS), st.dictionaries(st.sampled_from(sorted({n for f in FORMS for n in f})), texts))
def test_parsers_read_or_refuse_a_form_a_vendor_changed(form: dict[str, str], changes: dict[str, str]) -> None:
    if FORM_CLOCK.goes():
        body = urlencode({**form, **changes}, errors="surrogatepass").encode()
        _read(adapter("sms.twilio"), dataclasses.replace(twilio_call(form), body=body))


FORM_CLOCK = Clock("parsers on changed samples")


@pytest.fixture
def stall(migrated_url: str, tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path / "town", migrated_url)
    yield town
    town.store.close()


def test_what_a_parser_made_of_anything_can_be_taken_in(stall: Town) -> None:
    clock, documents = Clock("records of changed samples taken in"), [json.loads(body) for _, _, body in SAMPLES[:2]]
    it, signed = adapter(SAMPLES[0][0]), SAMPLES[0][1]

    @fuzzed(0.5)
    @given(st.sampled_from(documents).flatmap(changed_documents))
    def changed(document: Any) -> None:
        if clock.goes():
            found = _read(it, signed(bytes_of(document)))
            stall.take(*(one for one in found if isinstance(one, Record)))

    changed()
