"""Unsubscribe: no more offers, by one click and without a login (RFC 8058): GET shows, POST acts."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from crmkit.flow import preference
from crmkit.web.form import read_form
from crmkit.web.page import language_of, say, show
from crmkit.web.preferences import NAMED, WITHDRAW
from crmkit.web.site import PageError, Visit, given, site_of

router = APIRouter()

#: What is kept as the wording where a mail program asked, and no page was read.
ONE_CLICK = "one-click (List-Unsubscribe)"


@router.api_route("/u/{token}", methods=["GET", "HEAD"])
async def ask(request: Request, token: str) -> HTMLResponse:
    """Ask; opening the link does nothing yet, since mail filters open links too."""
    visit = await site_of(request).read(site_of(request).visit, "u", token)
    return _shown(request, visit, is_done=False)


@router.post("/u/{token}")
async def unsubscribe(request: Request, token: str) -> HTMLResponse:
    """Do it, whatever the form says: mail programs send `List-Unsubscribe=One-Click`."""
    site = site_of(request)
    visit = await site.read(site.visit, "u", token)
    channel = visit.link.word
    language = language_of(request, visit.customer)
    seller = site.title or say(language, "page.us")
    asked = say(language, f"unsubscribe.ask-{_said_of(channel)}", channel=channel, title=seller)
    await site.write(
        preference.withdraw,
        visit.customer.profile_id,
        channel,
        "marketing",
        wording=ONE_CLICK if await _is_one_click(request) else asked,
        **given(request, visit),
    )
    return _shown(request, visit, is_done=True)


async def _is_one_click(request: Request) -> bool:
    """Whether a mail program asked, and not somebody who read the page (RFC 8058)."""
    try:
        form = await read_form(request)
    except PageError:
        return False  # whatever was sent: who unsubscribes is unsubscribed
    return form.get("List-Unsubscribe") == ["One-Click"]


def _shown(request: Request, visit: Visit, *, is_done: bool) -> HTMLResponse:
    links, link = site_of(request).local.host.config.links, visit.link
    # a link that was passed on gives nobody more, and no longer, than it did itself
    leads = (
        "" if links is None else links.make("preferences", link.profile_id, visit.now, word=WITHDRAW, until=link.until)
    )
    return show(
        request,
        "unsubscribe.html",
        customer=visit.customer,
        said=_said_of(link.word),
        channel=link.word,
        is_done=is_done,
        preferences=leads,
    )


def _said_of(channel: str) -> str:
    return channel if channel in NAMED else "other"
