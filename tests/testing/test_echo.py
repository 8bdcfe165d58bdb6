"""Answers that repeat what was sent, texts in XML, and a vendor that is handed several messages at once."""

import asyncio

import httpx
import pytest

from crmkit.testing import Answer, Exchange, GatewayContract, Sent
from crmkit.testing.crowd import Crowd, numbered
from crmkit.testing.echo import echoed, values_of

JSON = [("Content-Type", "application/json")]


def sent(body: str, target: str = "/send") -> Sent:
    return Sent("POST", target, (), body.encode())


@pytest.mark.parametrize(
    ("request_", "answer", "other", "right"),
    [
        ('{"reference": "31:care"}', '{"reference": "31:care"}', '{"reference": "9é"}', b'{"reference": "9\\u00e9"}'),
        ('[{"ref": "31:care"}]', '{"31:care": {"id": 1}}', '[{"ref": "931"}]', b'{"931": {"id": 1}}'),
        ("to=861234&ref=31%3Acare", '{"to": 861234}', "to=867777&ref=x", b'{"to": 867777}'),
        (
            "<m ref='31:care'/>",
            "<taken ref='31:care' of='31:careful'/>",
            "<m ref='9'/>",
            b"<taken ref='9' of='31:careful'/>",
        ),
        ('{"code": "100"}', '{"code": "100"}', '{"code": "200"}', b'{"code": "100"}'),
        ('{"reference": "31:care"}', '{"id": "31:care-1"}', '{"reference": "9"}', b'{"id": "31:care-1"}'),
    ],
    ids=["value", "name", "number", "xml", "too short to be told", "part of another"],
)
def test_an_answer_repeats_what_it_is_given_to(request_: str, answer: str, other: str, right: bytes) -> None:
    assert echoed(Exchange(sent(request_), Answer(200, JSON, answer.encode())), sent(other)).body == right


def test_every_value_of_a_request_has_its_place() -> None:
    found = dict(values_of(sent("values=%7B%22no%22%3A%20%221017%22%7D&b=2", "/send/17?key=k")))
    address = {"path 0": "", "path 1": "send", "path 2": "17", "query key": "k"}
    assert found == address | {"body values no": "1017", "body b": "2"}


def test_a_text_in_xml_is_read_as_xml() -> None:
    held = GatewayContract()
    text = 'Ann & Bob <b>"left"</b>'
    written = "<send to='1'><text>Ann &amp; Bob &lt;b&gt;\"left\"&lt;/b&gt;</text></send>"
    assert held.says(sent(written), text)
    assert held.says(sent("<send text='Ann &amp; Bob'/>"), "Ann & Bob")
    assert not held.says(sent("<send><text>Ann &amp;amp; Bob</text></send>"), "Ann & Bob")


def test_a_crowd_is_answered_late_the_last_first_each_with_a_number() -> None:
    exchange = Exchange(sent('{"to": "a001"}'), Answer(200, JSON, b'{"id": "SM0f7", "to": "a001"}'))
    crowd = Crowd([exchange], ["SM0f7"], 3)
    came: list[tuple[str, str]] = []

    async def ask(http: httpx.AsyncClient, to: str) -> None:
        told = (await http.post("https://vendor.example/send", json={"to": to})).json()
        came.append((told["to"], told["id"]))

    async def run() -> None:
        async with httpx.AsyncClient(transport=crowd) as http:
            await asyncio.gather(*(ask(http, f"b00{n}") for n in range(1, 4)))

    asyncio.run(run())
    assert [to for to, _ in came] == ["b003", "b002", "b001"]
    numbers = {dict(values_of(one))["body to"]: number for one, number in crowd.taken}
    assert dict(came) == {to: numbered("SM0f7", number) for to, number in numbers.items()}
    assert len({numbered("SM0f7", number) for number in range(6)}) == 6
