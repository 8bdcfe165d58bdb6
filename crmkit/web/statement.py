"""The statement: a customer's account with a shop, each entry of which they confirm or dispute.

What was noted is shown by the page that comes after, which holds the entry wherever it moved meanwhile: going back and
loading anew do nothing again. What could not be noted is said at once, with the words that were written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.flow import statement
from crmkit.flow.compose import zone_of
from crmkit.flow.statement import LONGEST, Statement
from crmkit.web.form import read_form
from crmkit.web.order import plain
from crmkit.web.page import DONE, HEADERS, LANGUAGES, show
from crmkit.web.site import PageError, Site, Visit, given, site_of

router = APIRouter()

Fields = Mapping[str, list[str]]

#: What an address may say was done, with the words for it; and where what it is about must stand for it to be so.
NOTED = {
    "confirmed": ("confirmed-now", ("confirmed",)),
    "disputed": ("disputed-now", ("disputed",)),
    "known": ("known", ("confirmed", "disputed")),
    "all": ("all-now", ("confirmed",)),
}


@dataclass(frozen=True, slots=True)
class News:
    """What came of an answer.

    Attributes:
        word: by the words of `[statement]`; empty: nothing.
        subject: the key of what it is about; empty: all of the page.
        is_done: it was noted, else it could not be.
        text: what was written.
        changed: keys of what was not as it had been shown.
    """

    word: str = ""
    subject: str = ""
    is_done: bool = False
    text: str = ""
    changed: tuple[str, ...] = ()


@router.api_route("/s/{token}", methods=["GET", "HEAD"])
async def account(request: Request, token: str) -> HTMLResponse:
    """What the customer's account with a shop holds, the newest first; and what was just noted, where it was."""
    site = site_of(request)
    visit, shop, found = await site.read(_read, site, token, _page(request))
    word, states = NOTED.get(request.query_params.get(DONE, ""), ("", ()))
    subject = request.query_params.get("entry", "")
    stands = [it.state for key, it in found.standings.items() if subject in ("", key)]
    is_so = any(state in states for state in stands)
    return _shown(request, visit, shop, found, News(word, subject, is_done=True) if is_so else News())


@router.post("/s/{token}", response_model=None)
async def answer(request: Request, token: str) -> Response:
    """Confirm or dispute what was shown; what comes next says what came of it."""
    site = site_of(request)
    form = await read_form(request)
    visit, shop, found, news = await site.write(_act, request, token, form)
    if not news.is_done:
        return _shown(request, visit, shop, found, news, 409 if news.changed else 422)
    query = {"page": found.page, DONE: news.word, "entry": news.subject}
    if (language := request.query_params.get("lang")) in LANGUAGES:
        query["lang"] = language
    return RedirectResponse(f"{site.root}/s/{token}?{urlencode(query)}#{quote(news.subject or 'main')}", 303, HEADERS)


def _page(request: Request) -> int:
    written = request.query_params.get("page", "1")
    return int(written) if written.isascii() and written.isdigit() and len(written) < 9 else 1


def _read(
    tx: Connection, site: Site, token: str, page: int, holding: str | None = None
) -> tuple[Visit, Shop, Statement]:
    visit = site.visit(tx, "s", token)
    shop = visit.setup.shops.get(visit.link.subject)
    if shop is None or shop.kind != "shop":
        raise PageError(404, "unknown")
    return visit, shop, statement.statement(tx, visit.customer, shop, visit.now, page, holding)


def _act(tx: Connection, request: Request, token: str, form: Fields) -> tuple[Visit, Shop, Statement, News]:
    site, page = site_of(request), _page(request)
    visit, shop, _ = _read(tx, site, token, page)
    act, text = form.get("act", [""])[0], form.get("text", [""])[0].strip()
    seen = {key: shown for key, _, shown in (one.partition("~") for one in form.get("entry", ())) if shown}
    told = given(request, visit)
    first = next(iter(seen), "")
    subject = "" if act == "all" else first
    if act in ("confirm", "all") and seen:
        outcome = statement.confirm(tx, visit.customer, shop, seen, **told)
    elif act == "dispute" and len(seen) == 1 and not 0 < len(text) <= LONGEST:
        news = News("long" if text else "empty", subject, text=text)
        return *_read(tx, site, token, page, first), news
    elif act == "dispute" and len(seen) == 1:
        outcome = statement.dispute(tx, visit.customer, shop, first, seen[first], text, **told)
    else:
        raise PageError(400, "no-form")
    if outcome.changed:
        word = "all-changed" if act == "all" else "changed"
        news = News(word, subject, text=text if act == "dispute" else "", changed=tuple(outcome.changed))
    elif not outcome.done:
        news = News("known", subject, is_done=True)
    else:
        news = News({"confirm": "confirmed", "dispute": "disputed"}.get(act, act), subject, is_done=True)
    return *_read(tx, site, token, page, first), news


def _shown(request: Request, visit: Visit, shop: Shop, found: Statement, news: News, status: int = 200) -> HTMLResponse:
    there = {one.key for entry in found.entries for one in (entry, *entry.lines)}
    asked = {name: value for name, value in request.query_params.items() if name not in (DONE, "entry")}
    return show(
        request,
        "statement.html",
        customer=visit.customer,
        status=status,
        title=shop.title,
        zone=str(zone_of(visit.customer.timezone, shop, visit.setup)),
        found=found,
        waiting=[entry for entry in found.entries if entry.key not in found.standings],
        plain=plain,
        longest=LONGEST,
        news=news,
        subject=news.subject if news.subject in there else "",
        part=lambda number: "?" + urlencode({**asked, "page": number}),
    )
