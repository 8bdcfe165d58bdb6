"""Preferences: what is sent by each channel as dispatch sees it, and what of it the customer wants otherwise."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.engine import Connection

from crmkit.flow import preference
from crmkit.store import facts
from crmkit.web.form import read_form
from crmkit.web.page import LANGUAGES, language_of, say, show, spoken
from crmkit.web.site import Site, Visit, site_of

router = APIRouter()

#: Channels that pages have words for.
_NAMED = frozenset({"email", "sms", "call"})


@router.api_route("/p/{token}", methods=["GET", "HEAD"])
async def look(request: Request, token: str) -> HTMLResponse:
    """What holds now."""
    site = site_of(request)
    visit = await site.read(site.visit, "p", token)
    return await _shown(request, site, visit, language_of(request, visit.customer))


@router.post("/p/{token}")
async def save(request: Request, token: str) -> HTMLResponse:
    """What the customer changed: what was shown otherwise than it is sent back; all else stays as it is meanwhile."""
    site = site_of(request)
    visit = await site.read(site.visit, "p", token)
    form = await read_form(request)
    language = _chosen(form, "language") or language_of(request, visit.customer)
    wanted = _chosen(form, "speak")
    speaks = wanted if wanted != (form.get("spoke") or [""])[0] else None
    await site.write(_save, visit, form, language, speaks)
    visit = await site.read(site.visit, "p", token)
    return await _shown(request, site, visit, speaks or language, is_saved=True)


def label(language: str, channel: str, purpose: str) -> str:
    """What a box of the page says."""
    return say(language, f"preferences.{purpose}-{channel if channel in _NAMED else 'other'}", channel=channel)


def masked(row: Mapping[str, Any]) -> str:
    """As much of an address as its owner knows it by: who else opens the page does not learn it."""
    kind, value = row["kind"], str(row["value"])
    if "email" in kind:
        name, _, domain = value.rpartition("@")
        return f"{name[:1]}•••@{domain}"
    return f"••• {value[-3:]}" if "phone" in kind else ""


def _save(tx: Connection, visit: Visit, form: Mapping[str, Sequence[str]], language: str, speaks: str | None) -> None:
    profile, listened, now = visit.customer.profile_id, visit.setup.listened, visit.now
    if "none" in form:
        wording = say(language, "preferences.none")
        preference.withdraw(tx, profile, "*", "*", wording=wording, listened=listened, now=now)
        return
    reach = facts.reach_of(tx, [visit.customer.id], visit.now)
    was, is_ = set(form.get("was", ())), set(form.get("is", ()))
    shown = set(form.get("shown", ()))
    for channel in preference.channels(visit.setup, reach, visit.customer.id):
        for purpose, is_allowed in channel.allowed.items():
            box = f"{channel.name}.{purpose}"
            is_wanted = box in is_
            if box not in shown or is_wanted == (box in was) or is_wanted == is_allowed:
                continue
            say_it = preference.grant if is_wanted else preference.withdraw
            wording = f"{say(language, 'preferences.want')} {label(language, channel.name, purpose)}"
            say_it(tx, profile, channel.name, purpose, wording=wording, listened=listened, now=now)
    if speaks is not None:
        preference.speak(tx, profile, speaks, visit.now)


def _chosen(form: Mapping[str, Sequence[str]], field: str) -> str | None:
    return next((one for one in form.get(field, ()) if one in LANGUAGES), None)


async def _shown(request: Request, site: Site, visit: Visit, language: str, *, is_saved: bool = False) -> HTMLResponse:
    reach = await site.read(facts.reach_of, [visit.customer.id], visit.now)
    channels = [
        {
            "name": channel.name,
            "title": say(
                language,
                f"preferences.channel-{channel.name if channel.name in _NAMED else 'other'}",
                channel=channel.name,
            ),
            "addresses": [(masked(row), is_suppressed) for row, is_suppressed in channel.addresses],
            "is_suppressed": channel.is_suppressed,
            "boxes": [
                {"name": f"{channel.name}.{purpose}", "label": label(language, channel.name, purpose), "is": is_allowed}
                for purpose, is_allowed in channel.allowed.items()
            ],
        }
        for channel in preference.channels(visit.setup, reach, visit.customer.id)
    ]
    return show(
        request,
        "preferences.html",
        language=language,
        channels=channels,
        spoken=spoken(visit.customer.locale or "") or "",
        is_saved=is_saved,
    )
