"""The statement: every transaction, confirmed or disputed as it was shown, once, and read by whoever works on it."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from crmkit.core.account import Shop
from crmkit.core.customer import Customer
from crmkit.core.records import Buyer, LineRecord, PaymentRecord, RefundRecord
from crmkit.flow import statement
from crmkit.flow.forget import forget
from crmkit.flow.statement import PAGE
from crmkit.store import facts, log
from crmkit.store import tables as t
from tests.dump import everything
from tests.web import stall
from tests.web.conftest import NOON, Town

DAY = timedelta(days=1)
LINES = (
    LineRecord(external_id="1", title="Green tea", quantity=Decimal("2"), total=Decimal("48.00")),
    LineRecord(external_id="2", title="Cup", total=Decimal("24.40")),
)


def bought(town: Town, number: str = "1001", **fields: Any) -> int:
    said = {"currency": "EUR", "total": Decimal("72.40"), "lines": LINES, "placed_at": NOON - 10 * DAY}
    return town.order(number, **{**said, **fields})


def path(town: Town) -> str:
    return town.path("statement", town.profile(), subject=town.shop_id)


def shown(text: str) -> dict[str, str]:
    """{key: fingerprint} of all that can be answered for."""
    return dict(re.findall(r'name="entry" value="([^"~]+)~([0-9a-f]+)"', text))


async def page(town: Town, **query: Any) -> str:
    answer = await town.client.get(path(town), params=query)
    assert answer.status_code == 200
    return answer.text


async def post(town: Town, act: str, seen: dict[str, str], text: str = "", **query: Any) -> httpx.Response:
    """The page that is shown in the end."""
    data = {"act": act, "entry": [f"{key}~{one}" for key, one in seen.items()], "text": text}
    return await town.client.post(path(town), data=data, params=query, follow_redirects=True)


def said(town: Town) -> list[tuple[str, Any]]:
    rows = town.rows(t.interaction)
    return [(row["type"], row["payload"]) for row in rows if row["type"].startswith(("statement", "complaint"))]


async def test_every_transaction_is_an_entry_with_the_balance_after_it(town: Town):
    bought(town, paid_at=NOON - 9 * DAY)
    bought(town, "1002", placed_at=NOON - 5 * DAY, total=Decimal("20"))
    town.take(
        PaymentRecord(
            external_id="p",
            order_external_id="1001",
            amount=Decimal("72.40"),
            currency="EUR",
            paid_at=NOON - 9 * DAY,
            method="credit_card",
        ),
        RefundRecord(
            external_id="r", order_external_id="1001", refunded=Decimal("24.40"), currency="EUR", refunded_at=NOON - DAY
        ),
    )
    text = unescape(await page(town))
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", text)
    assert headings == ["Refund for order 1001", "Order 1002", "Payment for order 1001", "Order 1001"]
    assert re.findall(r"Balance then: (\S+?)<", text) == ["€20.00", "€20.00", "€0.00", "€72.40"]
    assert re.findall(r"<strong>(.*?)</strong>", text) == ["€20.00"]
    assert "credit card" in text
    assert text.rindex("Green tea") > text.index("Order 1001</h2>")


async def test_what_is_in_the_buyers_favour_is_said_so_without_a_sign(town: Town):
    bought(town, paid=Decimal("80.00"), paid_at=NOON - 9 * DAY)
    for language, then, now in (
        ("en", "In your favour then: €7.60", "In your favour"),
        ("zh-CN", "当时应退：€7.60", "应退"),
    ):
        text = await page(town, lang=language)
        assert f"<span>{then}</span>" in text
        assert re.search(rf"<span>{now}</span>\s*<strong>€7.60</strong>", text)


async def test_each_currency_has_a_balance(town: Town):
    bought(town)
    bought(town, "1002", currency="JPY", total=Decimal("3000"), lines=())
    assert re.findall(r"<strong>(.*?)</strong>", await page(town)) == ["€72.40", "JPY 3,000"]


async def test_an_entry_is_confirmed_as_shown_and_once(town: Town):
    order = bought(town)
    seen = shown(await page(town))
    key = f"order-{order}"
    for _ in range(3):
        answer = await post(town, "confirm", {key: seen[key]})
        assert answer.status_code == 200
        assert "You confirmed this on 2 March 2026." in answer.text
    assert "That was noted before." in answer.text
    told = {"kind": "order", "entry": key, "amount": "EUR 72.40", "seen": seen[key]}
    assert said(town) == [("statement-confirmed", told)]
    row = town.one(t.interaction, type="statement-confirmed")
    assert len(row["correlation_id"]) == 16
    assert (row["profile_id"], row["shop_id"], row["order_id"], row["actor"]) == (
        town.profile(),
        town.shop_id,
        order,
        "customer",
    )


async def test_what_changed_between_showing_and_posting_is_asked_again(town: Town):
    order = bought(town)
    seen = shown(await page(town))
    bought(town, total=Decimal("99.00"), updated_at=NOON + timedelta(seconds=1))
    key = f"order-{order}"
    for act, words in (("confirm", ""), ("dispute", "too much")):
        answer = await post(town, act, {key: seen[key]}, words)
        assert "This has changed since you opened the page" in answer.text
        assert "€99.00" in answer.text
    assert "too much</textarea>" in answer.text  # the words are not lost
    answer = await post(town, "all", {key: seen[key]})
    assert "were not confirmed: 1." in answer.text
    assert said(town) == []


async def test_a_confirmed_entry_that_changes_later_says_so(town: Town):
    order = bought(town)
    key = f"order-{order}"
    await post(town, "confirm", {key: shown(await page(town))[key]})
    bought(town, total=Decimal("99.00"), updated_at=NOON + timedelta(seconds=1))
    text = await page(town)
    assert "it has changed since" in text
    await post(town, "confirm", {key: shown(text)[key]})
    assert [payload["amount"] for _, payload in said(town)] == ["EUR 72.40", "EUR 99.00"]


async def test_a_dispute_files_a_complaint_once(town: Town):
    order = bought(town)
    key = f"order-{order}"
    seen = shown(await page(town))
    for words in ("I paid <b>less</b>", "I paid <b>less</b>", "really"):
        answer = await post(town, "dispute", {key: seen[key]}, words)
        assert "You disputed this on 2 March 2026." in answer.text
    row = town.one(t.interaction, type="complaint-filed")
    assert row["payload"] == {
        "complaint": f"statement:{key}:0",
        "text": "I paid <b>less</b>",
        "source": "statement",
        "about": "1001, order, EUR 72.40, 2026-02-20",
    }
    assert (row["profile_id"], row["shop_id"], row["order_id"], row["actor"]) == (
        town.profile(),
        town.shop_id,
        order,
        "customer",
    )


async def test_one_line_of_an_order_can_be_confirmed_or_disputed(town: Town):
    bought(town)
    seen = shown(await page(town))
    tea, cup = (key for key in seen if key.startswith("line-"))
    await post(town, "confirm", {tea: seen[tea]})
    answer = await post(town, "dispute", {cup: seen[cup]}, "It came broken.")
    assert "The shop has been told" in answer.text
    [(_, confirmed), (_, filed)] = said(town)
    assert (confirmed["kind"], confirmed["entry"]) == ("line", tea)
    assert filed["complaint"] == f"statement:{cup}:0"
    assert filed["about"] == "1001, Cup × 1, EUR 24.40"


async def test_disputing_after_confirming_is_possible(town: Town):
    order = bought(town)
    key = f"order-{order}"
    seen = shown(await page(town))
    await post(town, "confirm", {key: seen[key]})
    await post(town, "dispute", {key: seen[key]}, "On second thoughts, no.")
    assert [kind for kind, _ in said(town)] == ["statement-confirmed", "complaint-filed"]
    assert "The shop is looking into it." in await page(town)


async def test_what_became_of_a_dispute_is_shown(town: Town):
    order = bought(town)
    key = f"order-{order}"
    seen = shown(await page(town))
    await post(town, "dispute", {key: seen[key]}, "no")
    for hours, kind, words in (
        (1, "complaint-resolved", "it was settled on 2 March 2026."),
        (2, "complaint-reopened", "The shop is looking into it."),
        (3, "complaint-closed", "it was settled on 2 March 2026."),
    ):
        town.now = NOON + timedelta(hours=hours)
        told = {
            "type": kind,
            "profile_id": town.profile(),
            "actor": "staff:Chen",
            "occurred_at": town.now,
            "payload": {"complaint": f"statement:{key}:0", "resolution": "internal words"},
        }
        with town.store.begin() as tx:
            log.append(tx, [told], (), town.now)
        text = await page(town)
        assert words in text
        assert "internal words" not in text
    await post(town, "dispute", {key: seen[key]}, "still no")
    assert [payload["complaint"] for kind, payload in said(town) if kind == "complaint-filed"] == [
        f"statement:{key}:0",
        f"statement:{key}:1",
    ]


async def test_all_that_is_shown_is_confirmed_by_one_button(town: Town):
    bought(town, paid_at=NOON - 9 * DAY)
    second = bought(town, "1002")
    seen = shown(await page(town))
    await post(town, "dispute", {f"order-{second}": seen[f"order-{second}"]}, "no")
    text = await page(town)
    form = text[text.index('class="all"') :]
    waiting = shown(form)
    assert len(waiting) == 2
    answer = await post(town, "all", waiting)
    assert "What you confirmed is noted." in answer.text
    assert [kind for kind, _ in said(town)] == ["complaint-filed", *["statement-confirmed"] * 2]
    assert 'class="all"' not in answer.text


@pytest.mark.parametrize(
    ("words", "said_of_it"),
    [("", "Please write what is wrong."), ("  ", "Please write"), ("x" * 2001, "2000 characters")],
)
async def test_a_dispute_needs_words_but_no_book(town: Town, words: str, said_of_it: str):
    order = bought(town)
    key = f"order-{order}"
    answer = await post(town, "dispute", {key: shown(await page(town))[key]}, words)
    assert (answer.status_code, said_of_it in answer.text) == (422, True)
    assert f"{words.strip()}</textarea>" in answer.text  # the words are not lost
    assert said(town) == []


def titled(answer: httpx.Response) -> str:
    [title] = re.findall("<title>(.*?)</title>", answer.text)
    return str(title)


async def test_what_was_noted_is_said_by_the_page_that_follows_first_of_all_in_its_title(town: Town):
    order = bought(town)
    key = f"order-{order}"
    seen = shown(await page(town))
    data = {"act": "confirm", "entry": f"{key}~{seen[key]}"}
    for word, words in (("confirmed", "Thank you. This is confirmed."), ("known", "That was noted before.")):
        answer = await town.client.post(path(town), data=data, params={"lang": "en", "x": "//evil.example"})
        there = f"{path(town)}?page=1&done={word}&entry={key}&lang=en#{key}"
        assert (answer.status_code, answer.headers["location"]) == (303, there)
        after = await town.client.get(there)
        assert titled(after) == f"{words} · Your account · Tea House"
        assert f'<p role="status">{words}</p>' in after.text
        assert "entry=" not in "".join(re.findall(r'<a href="([^"]*)" rel=', after.text))


async def test_no_address_says_what_was_not_done(town: Town):
    bought(town)
    other = bought(town, "1002")
    key = f"order-{other}"
    await post(town, "confirm", {key: shown(await page(town))[key]})
    for query in (
        {"done": "disputed", "entry": key},
        {"done": "confirmed", "entry": "order-1"},
        {"done": "confirmed", "entry": "order-77"},
        {"done": "intro"},
        {"done": "<b>", "entry": key},
    ):
        assert titled(await town.client.get(path(town), params=query)) == "Your account · Tea House"


@pytest.mark.parametrize("act", ["confirm", "dispute"])
async def test_an_entry_that_moved_to_another_page_meanwhile_is_shown_with_what_was_noted(town: Town, act: str):
    for number in range(PAGE):
        bought(town, f"{number:04}", placed_at=NOON - (number + 2) * DAY)
    seen = shown(await page(town))
    key = [one for one in seen if one.startswith("order-")][-1]
    line = [one for one in seen if one.startswith(f"line-{key.partition('-')[2]}-")][-1]
    bought(town, "9999", placed_at=NOON - DAY)
    for one in (key, line):
        answer = await post(town, act, {one: seen[one]}, "no")
        assert "2 of 2" in answer.text
        words = {"confirm": "This is confirmed.", "dispute": "The shop has been told"}[act]
        assert words in answer.text[answer.text.index(f'id="{one}"') :]
    assert len(said(town)) == 2


@pytest.mark.parametrize(
    ("words", "said_of_it"), [("", "Please write what is wrong."), ("x" * 2001, "2000 characters")]
)
async def test_words_are_kept_where_the_entry_moved_meanwhile(town: Town, words: str, said_of_it: str):
    for number in range(PAGE):
        bought(town, f"{number:04}", placed_at=NOON - (number + 2) * DAY)
    seen = shown(await page(town))
    key = [one for one in seen if one.startswith("order-")][-1]
    bought(town, "9999", placed_at=NOON - DAY)
    answer = await post(town, "dispute", {key: seen[key]}, words)
    assert said_of_it in answer.text[answer.text.index(f'id="{key}"') :]
    assert f"{words}</textarea>" in answer.text


async def test_lines_of_a_text_count_as_the_browser_counts_them(town: Town):
    key = f"order-{bought(town)}"
    words = "no\r\n" * 666  # 1,998 characters to whoever typed it
    await post(town, "dispute", {key: shown(await page(town))[key]}, words)
    assert town.one(t.interaction, type="complaint-filed")["payload"]["text"] == words.strip().replace("\r\n", "\n")


async def test_words_that_no_database_takes_are_kept_as_far_as_they_can_be(town: Town):
    order = bought(town)
    key = f"order-{order}"
    await post(town, "dispute", {key: shown(await page(town))[key]}, "a\x00b 🍵 \u202eabc")
    assert town.one(t.interaction, type="complaint-filed")["payload"]["text"] == "a\\x00b 🍵 \u202eabc"


async def test_entries_of_nobody_or_somebody_else_are_not_answered_for(town: Town):
    bought(town)
    other = bought(town, "2002", buyer=Buyer(external_id="bob", email="bob@buyers.example"))
    for key in (f"order-{other}", "order-999", "order-", "line-1-x", "x" * 500):
        answer = await post(town, "confirm", {key: "0" * 16})
        assert "This has changed" in answer.text
        assert "2002" not in answer.text
    for data in (
        {},
        {"act": "confirm"},
        {"act": "erase", "entry": "order-1~00"},
        {"act": "dispute", "entry": ["a~1", "b~2"]},
    ):
        assert (await town.client.post(path(town), data=data)).status_code == 400
    assert said(town) == []


async def test_another_shops_orders_are_not_on_it(town: Town):
    bought(town)
    with town.store.begin() as tx:
        tx.execute(sa.update(t.orders).values(shop_id=town.shop_id + 1))
    assert "There is nothing on your account yet." in await page(town)


@pytest.mark.parametrize("subject", [0, 99, 10**15])
async def test_a_shop_that_is_not_there_has_no_statement(town: Town, subject: int):
    bought(town)
    answer = await town.client.get(town.path("statement", town.profile(), subject=subject))
    assert answer.status_code == 404


async def test_amounts_that_are_not_the_buyers_are_listed_without_and_do_not_count(town: Town):
    bought(town, basis="seller_proceeds")
    text = await page(town)
    assert "amount not reported" in text
    assert "not counted in the balance" in text
    assert "€" not in text


async def test_hundreds_of_orders_are_pages_read_by_few_statements(town: Town):
    counts = []
    for number in (1, 120):
        while len(town.rows(t.orders)) < number:
            bought(town, f"{len(town.rows(t.orders)):04}", placed_at=NOON - len(town.rows(t.orders)) * DAY)
        asked: list[str] = []
        engine = town.store.engine
        sa.event.listen(engine, "before_cursor_execute", listener := lambda *args, asked=asked: asked.append(args[2]))
        text = await page(town)
        sa.event.remove(engine, "before_cursor_execute", listener)
        counts.append(len(asked))
    assert counts[0] == counts[1] < 25
    assert len(re.findall(r"<li id=\"order-", text)) == PAGE
    assert "1 of 6" in text
    last = await page(town, page=6, lang="en")
    assert "Order 0119" in last
    assert 'href="?page=5&amp;lang=en"' in last
    for odd in ("0", "99", "-1", "x", "٣", "9" * 40):
        assert (await town.client.get(path(town), params={"page": odd})).status_code == 200


RULES = """
[plugins]
use = ["care"]
[[channels.email]]
use = "post"
[[staff]]
name = "Chen"
teams = ["service"]
email = "chen@tea.example"
[[care.rules]]
on = "complaint-filed"
send = "complaint"
via = ["email"]
to = "staff:service"
[care.late]
enabled = false
"""
TEMPLATE = """---
purpose = "transactional"
subject = "{{ order.number }} is disputed"
---
{{ about }}: {{ text }}
"""


async def test_a_dispute_reaches_who_works_on_complaints(migrated_url: str, tmp_path: Path):
    folder = tmp_path / "town"
    (folder / "templates").mkdir(parents=True)
    (folder / "templates" / "complaint.en.email.txt").write_text(TEMPLATE, "utf-8")
    stall.Post.taken.clear()
    town = Town(folder, migrated_url, RULES)
    key = f"order-{bought(town)}"
    async with town.client:
        seen = shown(await page(town))
        await post(town, "dispute", {key: seen[key]}, "{{ 7*7 }} I never ordered this.")
    await town.local.dispatch(now=NOON)
    [mail] = stall.Post.taken
    assert (mail.address, mail.subject) == ("chen@tea.example", "1001 is disputed")
    assert "1001, order, EUR 72.40, 2026-02-20: {{ 7*7 }} I never ordered this." in mail.text
    town.store.close()


async def test_what_was_disputed_is_forgotten_with_the_customer(town: Town):
    key = f"order-{bought(town)}"
    await post(town, "dispute", {key: shown(await page(town))[key]}, "I am Ann of Elm Street")
    with town.store.begin() as tx:
        forget(tx, town.profile(), now=NOON)
    with town.store.read() as tx:
        assert "Elm Street" not in str(everything(tx))


async def test_two_who_dispute_at_once_file_one_complaint(town: Town):
    order = bought(town)
    key = f"order-{order}"
    seen = shown(await page(town))
    customer, shop = _who(town)

    def disputing() -> None:
        with town.store.begin() as tx:
            statement.dispute(tx, customer, shop, key, seen[key], "no", listened=(), now=NOON)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(disputing) for _ in range(8)]:
            done.result()
    assert len(town.rows(t.interaction, type="complaint-filed")) == 1


def _who(town: Town) -> tuple[Customer, Shop]:
    with town.store.read() as tx:
        setup = town.host.setup({"stall": (town.shop_id, NOON - 60 * DAY)})
        return facts.customers_of(tx, [town.profile()])[town.profile()], setup.shops[town.shop_id]
