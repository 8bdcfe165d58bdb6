"""What holds for every page of a customer's own: what it carries, whom it opens for, that looking changes nothing."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import crmkit.web
from crmkit.core.link import PURPOSES, Links, key_of
from crmkit.flow.forget import forget
from crmkit.web.page import HEADERS, LANGUAGES, words
from tests.dump import everything
from tests.web.conftest import KEY, NOON, URL, Town
from tests.web.gallery import ABOUT, NASTY, open_town, path_of, spoil

PAGES = sorted(ABOUT)
#: Pages that take an answer.
ANSWERED = sorted(set(PAGES) - {"order"})
ROOM = Path(crmkit.web.__file__).parent
TEMPLATES = sorted((ROOM / "templates").glob("*.html"))


@pytest.fixture
async def town(migrated_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A town in which every page has something to show."""
    found = open_town(tmp_path / "town", migrated_url)
    async with found.app.router.lifespan_context(found.app), found.client:
        yield found
    found.store.close()


def test_every_purpose_of_a_link_is_shown_here() -> None:
    assert set(PAGES) == set(PURPOSES)


@pytest.mark.parametrize("page", PAGES)
async def test_looking_changes_nothing(town: Town, page: str):
    with town.store.read() as tx:
        before = everything(tx)
    for method in ("GET", "HEAD", "GET"):
        answer = await town.client.request(method, path_of(town, page))
        assert answer.status_code == 200, page
        assert bool(answer.content) == (method == "GET")
        assert "set-cookie" not in answer.headers
    with town.store.read() as tx:
        assert everything(tx) == before


@pytest.mark.parametrize("page", PAGES)
async def test_it_is_kept_by_nobody_framed_by_nobody_and_loads_nothing_from_elsewhere(town: Town, page: str):
    path = path_of(town, page)
    for answer in (
        await town.client.get(path),
        await town.client.get(path[:-1] + "A"),
        await town.client.post(path, content=b"x" * 100_000),
        await town.client.put(path),
    ):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (answer.status_code, name)
        loaded = re.findall(r'(?:src|<link[^>]*href)="?([^"\s>]+)', answer.text)
        assert [one for one in loaded if not one.startswith(("/static/", "data:,"))] == []
        assert not re.search(r"<script|\son\w+=|style=|javascript:", answer.text)


@pytest.mark.parametrize("page", PAGES)
async def test_its_address_is_in_no_link_to_elsewhere(town: Town, page: str):
    path = path_of(town, page)
    text = (await town.client.get(path)).text
    token = path.rpartition("/")[2]
    for href in map(unescape, re.findall(r'(?:href|action)="([^"]*)"', text)):
        assert token not in href
        assert href.startswith(("?", "#", "/static/", "data:,", f"{URL}/", "https://carrier.example/")), href


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_it_stays_the_same_page_in_another_language(town: Town, page: str, language: str):
    path = path_of(town, page)
    for answer in (
        await town.client.get(path, params={"lang": language, "page": "1"}),
        await town.client.get(path, headers={"Accept-Language": f"{language};q=0.9"}),
    ):
        assert f'<html lang="{language}">' in answer.text
    other = next(one for one in LANGUAGES if one != language)
    switched = await town.client.get(path, params={"lang": language, "page": "1"})
    assert f'href="?lang={other}&amp;page=1"' in switched.text
    assert len(re.findall("<h1", switched.text)) == 1
    assert re.search(r"<title>[^<]+ · Tea House</title>", switched.text)


@pytest.mark.parametrize("page", PAGES)
async def test_a_link_that_expired_or_was_changed_or_is_anothers_opens_nothing(town: Town, page: str):
    letter, days = PURPOSES[page]
    methods = ("GET", "POST") if page in ANSWERED else ("GET",)
    path = path_of(town, page)
    token = path.rpartition("/")[2]
    for other, _ in PURPOSES.values():
        if other != letter:
            assert (await town.client.get(f"/{other}/{token}")).status_code == 404
    for place in range(0, len(token), 3):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        for method in methods:
            assert (await town.client.request(method, f"/{letter}/{changed}")).status_code == 404, place
    stranger = Links(URL, [key_of("another key, as long as ours")])
    forged = stranger.make(page, town.profile(), town.now, **ABOUT[page]).removeprefix(URL)
    assert (await town.client.get(forged)).status_code == 404
    town.now = NOON + timedelta(days=days)
    assert (await town.client.get(path)).status_code == 200
    town.now = NOON + timedelta(days=days + 1)
    for method in methods:
        answer = await town.client.request(method, path)
        assert answer.status_code == 410
        assert "This link is no longer valid" in answer.text


@pytest.mark.parametrize("page", PAGES)
async def test_the_link_of_who_was_forgotten_is_dead(town: Town, page: str):
    path = path_of(town, page)
    with town.store.begin() as tx:
        forget(tx, town.profile(), now=NOON)
    with town.store.read() as tx:
        before = everything(tx)
    for method in ("GET", "POST") if page in ANSWERED else ("GET",):
        answer = await town.client.request(method, path, data={"act": "all"})
        assert answer.status_code == 410
        assert "1001" not in answer.text
    with town.store.read() as tx:
        assert everything(tx) == before


@pytest.mark.parametrize("page", sorted({*ANSWERED} - {"unsubscribe"}))  # which acts whatever the form says
async def test_a_form_that_is_too_large_or_none_is_refused(town: Town, page: str):
    path = path_of(town, page)
    assert (await town.client.post(path, data={"text": "x" * 70_000})).status_code == 413
    answer = await town.client.post(path, content=b"{}", headers={"content-type": "application/json"})
    assert answer.status_code == 415


