"""Every page of a customer's own in a real browser: phone and desk, both languages, by keyboard alone."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crmkit.store import tables as t
from tests.e2e.browser import DESK, FLAWS, PHONE, SMALL, Reader, program, served, shots
from tests.web import stall
from tests.web.conftest import Town
from tests.web.gallery import ABOUT, open_town, path_of, spoil

pytestmark = pytest.mark.e2e

PAGES = [*sorted(ABOUT), "code", "none"]
LOOKS = {"phone": (PHONE, "light"), "small": (SMALL, "light"), "desk": (DESK, "light"), "dark": (PHONE, "dark")}
Open = Callable[..., Reader]


@pytest.fixture(scope="module")  # its loop runs in this thread, where other modules run theirs
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    found = shots()
    request.config.get_terminal_writer().line(f"\nscreenshots: {found}")
    return found


@pytest.fixture
def town(migrated_url: str, tmp_path: Path) -> Iterator[Town]:
    """A town in which every page has something to show."""
    stall.Post.taken.clear()
    found = open_town(tmp_path / "town", migrated_url)
    yield found
    found.store.close()


@pytest.fixture
def reader(town: Town, chromium: Any) -> Iterator[Open]:
    """Opens pages of the town; in the end nothing may have gone wrong with any."""
    with served(town) as base:
        contexts, readers = [], []

        def opening(page: str, look: str = "phone", language: str = "en") -> Reader:
            (width, height), scheme = LOOKS[look]
            locale = {"en": "en-GB", "zh-CN": "zh-CN"}[language]
            size = {"width": width, "height": height}
            contexts.append(chromium.new_context(viewport=size, color_scheme=scheme, locale=locale))
            found = Reader(contexts[-1].new_page(), base)
            found.watch()
            readers.append(found)
            found.page.goto(f"{base}{address(town, page)}")
            return found

        yield opening
        for context in contexts:
            context.close()
        assert [trouble for one in readers for trouble in one.troubles] == []


def address(town: Town, page: str) -> str:
    if page == "none":
        return "/o/AAAA"
    return f"{path_of(town, 'contact')}/code" if page == "code" else path_of(town, page)


#: How a page looks is not the database's to say.
looks = pytest.mark.parametrize("database_kind", ["sqlite"])


@looks
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_every_page_fits_and_is_named_throughout(reader: Open, folder: Path, look: str, language: str):
    (width, _), _ = LOOKS[look]
    for page in PAGES:
        opened = reader(page, look, language).page
        assert opened.evaluate("document.documentElement.lang") == language, page
        assert opened.evaluate("document.documentElement.scrollWidth") <= width, page
        for closed in opened.locator("details").all():
            closed.evaluate("one => one.open = true")
        assert opened.evaluate("document.documentElement.scrollWidth") <= width, page
        assert opened.evaluate(FLAWS) == [], page
        opened.reload()
        opened.screenshot(path=str(folder / f"{page}-{look}-{language}.png"), full_page=True)


@looks
def test_what_others_wrote_neither_runs_nor_widens_a_page(town: Town, reader: Open, folder: Path):
    spoil(town)
    for page in sorted(ABOUT):
        opened = reader(page, "small").page
        opened.on("dialog", lambda dialog: pytest.fail(dialog.message))
        assert opened.evaluate("document.documentElement.scrollWidth") <= SMALL[0], page
        assert opened.evaluate(FLAWS) == [], page
        opened.screenshot(path=str(folder / f"{page}-spoilt.png"), full_page=True)


@looks
@pytest.mark.parametrize("page", PAGES)
def test_the_keyboard_reaches_every_control_and_the_first_step_skips_to_the_content(reader: Open, page: str):
    opened = reader(page)
    there = opened.page.locator(
        "main :is(a, button, input:not([type=hidden]), select, textarea, summary):visible"
    ).count()
    opened.press("Tab")
    assert opened.focused() == "Skip to the content"
    reached = set()
    for _ in range(there + 12):
        opened.press("Tab")
        reached.add(opened.page.evaluate(PLACE))
    radios = opened.page.locator("main input[type=radio]").count()  # one stop for all of a group
    assert len({one for one in reached if one.startswith("MAIN")}) == there - max(radios - 1, 0)


#: Where the focus is, from the main part down.
PLACE = """() => {
  const path = [];
  for (let on = document.activeElement; on && on !== document.body; on = on.parentNode)
    path.unshift(on.tagName + [...on.parentNode.children].indexOf(on));
  return path.join(">");
}"""


def told(town: Town, kind: str) -> list[Any]:
    return [row["payload"] for row in town.rows(t.interaction, type=kind)]


def test_an_entry_is_confirmed_and_another_disputed_by_keyboard(town: Town, reader: Open, folder: Path):
    opened = reader("statement")
    opened.tab_to("Confirm: Order 1003")
    opened.submit()
    assert "You confirmed this on 2 March 2026." in opened.page.inner_text("#order-3")
    assert [one["entry"] for one in told(town, "statement-confirmed")] == ["order-3"]
    opened.page.goto(opened.page.url.partition("#")[0])
    opened.tab_to("Something is wrong: Order 1001")
    opened.press("Enter")
    opened.tab_to("What is wrong?")
    opened.write("One cup came broken. 杯子碎了")
    opened.page.screenshot(path=str(folder / "statement-disputing.png"), full_page=True)
    opened.tab_to("Send to the shop")
    opened.submit()
    assert "You disputed this on 2 March 2026." in opened.page.inner_text("#order-1")
    [filed] = told(town, "complaint-filed")
    assert filed["text"] == "One cup came broken. 杯子碎了"
    opened.page.screenshot(path=str(folder / "statement-disputed.png"), full_page=True)
    opened.page.reload()  # what a browser asks to send again is one answer
    assert len(told(town, "complaint-filed")) == 1


def test_one_line_of_an_order_is_disputed_by_keyboard_and_the_rest_confirmed(town: Town, reader: Open):
    opened = reader("statement", "desk", "zh-CN")
    opened.tab_to("核对此商品: 茶杯 Celadon cup")
    opened.press("Space")
    opened.tab_to("内容有误: 茶杯 Celadon cup")
    opened.press("Space")
    opened.tab_to("哪里有误？")
    opened.write("碎了")
    opened.tab_to("发送给店铺")
    opened.submit()
    [filed] = told(town, "complaint-filed")
    assert filed["about"].startswith("1001, 茶杯 Celadon cup 🍵 × 1")
    opened.tab_to("全部确认")
    opened.submit()
    assert "谢谢，已确认" in opened.page.inner_text("main")
    assert len(told(town, "statement-confirmed")) == opened.page.locator(".entries > li").count()


def test_the_order_page_is_read_in_two_languages_without_losing_it(town: Town, reader: Open):
    opened = reader("order")
    opened.tab_to("中文")
    opened.submit()
    assert opened.page.inner_text("h1") == "订单 1001"
    opened.tab_to("English")
    opened.submit()
    assert opened.page.inner_text("h1") == "Order 1001"


def test_unsubscribing_by_keyboard(town: Town, reader: Open, folder: Path):
    opened = reader("unsubscribe")
    opened.tab_to("Unsubscribe")
    opened.submit()
    assert opened.page.inner_text("h1") == "You are unsubscribed"
    assert {row["state"] for row in town.rows(t.consent)} == {"withdrawn"}
    opened.page.screenshot(path=str(folder / "unsubscribe-done.png"), full_page=True)


def test_preferences_are_saved_by_keyboard(town: Town, reader: Open, folder: Path):
    opened = reader("preferences")
    opened.tab_to("Offers by e-mail")
    opened.press("Space")
    opened.tab_to("Save")
    opened.submit()
    [entry] = [row for row in town.rows(t.consent) if row["address"] is None]
    assert (entry["channel"], entry["purpose"], entry["state"]) == ("email", "marketing", "granted")
    assert opened.page.get_by_label("Offers by e-mail").is_checked()
    opened.page.screenshot(path=str(folder / "preferences-saved.png"), full_page=True)


def test_a_survey_is_answered_by_keyboard_after_what_was_left_out_is_said(town: Town, reader: Open, folder: Path):
    opened = reader("survey", "small")
    opened.tab_to("Anything else?")
    opened.write("All fine 🍵")
    opened.page.evaluate("document.forms[0].noValidate = true")  # as a browser that checks nothing itself
    opened.tab_to("Send")
    opened.submit()
    opened.page.screenshot(path=str(folder / "survey-flawed.png"), full_page=True)
    assert opened.page.evaluate(FLAWS) == []
    opened.tab_to("Would you recommend us?")
    opened.press("Space", *["ArrowRight"] * 9)
    opened.tab_to("Send")
    opened.submit()
    [answered] = told(town, "survey-answered")
    assert (answered["score"], answered["answers"]["why"]) == (9.0, "All fine 🍵")


def test_a_contact_is_left_and_proven_by_keyboard(town: Town, reader: Open, folder: Path):
    opened = reader("contact")
    opened.tab_to("Your e-mail address or phone number")
    opened.write("ann@home.example")
    opened.tab_to("offers to this address")
    opened.press("Space")
    opened.tab_to("Send me a code")
    opened.submit()
    assert opened.page.inner_text("h1") == "Enter the code"
    code = sent_code(town)
    opened.tab_to("Code")
    opened.write("000000" if code != "000000" else "111111")
    opened.submit()
    opened.page.screenshot(path=str(folder / "contact-wrong.png"), full_page=True)
    assert opened.page.evaluate(FLAWS) == []
    opened.tab_to("Code")
    opened.write(code)
    opened.submit()
    assert "ann@home.example" in {row["value"] for row in town.rows(t.address)}
    opened.page.screenshot(path=str(folder / "contact-done.png"), full_page=True)


def sent_code(town: Town) -> str:
    """The code in the mail that was sent to the address that was left."""
    import asyncio
    import threading

    running = threading.Thread(target=lambda: asyncio.run(town.local.dispatch(now=town.now)))
    running.start()
    running.join(30)
    [mail] = [one for one in stall.Post.taken if one.address == "ann@home.example"]
    found = re.search(r"\b\d{6}\b", f"{mail.subject} {mail.text}")
    assert found is not None
    return found[0]
