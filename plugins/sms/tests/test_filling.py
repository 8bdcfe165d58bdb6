"""Placeholders: what the server reads is the text, whatever stands in it."""

import json
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit_sms.filling import NAMES, Filling, Tree, escape_for, in_address

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
XML_ABLE = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=200)


@given(ANY, ANY)
def test_in_a_form_it_is_the_text(text, key) -> None:
    fields = Tree.of({"m": "{text}", "k": "<{key}>", "n": 1, "b": True}).fields({"text": text, "key": key})
    body = httpx.Request("POST", "http://127.0.0.1/", data=fields).content.decode()
    assert parse_qs(body, keep_blank_values=True, strict_parsing=True) == {
        "m": [text],
        "k": [f"<{key}>"],
        "n": ["1"],
        "b": ["true"],
    }


@given(ANY)
def test_in_a_query_it_is_the_text(text) -> None:
    fields = Tree.of({"m": "{text}", "many": ["{text}", "x"]}).fields({"text": text})
    query = httpx.Request("GET", "http://127.0.0.1/", params=fields).url.query.decode()
    assert parse_qs(query, keep_blank_values=True, strict_parsing=True) == {"m": [text], "many": [text, "x"]}


@given(ANY)
def test_in_an_address_it_is_one_part_of_the_path(text) -> None:
    url = httpx.URL(Filling.of("http://127.0.0.1/send/{text}/now").fill({"text": text}, in_address))
    path = url.raw_path.decode()
    if text not in {".", ".."}:
        assert [unquote(part, errors="strict") for part in path.split("/")] == ["", "send", text, "now"]


@given(ANY)
def test_in_a_json_table_it_is_a_string_and_other_values_stay_what_they_are(text) -> None:
    tree = Tree.of({"to": ["{text}"], "n": 7, "on": True, "rate": 1.5, "deep": {"m": "a {text} {{b}}"}})
    sent = json.loads(httpx.Request("POST", "http://127.0.0.1/", json=tree.json({"text": text})).content)
    assert sent == {"to": [text], "n": 7, "on": True, "rate": 1.5, "deep": {"m": f"a {text} {{b}}"}}


@given(ANY)
def test_in_json_written_as_text_it_is_a_string(text) -> None:
    filling = Filling.of('{{"m": "{text}", "n": {expires_in}}}')
    escape = escape_for("application/json; charset=utf-8")
    assert json.loads(filling.fill({"text": text, "expires_in": 60}, escape)) == {"m": text, "n": 60}


@given(XML_ABLE)
def test_in_xml_it_is_the_text(text) -> None:
    made = Filling.of("<sms><m>{text}</m></sms>").fill({"text": text}, escape_for("text/xml"))
    assert (ElementTree.fromstring(made).findtext("m") or "") == text


@pytest.mark.parametrize("line", ["a\rb", "a\nb", "a\tb", "a\r\nb"])
def test_line_ends_survive_xml(line) -> None:
    made = Filling.of("<m>{text}</m>").fill({"text": line}, escape_for("application/soap+xml"))
    assert ElementTree.fromstring(made).text == line


def test_what_xml_cannot_hold_is_not_written() -> None:
    with pytest.raises(ValueError, match="XML cannot"):
        Filling.of("<m>{text}</m>").fill({"text": "a\x0bb"}, escape_for("text/xml"))


def test_text_that_looks_like_a_placeholder_is_text() -> None:
    assert Filling.of("{text}").fill({"text": "{key} {{ %7B", "key": "secret"}) == "{key} {{ %7B"


def test_a_name_that_stands_alone_keeps_its_type_and_nothing_is_null_or_left_out() -> None:
    tree = Tree.of({"ttl": "{expires_in}", "shop": "{shop}", "both": "{shop}-{expires_in}", "items": "{params.items}"})
    values = {"expires_in": 60, "shop": None, "params.items": [{"sku": "a"}]}
    assert tree.json(values) == {"ttl": 60, "shop": None, "both": "-60", "items": [{"sku": "a"}]}
    assert tree.fields(values) == {"ttl": "60", "both": "-60", "items": ['{"sku": "a"}']}


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{txt}", "unknown placeholder {txt}; there are {to}, .*{params.NAME}, {secrets.NAME}, and {{ is a brace"),
        ("{}", "unknown placeholder {}"),
        ("{text.upper}", "unknown placeholder"),
        ("{params.}", "unknown placeholder"),
        ("{secrets.token}", "there is no secret 'token' for {secrets.token}; write it under `secrets`"),
        ("a { b", "a single { in 'a { b'; write {{ for the character"),
        ("a } b", "a single } in 'a } b'; write }} for the character"),
        ("{text", "a single {"),
    ],
)
def test_a_wrong_template_is_told(template, told) -> None:
    with pytest.raises(ValueError, match=told.replace("{", r"\{").replace("}", r"\}")):
        Filling.of(template)


@pytest.mark.parametrize("name", [*NAMES, "params.code", "params.a.b"])
def test_every_name_can_be_used(name) -> None:
    assert Filling.of(f"<{{{name}}}>").names == {name}


def test_a_time_is_no_value() -> None:
    import tomllib

    with pytest.raises(ValueError, match="is a date; write it as text"):
        Tree.of(tomllib.loads("at = 2026-05-07"))