@pytest.fixture
def nasty(town: Town) -> Town:
    """A customer, an order and a parcel whose every text wants to be more than text."""
    spoil(town)
    return town


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_what_others_wrote_is_text_and_nothing_else(nasty: Town, page: str, language: str):
    answer = await nasty.client.get(path_of(nasty, page), params={"lang": language, "x": NASTY})
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert "javascript:" not in answer.text
    assert not re.search(r"<[^>]*\sonload=", re.sub(r'"[^"]*"', '""', answer.text))
    assert "49" not in re.sub(r'"[^"]*"', '""', answer.text)
    if page in ("order", "statement", "contact"):  # in a sentence, without what would turn its direction
        assert NASTY.replace("\u202e", "") in unescape(answer.text)
    if page in ("order", "statement"):
        assert NASTY in unescape(answer.text)
        assert "99,999,999,999,999.99" in answer.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    page=st.sampled_from(PAGES),
    query=st.dictionaries(st.sampled_from(["lang", "page", "x"]), st.text(max_size=20), max_size=3),
    form=st.dictionaries(
        st.sampled_from(["act", "entry", "text", "is", "shown", "score", "speak", "none", "kind", "value", "code"]),
        st.lists(st.text(max_size=30), max_size=3),
        max_size=4,
    ),
)
async def test_no_form_and_no_query_breaks_a_page(town: Town, page: str, query: Any, form: Any):
    path = path_of(town, page)
    assert (await town.client.get(path, params=query)).status_code == 200
    assert (await town.client.post(path, params=query, data=form)).status_code < 500


# --- words


@pytest.mark.parametrize("page", [*PAGES, "none"])
async def test_every_page_leads_to_the_privacy_policy_and_to_the_shop_where_they_are(town: Town, page: str):
    path = "/o/AAAA" if page == "none" else path_of(town, page)
    assert "<footer>" not in (await town.client.get(path)).text
    town.host.config.web.privacy = "https://tea.example/privacy?a=1&b=2"
    town.host.config.web.contact = "mailto:shop@tea.example"
    said = (await town.client.get(path)).text
    assert 'href="https://tea.example/privacy?a=1&amp;b=2" rel="noreferrer noopener">Privacy</a>' in said
    assert said.count('href="mailto:shop@tea.example"') >= 1


async def test_who_is_told_to_write_to_the_shop_is_led_there(town: Town):
    town.host.config.web.contact = "mailto:shop@tea.example"
    path = path_of(town, "order")
    town.now += timedelta(days=500)
    said = (await town.client.get(path)).text
    assert "or write to the shop" in said
    assert said.count('href="mailto:shop@tea.example"') == 2


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_language_says_the_same_with_the_same_places() -> None:
    said = {
        language: {
            f"{section}.{name}": places(text)
            for section, named in words(language).items()
            for name, text in named.items()
        }
        for language in LANGUAGES
    }
    for language in LANGUAGES:
        assert said[language] == said["en"], language


def test_every_word_that_is_used_exists_and_every_word_that_exists_is_used() -> None:
    there = {f"{section}.{name}" for section, named in words("en").items() for name in named}
    text = "\n".join(path.read_text("utf-8") for path in [*TEMPLATES, *ROOM.glob("*.py")])
    named = {name for section in words("en") for name in re.findall(rf"""["']({section}\.[\w.-]*)["'{{]""", text)}
    named |= {name for section in words("en") for name in re.findall(rf'"({section}\.[\w-]*)\{{', text)}
    starts = {name for name in named if name.endswith((".", "-"))}
    missing = {name for name in named - starts if name not in there and not name.endswith((".html", ".py"))}
    assert missing == set()
    assert {start for start in starts if not any(name.startswith(start) for name in there)} == set()
    instead = {"none", "page"}  # said by the name of an error, of a language
    unused = {
        name
        for name in there - named
        if name.partition(".")[0] not in instead and not any(name.startswith(start) for start in starts)
    }
    assert unused == set()


# --- how it looks


def colours() -> dict[str, dict[str, str]]:
    text = (ROOM / "static" / "page.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    bright = dict(re.findall(r"--([\w-]+): (#\w{6})", light))
    return {"light": bright, "dark": {**bright, **dict(re.findall(r"--([\w-]+): (#\w{6})", dark))}}


def brightness(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough_to_read_by_day_and_night(scheme: str) -> None:
    """WCAG 2.2 AA: 4.5 for text, 3 for what is not text."""
    found = colours()[scheme]
    for ink in ("ink", "soft", "accent", "good", "warn"):
        for ground in ("paper", "ground"):
            assert contrast(found[ink], found[ground]) >= 4.5, (ink, ground)
    assert contrast(found["on-accent"], found["accent"]) >= 4.5
    assert contrast(found["edge"], found["paper"]) >= 3


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_template_keeps_to_the_rules_of_pages(path: Path) -> None:
    text = path.read_text("utf-8")
    assert path.name == "base.html" or text.startswith('{% extends "base.html" %}')
    assert not re.search(r"\|\s*safe|autoescape|<script|<style|\sstyle=|<img|<iframe|target=", text)


def test_a_key_that_was_changed_still_opens_links_made_with_it() -> None:
    old, new = key_of(KEY), key_of("the next key of this installation")
    url = Links(URL, [old]).make("order", 1, NOON, subject=2)
    assert Links(URL, [new, old]).read("o", url.rpartition("/")[2], NOON).subject == 2
