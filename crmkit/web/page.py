"""How a page is shown: in its reader's language, with nothing on it from anywhere else, and kept by nobody."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from crmkit.core.customer import Customer
from crmkit.flow.wording import filters_of
from crmkit.web.site import PageError, site_of

#: The languages pages are written in.
LANGUAGES = ("en", "zh-CN")

#: What a query says was done just now; a page knows its own words for it, and no others.
DONE = "done"

#: A page says nothing to other sites and takes nothing from them; its address is a secret and stays here.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@cache
def words(language: str) -> Mapping[str, Mapping[str, str]]:
    """What pages say in a language: {section: {name: text}}."""
    return tomllib.loads(files("crmkit.web").joinpath("words", f"{language}.toml").read_text("utf-8"))


#: Characters that turn the direction of what follows them: in a name they would turn the sentence around it.
_TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def say(language: str, name: str, **values: Any) -> str:
    """What a page says: `section.name`, with its `{places}` filled in."""
    section, _, key = name.partition(".")
    said = {name: value.translate(_TURNS) if isinstance(value, str) else value for name, value in values.items()}
    return words(language)[section][key].format(**said)


@cache
def _environment(language: str) -> Environment:
    found = Environment(
        loader=PackageLoader("crmkit.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(filters_of(language))
    found.globals["say"] = lambda name, **values: say(language, name, **values)
    return found


def language_of(request: Request, customer: Customer | None = None) -> str:
    """The language of a page: the one asked for, else the customer's own, else the browser's, else the seller's."""
    accepted = [one.partition(";")[0].strip() for one in request.headers.get("accept-language", "").split(",")]
    known = customer.locale if customer is not None else None
    own = site_of(request).local.host.config.crm.locale
    for wanted in (request.query_params.get("lang"), known, *accepted, own):
        if wanted and (found := spoken(wanted)):
            return found
    return "en"


def spoken(locale: str) -> str | None:
    """The language pages are written in that a locale is of; None where it is another."""
    start = locale.replace("_", "-").partition("-")[0].lower()
    return next((language for language in LANGUAGES if language.partition("-")[0] == start), None)


def show(
    request: Request,
    template: str,
    *,
    customer: Customer | None = None,
    language: str | None = None,
    status: int = 200,
    **facts: Any,
) -> HTMLResponse:
    """A page.

    Args:
        template: its file in `templates/`.
        customer: whose language it is in, unless `language` says.
        facts: what the template shows; `shop`, where one is meant, gives the page its name.
    """
    site = site_of(request)
    shown = language or language_of(request, customer)
    text = (
        _environment(shown)
        .get_template(template)
        .render(
            {
                "title": site.title,
                "privacy": site.local.host.config.web.privacy,
                "write": site.local.host.config.web.contact,
                **facts,
                "language": shown,
                "languages": LANGUAGES,
                "root": site.root,
                "here": lambda **changes: _here(request, changes),
            }
        )
    )
    return HTMLResponse(text, status, HEADERS)


def _here(request: Request, changes: Mapping[str, Any]) -> str:
    """This page in another language, or another part of it: what else was asked for stays so."""
    return "?" + urlencode({**{name: one for name, one in request.query_params.items() if name != DONE}, **changes})


def then(request: Request, path: str, language: str, done: str) -> RedirectResponse:
    """Lead from what was done to the page that says so: who goes back, or loads it again, does nothing again.

    Args:
        path: of the page, below the root.
        done: what was done, in a word of the page's own.
    """
    query = urlencode({"lang": language, DONE: done})
    return RedirectResponse(f"{site_of(request).root}{path}?{query}", 303, HEADERS)


async def instead(request: Request, error: Exception) -> Response:
    """What is shown in place of a page that cannot be."""
    assert isinstance(error, PageError)
    answer = show(request, "none.html", status=error.status, why=error.why)
    if error.again is not None:
        answer.headers["Retry-After"] = f"{error.again}"
    return answer


async def broken(request: Request, error: Exception) -> Response:
    """What is shown in place of a page that raised: nothing of what it raised."""
    return await instead(request, PageError(500, "broken"))
