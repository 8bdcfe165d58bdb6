"""Signed links: bound to a customer, a purpose and a time; changed anywhere they open nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.link import PURPOSES, Link, LinkError, Links, key_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LINKS = Links("https://crm.tea.example/", [key_of("a secret that is long enough")])


def taken_apart(url: str) -> tuple[str, str]:
    letter, token = url.removeprefix("https://crm.tea.example/").split("/")
    return letter, token


@given(
    st.sampled_from(sorted(PURPOSES)),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_a_link_says_what_it_was_made_of(purpose: str, profile: int, subject: int, word: str):
    letter, token = taken_apart(LINKS.make(purpose, profile, NOON, subject=subject, word=word))
    found = LINKS.read(letter, token, NOON)
    assert found == Link(purpose, profile, subject, word, NOON.date() + timedelta(days=PURPOSES[purpose][1]))


@given(st.data())
def test_a_link_changed_anywhere_opens_nothing(data: st.DataObject):
    letter, token = taken_apart(LINKS.make("order", 7, NOON, subject=9))
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("abcXYZ019-_").filter(lambda char: char != token[place]))
    with pytest.raises(LinkError):
        LINKS.read(letter, token[:place] + other + token[place + 1 :], NOON)


@pytest.mark.parametrize("purpose", sorted(set(PURPOSES) - {"order"}))
def test_a_link_opens_no_other_page(purpose: str):
    _, token = taken_apart(LINKS.make("order", 7, NOON, subject=9))
    with pytest.raises(LinkError):
        LINKS.read(PURPOSES[purpose][0], token, NOON)


@given(st.text(max_size=300))
def test_anything_else_opens_nothing(token: str):
    with pytest.raises(LinkError):
        LINKS.read("o", token, NOON)


def test_a_link_expires():
    letter, token = taken_apart(LINKS.make("order", 7, NOON))
    last = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=PURPOSES["order"][1] + 1)
    assert LINKS.read(letter, token, last - timedelta(seconds=1)).profile_id == 7
    with pytest.raises(LinkError) as caught:
        LINKS.read(letter, token, last)
    assert caught.value.is_expired


def test_keys_change_over():
    old, new = key_of("the old secret of the shop"), key_of("the new secret of the shop")
    letter, token = taken_apart(Links("https://crm.tea.example", [old]).make("order", 7, NOON))
    assert Links("https://crm.tea.example", [new, old]).read(letter, token, NOON).profile_id == 7
    with pytest.raises(LinkError):
        Links("https://crm.tea.example", [new]).read(letter, token, NOON)


def test_a_link_is_short_enough_for_a_text_message():
    assert len(LINKS.make("order", 1_000_000, NOON, subject=10_000_000)) <= len("https://crm.tea.example") + 35
