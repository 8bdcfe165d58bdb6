"""Unsubscribe: no more offers, by one click and without a login (RFC 8058): GET shows, POST acts."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from crmkit.flow import preference
from crmkit.web.page import language_of, say, show
from crmkit.web.site import Visit, site_of

router = APIRouter()


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
    await site.write(
        preference.withdraw,
        visit.customer.profile_id,
        channel,
        "marketing",
        wording=say(language_of(request, visit.customer), f"unsubscribe.ask-{_said_of(channel)}"),
        listened=visit.setup.listened,
        now=visit.now,
    )
    return _shown(request, visit, is_done=True)


def _shown(request: Request, visit: Visit, *, is_done: bool) -> HTMLResponse:
    links = site_of(request).local.host.config.links
    return show(
        request,
        "unsubscribe.html",
        customer=visit.customer,
        channel=_said_of(visit.link.word),
        is_done=is_done,
        preferences=links.make("preferences", visit.link.profile_id, visit.now) if links is not None else "",
    )


def _said_of(channel: str) -> str:
    return channel if channel in ("email", "sms") else "other"
