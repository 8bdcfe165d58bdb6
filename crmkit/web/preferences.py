"""Preferences: what is sent by each channel as dispatch sees it, and what of it the customer wants otherwise."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.engine import Connection

from crmkit.flow import preference
from crmkit.store import bulk, facts
from crmkit.web.form import read_form
from crmkit.web.page import DONE, LANGUAGES, language_of, say, show, spoken, then
from crmkit.web.site import Site, Visit, given, site_of

router = APIRouter()

#: Channels that pages have words for.
NAMED = frozenset({"email", "sms", "call"})
#: The word of a link that only takes back.
WITHDRAW = "withdraw"


@router.api_route("/p/{token}", methods=["GET", "HEAD"])
async def look(request: Request, token: str) -> HTMLResponse:
    """What holds now."""
    site = site_of(request)
    visit = await site.read(site.visit, "p", token)
    return await _shown(request, site, visit, language_of(request, visit.customer))


@router.post("/p/{token}", response_model=None)
async def save(request: Request, token: str) -> Response:
    """What the customer changed: what is sent back otherwise than it was shown; all else stays as it is.

    A form that was made before something else changed is not taken: sent again, it would undo that.
    """
    site = site_of(request)
    visit = await site.read(site.visit, "p", token)
    form = await read_form(request)
    language = _chosen(form, "language") or language_of(request, visit.customer)
    wanted = _chosen(form, "speak")
    speaks = wanted if wanted != (form.get("spoke") or [""])[0] else None
    is_saved = await site.write(_save, visit, form, language, speaks, site.title, **given(request, visit))
    return then(request, f"/p/{token}", speaks or language, "saved" if is_saved else "moved")


def label(language: str, channel: str, purpose: str) -> str:
    """What a box of the page says."""
    return say(language, f"preferences.{purpose}-{channel if channel in NAMED else 'other'}", channel=channel)


def masked(row: Mapping[str, Any]) -> str:
    """As much of an address as its owner knows it by: who else opens the page does not learn it."""
    kind, value = row["kind"], str(row["value"])
    if "email" in kind:
        name, _, domain = value.rpartition("@")
        return f"{name[:1]}•••@{domain}"
    return f"••• {value[-3:]}" if "phone" in kind else ""


def _save(
    tx: Connection,
    visit: Visit,
    form: Mapping[str, Sequence[str]],
    language: str,
    speaks: str | None,
    title: str,
    **told: Any,
) -> bool:
    """Enter what was changed. False: something else was, since the form was made, and nothing is entered."""
    bulk.lock(tx, bulk.INGEST)
    profile, only_less = visit.customer.profile_id, visit.link.word == WITHDRAW
    if speaks is not None and not only_less:
        preference.speak(tx, profile, speaks, visit.now)
    if "none" in form:  # that is taken however old the form is
        preference.withdraw(tx, profile, "*", "*", wording=say(language, "preferences.none"), **told)
        return True
    changes = [one for one in _changes(tx, visit, form) if not (only_less and one[2])]
    if changes and (form.get("mark") or [""])[0] != str(preference.newest(tx, visit.customer.id)):
        return False
    for channel, purpose, is_wanted in changes:
        say_it = preference.grant if is_wanted else preference.withdraw
        asked = say(language, "preferences.want" if title else "preferences.want-unnamed", title=title)
        wording = f"{asked} {label(language, channel, purpose)}"
        say_it(tx, profile, channel, purpose, wording=wording, **told)
    return True


def _changes(tx: Connection, visit: Visit, form: Mapping[str, Sequence[str]]) -> list[tuple[str, str, bool]]:
    """What is wanted otherwise than it was shown, and than it holds: channel, purpose, and whether it is wanted."""
    reach = facts.reach_of(tx, [visit.customer.id], visit.now)
    was, is_, shown = (set(form.get(name, ())) for name in ("was", "is", "shown"))
    found = []
    for channel in preference.channels(visit.setup, reach, visit.customer.id):
        for purpose, is_allowed in channel.allowed.items():
            box = f"{channel.name}.{purpose}"
            is_wanted = box in is_
            if box in shown and is_wanted != (box in was) and is_wanted != is_allowed:
                found.append((channel.name, purpose, is_wanted))
    return found


def _chosen(form: Mapping[str, Sequence[str]], field: str) -> str | None:
    return next((one for one in form.get(field, ()) if one in LANGUAGES), None)


async def _shown(request: Request, site: Site, visit: Visit, language: str) -> HTMLResponse:
    reach, mark = await site.read(_held, visit)
    only_less = visit.link.word == WITHDRAW
    channels = [
        {
            "name": channel.name,
            "title": say(
                language,
                f"preferences.channel-{channel.name if channel.name in NAMED else 'other'}",
                channel=channel.name,
            ),
            "addresses": [] if only_less else [(masked(row), is_dead) for row, is_dead in channel.addresses],
            "is_suppressed": channel.is_suppressed,
            "boxes": [
                {"name": f"{channel.name}.{purpose}", "label": label(language, channel.name, purpose), "is": is_allowed}
                for purpose, is_allowed in channel.allowed.items()
                if is_allowed or not only_less
            ],
        }
        for channel in preference.channels(visit.setup, reach, visit.customer.id)
    ]
    done = request.query_params.get(DONE)
    return show(
        request,
        "preferences.html",
        language=language,
        channels=[one for one in channels if one["boxes"] or not only_less],
        only_less=only_less,
        mark=mark,
        spoken=spoken(visit.customer.locale or "") or "",
        done=done if done in ("saved", "moved") else "",
    )


def _held(tx: Connection, visit: Visit) -> tuple[facts.Reach, int]:
    return facts.reach_of(tx, [visit.customer.id], visit.now), preference.newest(tx, visit.customer.id)
