"""Contact capture: a buyer known only by a marketplace's token leaves an address, and proves it with a code."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.flow import contact
from crmkit.store import orders
from crmkit.store.bulk import Row
from crmkit.web.form import read_form
from crmkit.web.page import DONE, HEADERS, LANGUAGES, language_of, say, show, then
from crmkit.web.site import PageError, Site, Visit, given, site_of

router = APIRouter()


@router.api_route("/c/{token}", methods=["GET", "HEAD"])
async def ask(request: Request, token: str) -> HTMLResponse:
    """Ask for an address, of the kinds that a code can be sent to."""
    site = site_of(request)
    visit, order, is_ended = await site.read(_opened, site, token)
    return _ended(request, visit, order) if is_ended else _form(request, visit, order)


@router.post("/c/{token}", response_model=None)
async def leave(request: Request, token: str) -> Response:
    """Keep the address until it is proven; what comes next is the same whoever it belongs to."""
    site = site_of(request)
    form = await read_form(request)
    visit, order, is_ended = await site.read(_opened, site, token)
    if is_ended:
        return _ended(request, visit, order)
    language = next((one for one in form.get("language", ()) if one in LANGUAGES), language_of(request, visit.customer))
    shop = _shop(visit, order)
    written = (form.get("address") or [""])[0].strip()[:500]
    chosen = [purpose for purpose in _purposes(order) if purpose in form]
    kinds = _kinds(visit, order)
    flaws = {} if chosen else {"choices": "choose"}
    kind = value = ""
    try:
        kind, value = contact.read(written, shop.region if shop is not None else None)
    except ValueError:
        flaws["address"] = "unreadable"
    if kind and kind not in kinds:
        flaws["address"] = "unreadable"
    if flaws or not kinds:
        return _form(request, visit, order, written=written, chosen=chosen, flaws=flaws)
    is_kept = await site.write(
        contact.leave,
        visit.customer,
        order,
        kind,
        value,
        {purpose: _wording(request, visit, language, purpose, order) for purpose in chosen},
        locale=language,
        **given(request, visit),
    )
    if not is_kept:
        raise PageError(429, "busy", again=3600)
    return RedirectResponse(f"{site.root}/c/{token}/code?lang={language}", 303, HEADERS)


@router.api_route("/c/{token}/code", methods=["GET", "HEAD"])
async def ask_code(request: Request, token: str) -> HTMLResponse:
    """Ask for the code."""
    site = site_of(request)
    visit, order, is_ended = await site.read(_opened, site, token)
    if not is_ended:
        return _page(request, visit, order, "code", token=token)
    is_now = request.query_params.get(DONE) == "proven"
    return _page(request, visit, order, "done") if is_now else _ended(request, visit, order)


@router.post("/c/{token}/code", response_model=None)
async def prove(request: Request, token: str) -> Response:
    """Who enters the code has proven the address: the customer is reached there too, and the link has done its work."""
    site = site_of(request)
    form = await read_form(request)
    visit, order, is_ended = await site.read(_opened, site, token)
    links = site.local.host.config.links
    entered = unicodedata.normalize("NFKC", (form.get("code") or [""])[0])[:50]
    is_proven = await site.write(
        contact.prove,
        visit.customer,
        "".join(one for one in entered if one.isalnum()),
        links.keys if links is not None else (),
        **given(request, visit),
    )
    if is_proven:
        return then(request, f"/c/{token}/code", language_of(request, visit.customer), "proven")
    if is_ended:
        return _ended(request, visit, order)
    return _page(request, visit, order, "code", status=422, token=token, is_wrong=True)


def _opened(tx: Connection, site: Site, token: str) -> tuple[Visit, Row | None, bool]:
    visit = site.visit(tx, "c", token)
    order = orders.of_customer(tx, visit.link.subject, visit.customer.id) if visit.link.subject else None
    if visit.link.subject and order is None:
        raise PageError(404, "unknown")
    return visit, order, contact.is_ended(tx, visit.customer, order)


def _purposes(order: Row | None) -> tuple[str, ...]:
    """What can be asked for: news of the order it is about, and of no other."""
    return ("marketing",) if order is None else ("transactional", "marketing")


def _shop(visit: Visit, order: Row | None) -> Shop | None:
    """The shop of the order; without one, the only one there is."""
    if order is not None:
        return visit.setup.shops.get(order["shop_id"])
    shops = [shop for shop in visit.setup.shops.values() if shop.kind == "shop"]
    return shops[0] if len(shops) == 1 else None


def _kinds(visit: Visit, order: Row | None) -> list[str]:
    """What can be left; nothing about an order of a shop that is switched off: nothing is decided about it."""
    shop = _shop(visit, order)
    if shop is None and order is not None:
        return []
    return contact.kinds(visit.setup, shop.name if shop is not None else None)


def _title(request: Request, visit: Visit, order: Row | None) -> str:
    """What the seller is called."""
    shop = _shop(visit, order)
    return shop.title if shop is not None else site_of(request).title


def _wording(request: Request, visit: Visit, language: str, purpose: str, order: Row | None) -> str:
    title = _title(request, visit, order)
    ending = "" if title else "-unnamed"
    if purpose == "transactional" and order is not None:
        number = order["number"] or order["external_id"]
        return say(language, f"contact.want-order{ending}", number=number, title=title)
    return say(language, f"contact.want-marketing{ending}", title=title)


def _form(
    request: Request,
    visit: Visit,
    order: Row | None,
    *,
    written: str = "",
    chosen: Sequence[str] = (),
    flaws: Mapping[str, str] = {},
) -> HTMLResponse:
    kinds = _kinds(visit, order)
    language = language_of(request, visit.customer)
    return _page(
        request,
        visit,
        order,
        "ask" if kinds else "none",
        status=422 if flaws and kinds else 200,
        kinds="-".join(kinds),
        choices=[(one, _wording(request, visit, language, one, order), one in chosen) for one in _purposes(order)],
        written=written,
        flaws=flaws,
    )


def _ended(request: Request, visit: Visit, order: Row | None) -> HTMLResponse:
    return _page(request, visit, order, "ended", status=410)


def _page(
    request: Request, visit: Visit, order: Row | None, state: str, *, status: int = 200, **more: Any
) -> HTMLResponse:
    title = _title(request, visit, order)
    facts = {"is_wrong": False, "token": "", **more}
    return show(request, "contact.html", customer=visit.customer, status=status, state=state, title=title, **facts)
