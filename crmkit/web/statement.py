"""The statement: a customer's account with a shop, each entry of which they confirm or dispute."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.flow import statement
from crmkit.flow.compose import zone_of
from crmkit.flow.statement import LONGEST, Outcome, Statement
from crmkit.web.form import read_form
from crmkit.web.order import plain
from crmkit.web.page import show
from crmkit.web.site import PageError, Site, Visit, site_of

router = APIRouter()

Fields = Mapping[str, list[str]]


@router.api_route("/s/{token}", methods=["GET", "HEAD"])
async def account(request: Request, token: str) -> HTMLResponse:
    """What the customer's account with a shop holds, the newest first."""
    site = site_of(request)
    visit, shop, found = await site.read(_read, site, token, _page(request))
    return _shown(request, visit, shop, found)


@router.post("/s/{token}")
async def answer(request: Request, token: str) -> HTMLResponse:
    """Confirm or dispute what was shown; the page then says what came of it."""
    site = site_of(request)
    form = await read_form(request)
    visit, shop, found, said = await site.write(_act, site, token, _page(request), form)
    return _shown(request, visit, shop, found, **said)


def _page(request: Request) -> int:
    written = request.query_params.get("page", "1")
    return int(written) if written.isascii() and written.isdigit() and len(written) < 9 else 1


def _read(tx: Connection, site: Site, token: str, page: int) -> tuple[Visit, Shop, Statement]:
    visit = site.visit(tx, "s", token)
    shop = visit.setup.shops.get(visit.link.subject)
    if shop is None or shop.kind != "shop":
        raise PageError(404, "unknown")
    return visit, shop, statement.statement(tx, visit.customer, shop, visit.now, page)


def _act(
    tx: Connection, site: Site, token: str, page: int, form: Fields
) -> tuple[Visit, Shop, Statement, dict[str, Any]]:
    visit, shop, _ = _read(tx, site, token, page)
    act, text = form.get("act", [""])[0], form.get("text", [""])[0].strip()
    seen = {key: shown for key, _, shown in (one.partition("~") for one in form.get("entry", ())) if shown}
    given: dict[str, Any] = {"listened": visit.setup.listened, "now": visit.now}
    first = next(iter(seen), "")
    if act in ("confirm", "all") and seen:
        outcome = statement.confirm(tx, visit.customer, shop, seen, **given)
    elif act == "dispute" and len(seen) == 1 and not text:
        return *_read(tx, site, token, page), {"act": "empty", "subject": first}
    elif act == "dispute" and len(seen) == 1 and len(text) > LONGEST:
        return *_read(tx, site, token, page), {"act": "long", "subject": first, "text": text}
    elif act == "dispute" and len(seen) == 1:
        outcome = statement.dispute(tx, visit.customer, shop, first, seen[first], text, **given)
    else:
        raise PageError(400, "no-form")
    said = {"act": act, "outcome": outcome, "subject": first if act != "all" else "", "text": text}
    return *_read(tx, site, token, page), said


def _shown(
    request: Request,
    visit: Visit,
    shop: Shop,
    found: Statement,
    *,
    act: str = "",
    outcome: Outcome | None = None,
    subject: str = "",
    text: str = "",
) -> HTMLResponse:
    there = {one.key for entry in found.entries for one in (entry, *entry.lines)}
    return show(
        request,
        "statement.html",
        customer=visit.customer,
        title=shop.title,
        zone=str(zone_of(visit.customer.timezone, shop, visit.setup)),
        found=found,
        waiting=[entry for entry in found.entries if entry.key not in found.standings],
        plain=plain,
        longest=LONGEST,
        act=act,
        outcome=outcome or Outcome(),
        subject=subject if subject in there else "",
        text=text,
    )
