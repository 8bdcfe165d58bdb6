"""Surveys: the questions a plugin asks, on a page of the customer's own; each is answered once."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.engine import Connection

from crmkit.core.survey import LONGEST, Answers, Question, Survey, said
from crmkit.flow import survey
from crmkit.store import orders
from crmkit.store.bulk import Row
from crmkit.web.form import read_form
from crmkit.web.page import language_of, show, then
from crmkit.web.site import PageError, Site, Visit, given, site_of

router = APIRouter()


@router.api_route("/q/{token}", methods=["GET", "HEAD"])
async def ask(request: Request, token: str) -> HTMLResponse:
    """The questions; thanks to who has answered them."""
    site = site_of(request)
    visit, order, is_answered = await site.read(_opened, site, token)
    asked = site.local.host.surveys.get(visit.link.word)
    if asked is None:
        return show(request, "survey.html", customer=visit.customer, state="over", flawed="", status=410)
    return _shown(request, visit, order, asked, {}, Answers(), is_answered=is_answered)


@router.post("/q/{token}", response_model=None)
async def answer(request: Request, token: str) -> Response:
    """Take the answers; what cannot be taken is said beside its question, with the rest as it was filled in."""
    site = site_of(request)
    form = await read_form(request)
    visit, order, is_answered = await site.read(_opened, site, token)
    asked = site.local.host.surveys.get(visit.link.word)
    if asked is None:
        return show(request, "survey.html", customer=visit.customer, state="over", flawed="", status=410)
    answers = asked.read(form)
    if answers.flaws and not is_answered:
        return _shown(request, visit, order, asked, form, answers, is_answered=False)
    await site.write(survey.answer, visit.customer, asked.name, order, answers, **given(request, visit))
    return then(request, f"/q/{token}", language_of(request, visit.customer), "answered")


def _opened(tx: Connection, site: Site, token: str) -> tuple[Visit, Row | None, bool]:
    visit = site.visit(tx, "q", token)
    order = orders.of_customer(tx, visit.link.subject, visit.customer.id) if visit.link.subject else None
    if visit.link.subject and order is None:
        raise PageError(404, "unknown")
    return visit, order, survey.is_answered(tx, visit.customer, visit.link.word, order)


def _shown(
    request: Request,
    visit: Visit,
    order: Row | None,
    asked: Survey,
    form: Mapping[str, Sequence[str]],
    answers: Answers,
    *,
    is_answered: bool,
) -> HTMLResponse:
    language = language_of(request, visit.customer)
    flawed = [] if is_answered else [one.name for one in asked.questions if one.name in answers.flaws]
    shop = visit.setup.shops.get(order["shop_id"]) if order is not None else None
    return show(
        request,
        "survey.html",
        language=language,
        state="done" if is_answered else "open",
        status=422 if answers.flaws and not is_answered else 200,
        survey={"title": said(asked.title, language), "intro": said(asked.intro, language)},
        thanks=said(asked.thanks, language),
        longest=LONGEST,
        flawed=flawed[0] if flawed else "",
        questions=[_question(one, language, form.get(one.name, ()), answers) for one in asked.questions],
        title=shop.title if shop is not None else site_of(request).title,
    )


def _question(question: Question, language: str, given: Sequence[str], answers: Answers) -> dict[str, Any]:
    ends = question.ends
    return {
        "name": question.name,
        "kind": question.kind,
        "text": said(question.text, language),
        "is_required": question.is_required,
        "numbers": [str(number) for number in question.numbers],
        "ends": None if ends is None else tuple(said(end, language) for end in ends),
        "low": question.low,
        "high": question.high,
        "choices": {value: said(words, language) for value, words in question.choices.items()},
        "given": list(given),
        "flaw": answers.flaws.get(question.name),
    }
