"""What is recorded is written without secrets and without persons, however they were written; or not at all."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from crmkit import Gateway, GatewaySettings, Message, Receipt
from crmkit.testing import Recorder, Scrubber, Vendor
from crmkit.testing.exchange import fixture

SECRET, OTHER = "s3cr/et+of=the shop€", "another-secret-0815"
ANN, PHONE, MAIL = "Ann Quillfeather", "+447911123456", "ann@quillfeather.co.uk"
MADE_UP = {"token": "made-up-token", "password": "made-up-password"}


class BirdGateway(Gateway):
    name = "bird"
    channel = "sms"
    reaches = ("phone",)

    class Settings(GatewaySettings):
        token: SecretStr
        password: SecretStr

    async def deliver(self, message: Message) -> Receipt:
        token = self.settings.token.get_secret_value()
        answer = await self.call(
            "deliver",
            "POST",
            f"https://api.bird.example/v1/{quote(token, safe='')}/messages?signature=abc&to={quote(message.address)}",
            json={"to": message.address, "name": ANN, "text": message.text, "password": OTHER},
            auth=("shop", token),
        )
        return message.accepted(vendor_id=answer.json()["id"])


def message(**changes: Any) -> Message:
    told = {"id": 1, "key": "k1", "channel": "sms", "address_kind": "phone", "address": PHONE, "text": "Hello"}
    return Message(**{"purpose": "transactional", "template": "t", "locale": "en", **told, **changes})


def answers(request: httpx.Request) -> httpx.Response:
    """A vendor that repeats what it was told, in every way vendors do."""
    secret = base64.b64encode(f"shop:{SECRET}".encode()).decode()
    told = {
        "id": "v1",
        "to": PHONE,
        "digits": PHONE[1:],
        "mail": MAIL,
        "name": ANN,
        "echo": json.dumps({"name": ANN, "key": SECRET}),
        "basic": secret,
        "link": f"https://bird.example/?to={quote(PHONE)}&k={quote(SECRET, safe='')}",
        "access_token": "never-seen-before",
    }
    headers = {"Set-Cookie": "session=1", "X-Auth-Token": "t", "Server": "bird", "X-For": MAIL}
    return httpx.Response(200, headers=headers, content=json.dumps(told).encode())


async def record(make: Callable[..., Any], path: Path, **options: Any) -> str:
    gateway = make(BirdGateway, {"token": SECRET, "password": OTHER}, at=httpx.MockTransport(answers))
    with Recorder(gateway, settings=MADE_UP, personal=[ANN], **options) as recorder:
        receipt = await gateway.deliver(message())
    recorder.save(path, message={"address": PHONE, "text": "Hello"}, receipt={"outcome": receipt.outcome})
    return read(path, "http") + read(path, "json")


def read(path: Path, ending: str) -> str:
    return Path(f"{path}.{ending}").read_text("utf-8")


async def test_secrets_and_persons_are_replaced_wherever_they_are(make_adapter: Any, tmp_path: Path) -> None:
    written = await record(make_adapter, tmp_path / "bird" / "accepted")
    for value in (SECRET, OTHER, ANN, PHONE, PHONE[1:], MAIL, "never-seen-before", "session=1", "abc", "X-Auth-Token"):
        assert value not in written
        assert quote(value, safe="") not in written
        assert base64.b64encode(value.encode()).decode() not in written
    found = fixture(tmp_path / "bird" / "accepted")
    [exchange] = found.exchanges
    assert exchange.response is not None
    to = quote(found.document["message"]["address"])
    assert exchange.request.target == f"/v1/made-up-token/messages?signature=*&to={to}"
    assert dict(exchange.request.headers) == {"Content-Type": "application/json", "Authorization": "*"}
    told, sent = json.loads(exchange.response.body), json.loads(exchange.request.body)
    assert (sent["name"], told["name"], json.loads(told["echo"])["name"]) == ("Person 1",) * 3
    assert sent["to"] == told["to"] == f"+{told['digits']}" == found.document["message"]["address"]
    assert len(sent["to"]) == len(PHONE)
    assert sent["password"] == "*"
    assert json.loads(told["echo"])["key"] == "made-up-token"
    assert base64.b64decode(told["basic"]).decode() == "shop:made-up-token"
    assert told["link"].endswith("k=made-up-token")
    assert told["mail"] == dict(exchange.response.headers)["X-For"]
    assert told["access_token"] == "made-up"
    assert not {"Server", "Set-Cookie"} & {name for name, _ in exchange.response.headers}


async def test_the_same_value_is_replaced_by_the_same_in_every_exchange(make_adapter: Any, tmp_path: Path) -> None:
    gateway = make_adapter(BirdGateway, {"token": SECRET, "password": OTHER}, at=httpx.MockTransport(answers))
    with Recorder(gateway, settings=MADE_UP, personal=[ANN]) as recorder:
        for address in (PHONE, "+8613800138000", PHONE):
            await gateway.deliver(message(address=address))
    found = recorder.save(tmp_path / "three", messages=[])
    numbers = [json.loads(one.request.body)["to"] for one in found.exchanges]
    assert (numbers[0] == numbers[2], numbers[0] == numbers[1]) == (True, False)
    assert numbers[1].startswith("+861")


async def test_what_is_recorded_answers_as_the_vendor_did(make_adapter: Any, tmp_path: Path) -> None:
    """The fixture is one the contracts read: played back, the adapter says the same again."""
    from crmkit.testing.playback import Playback

    await record(make_adapter, tmp_path / "accepted")
    found = fixture(tmp_path / "accepted")
    playback = Playback(found.exchanges)
    gateway = make_adapter(BirdGateway, MADE_UP, at=playback)
    receipt = await gateway.deliver(message(address=found.document["message"]["address"]))
    assert receipt.vendor_id == "v1"
    assert [one for one in playback.problems if "name" not in one] == []


async def test_a_real_connection_is_recorded_and_so_is_one_that_was_lost(
    make_adapter: Any, vendor: Vendor, tmp_path: Path
) -> None:
    class Plain(BirdGateway):
        async def deliver(self, message: Message) -> Receipt:
            sent = {"reference": message.key}
            answer = await self.call("deliver", "POST", "https://bird.example/messages", json=sent, read=dict[str, str])
            return message.accepted(vendor_id=answer["id"])

    gateway = make_adapter(Plain, {"token": SECRET, "password": OTHER}, at=vendor)
    with Recorder(gateway) as recorder:
        assert (await gateway.deliver(message())).vendor_id == "v1"
        vendor.fail("close-taken")
        with pytest.raises(Exception, match="the connection was lost without an answer"):
            await gateway.deliver(message())
    found = recorder.save(tmp_path / "two")
    assert [one.response is None for one in found.exchanges] == [False, True]
    await gateway.http.aclose()


async def test_nothing_is_written_where_a_secret_survives(make_adapter: Any, tmp_path: Path) -> None:
    def shouting(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"id": "v1", "was": OTHER.upper()})

    gateway = make_adapter(BirdGateway, {"token": SECRET, "password": OTHER}, at=httpx.MockTransport(shouting))
    with Recorder(gateway, settings=MADE_UP) as recorder:
        await gateway.deliver(message())
    with pytest.raises(ValueError, match="'made-up-password' would still be told in loud") as raised:
        recorder.save(tmp_path / "loud", message={})
    assert OTHER not in str(raised.value)
    assert not is_written(tmp_path / "loud")


async def test_a_secret_that_is_no_secret_cannot_be_scrubbed(make_adapter: Any, tmp_path: Path) -> None:
    gateway = make_adapter(BirdGateway, {"token": "abc", "password": OTHER}, at=httpx.MockTransport(answers))
    with Recorder(gateway) as recorder:
        pass
    with pytest.raises(ValueError, match="a value of 3 characters"):
        recorder.save(tmp_path / "short")


def is_written(path: Path) -> bool:
    return Path(f"{path}.http").exists() or Path(f"{path}.json").exists()


# --- as a property ----------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "percent": lambda text: quote(text, safe=""),
    "every byte in percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "small percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "json": lambda text: json.dumps(text),
    "every letter in json": lambda text: '"' + "".join(f"\\u{ord(char):04x}" for char in text) + '"',
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "urlsafe": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "basic": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
}


@given(st.lists(st.sampled_from(sorted(WAYS)), min_size=1, max_size=3), st.sampled_from([SECRET, OTHER, "pässwörd-99"]))
def test_however_often_it_is_wrapped_it_is_replaced_or_refused(ways: list[str], secret: str) -> None:
    text = secret
    for way in ways:
        text = WAYS[way](text)
    scrubber = Scrubber({secret: "made-up"})
    clean = scrubber.text(f"before {text} after")
    assert clean != f"before {text} after" or scrubber.survivors(clean), ways
    if not scrubber.survivors(clean):
        unwrapped = clean.removeprefix("before ").removesuffix(" after")
        assert secret not in unwrapped
