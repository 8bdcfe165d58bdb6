"""Files of exchanges: what is written is read as it was, and a difference is told by its place."""

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.testing.exchange import Answer, Exchange, Fixture, Sent, exchanges, fixture, fixtures, written

FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
JSON = (("Content-Type", "application/json"),)


@given(st.lists(st.tuples(st.binary(max_size=60), st.none() | st.binary(max_size=60)), min_size=1, max_size=4))
def test_what_is_written_is_read_as_it_was(bodies: list[tuple[bytes, bytes | None]]) -> None:
    several = [
        Exchange(Sent("POST", "/a?b=c", JSON, sent), None if came is None else Answer(200, JSON, came))
        for sent, came in bodies
    ]
    assert exchanges(written(several)) == several


@pytest.mark.parametrize(
    "body", [b"---", b"a\n---\nb", b"\\---\n===", b"\n\nx\n\n", b"a\r\nb", b"\xff\x00", "嗨 👋".encode()]
)
def test_a_body_may_hold_separators_blank_lines_and_bytes(body: bytes) -> None:
    several = [Exchange(Sent("POST", "/", (), body), Answer(200, (), body)), Exchange(Sent("GET", "/2"), Answer(204))]
    assert exchanges(written(several)) == several


def test_a_file_written_by_hand_is_read() -> None:
    text = b'POST /send\nContent-Type: application/json\n\n{"a": 1}\n---\n200\nX-A: b: c\n\n{}\n'
    text += b"===\n\nGET /b HTTP/1.1\n---\nHTTP/1.1 404\n"
    first, second = exchanges(text)
    assert first == Exchange(Sent("POST", "/send", JSON, b'{"a": 1}'), Answer(200, (("X-A", "b: c"),), b"{}"))
    assert second == Exchange(Sent("GET", "/b"), Answer(404))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"hello\n---\n200\n", "exchange 1, request: 'hello' should be like"),
        (b"GET /\n---\nfine\n", "exchange 1, response: 'fine' should be like"),
        (b"GET /\n---\n200\n===\nGET /\nnonsense\n", "exchange 2, request: 'nonsense' is no header"),
        (b"GET /\n---\n200\n---\n200", "two lines of ---"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_by_its_place(text: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).*") as raised:
        exchanges(text, "a.http")
    assert told in str(raised.value)
    assert str(raised.value).startswith("a.http")


def sent(body: bytes, headers: tuple[tuple[str, str], ...] = JSON, target: str = "/send?a=1&b=2") -> Sent:
    return Sent("POST", target, headers, body)


def test_json_is_compared_by_what_it_says() -> None:
    expected = sent(b'{"a": {"b": [1, "2"]}, "c": null}')
    assert expected.differences(sent(b'{"c":null,"a":{"b":[1,"2"]}}')) == []
    assert expected.differences(sent(b'{"c":null,"a":{"b":[1,2]}}')) == ["body a b 1: 2 instead of '2'"]
    assert expected.differences(sent(b'{"a":{"b":[1,"2"],"d":0},"c":null}')) == ["body a d: 0, which is not expected"]
    assert expected.differences(sent(b"[]")) != []
    assert expected.differences(sent(b"no json")) != []


def test_a_form_and_a_query_are_compared_by_what_they_say() -> None:
    expected = sent(b"to=%2B49&text=a+b", FORM)
    assert expected.differences(sent(b"text=a%20b&to=%2b49", FORM, "/send?b=2&a=1")) == []
    assert expected.differences(sent(b"text=a%20b", FORM)) == ["body to: missing"]
    assert expected.differences(sent(b"to=%2B49&text=a+b", FORM, "/send?a=1&b=3")) == ["query b: '3' instead of '2'"]


def test_a_star_stands_for_any_value_but_none() -> None:
    expected = sent(b"sign=*&a=1", (*FORM, ("X-Nonce", "*")))
    assert expected.differences(sent(b"sign=abc&a=1", (*FORM, ("x-nonce", "7")))) == []
    assert expected.differences(sent(b"sign=&a=1", (*FORM, ("x-nonce", "7")))) == ["body sign: '' instead of '*'"]
    assert expected.differences(sent(b"sign=x&a=1", FORM)) == ["header X-Nonce: missing"]
    assert sent(b"sign=1&a=1", FORM).differences(sent(b"sign=2&a=1", FORM), any_of=["Sign"]) == []


def test_headers_that_do_not_stand_there_do_not_matter_and_a_host_does_where_it_is_named() -> None:
    assert Sent("GET", "/a").differences(Sent("GET", "https://v.example/a", (("Accept", "*/*"),))) == []
    told = Sent("GET", "https://v.example/a").differences(Sent("GET", "https://w.example/a"))
    assert told == ["host: https://w.example instead of https://v.example"]


def test_a_request_is_kept_with_the_headers_that_matter() -> None:
    request = httpx.Request("POST", "https://v.example/a?b=%2B1", headers={"x-key": "k", "accept": "x"}, content=b"{}")
    assert Sent.of(request, ["X-Key"]) == Sent("POST", "/a?b=%2B1", (("X-Key", "k"),), b"{}")
    assert Sent.of(request, whole=True).target == "https://v.example/a?b=%2B1"


def test_a_fixture_is_saved_and_found_with_what_was_given(tmp_path: Path) -> None:
    made = Fixture("accepted", tmp_path / "acme", {"message": {}, "receipt": {"outcome": "accepted"}})
    made.exchanges = [Exchange(Sent("GET", "/"), Answer(200))]
    made.save()
    Fixture("refused-here", tmp_path / "acme", {"message": {"text": "名"}}).save()
    first, second = fixtures(tmp_path / "acme")
    assert first == made
    assert (second.given, second.exchanges) == ("message", [])
    assert json.loads((tmp_path / "acme/refused-here.json").read_text("utf-8")) == {"message": {"text": "名"}}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"recipt": {}}, "'recipt' is nothing a fixture says"),
        ({"receipt": {}}, "nothing is given"),
        ({"message": {}, "read": []}, "message and read is given"),
    ],
)
def test_a_fixture_says_what_was_given_once(tmp_path: Path, document: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        _ = Fixture("a", tmp_path, document).given


def test_a_request_alone_is_a_webhook(tmp_path: Path) -> None:
    (tmp_path / "delivered.http").write_text("POST /webhooks/a\n\n{}\n")
    assert fixture(tmp_path / "delivered").given == "webhook"


def test_what_stood_for_any_value_still_does_when_a_fixture_is_rewritten() -> None:
    before = Sent("POST", "/a?sign=*", (*FORM, ("X-Nonce", "*")), b"time=*&a=1")
    assert before.stars == {"sign", "X-Nonce", "time"}
    now = Sent("POST", "/a?sign=s%2B&b=%C3%BC", (*FORM, ("X-Nonce", "7")), b"time=5&a=2")
    assert now.open_to(before.stars) == Sent("POST", "/a?sign=*&b=%C3%BC", before.headers, b"time=*&a=2")
    told = Sent("POST", "/", JSON, '{"Nonce": 1, "name": "ü"}'.encode()).open_to({"nonce"})
    assert (told.body.decode(), told.stars) == ('{"Nonce": "*", "name": "ü"}', {"Nonce"})
