"""A journey as text: what happened, what was told and to whom, what was not and why; for people and golden files."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from crmkit.core.message import State
from crmkit.store import tables as t
from crmkit.testing.journey import Journey, Told

#: Numbers of rows, which say nothing to a reader and may differ.
_NUMBERS = frozenset({"message", "parcel", "refund", "review", "contact", "cause", "broadcast"})
_INDENT = " " * 18


def story(journey: Journey) -> str:
    """A journey, line by line, in the zone of its configuration."""
    zone = ZoneInfo(journey.crmkit.host.config.crm.timezone)
    lines = [f"times in {zone.key}", ""]
    last = None
    for at, told in _moments(journey):
        when = _time(at, zone)
        lines.append(f"{when if when != last else '':16}  {told[0]}".rstrip())
        lines += [f"{_INDENT}{line}".rstrip() for line in told[1:]]
        last = when
    timers = [f"  {_time(at, zone)}  {name} ({plugin})" for at, name, plugin in journey.timers()]
    quiet = [
        f"  {journey.shops.get(row['shop_id'], 'no shop')}: {row['template']} x{row['count']} ({row['plugin']})"
        for row in journey.crmkit.rows(t.quiet)
    ]
    for title, found in (("still to come:", timers), ("not announced, since it is history:", quiet)):
        if found:
            lines += ["", title, *found]
    return "\n".join([*lines, ""])


def _moments(journey: Journey) -> Iterator[tuple[datetime, list[str]]]:
    """(when, what is said of it) of all that happened, in order."""
    orders = {row["id"]: row["number"] or row["external_id"] for row in journey.crmkit.rows(t.orders)}
    names = {row["id"]: row["name"] or row["key"] for row in journey.crmkit.rows(t.profile)}
    found: list[tuple[datetime, int, int, list[str]]] = []
    for row in journey.crmkit.rows(t.interaction):
        found.append((row["occurred_at"], 0, row["id"], [_happened(row, orders, names)]))
    for number, message in enumerate(journey.messages):
        found.append((message.at, 1, number, list(_said(message))))
    for at, _, _, told in sorted(found, key=lambda one: one[:3]):
        yield at, told


def _happened(row: Mapping[str, Any], orders: Mapping[int, str], names: Mapping[int, str]) -> str:
    payload = {name: value for name, value in sorted((row["payload"] or {}).items()) if name not in _NUMBERS}
    about = [f"order {orders[row['order_id']]}"] if row["order_id"] in orders else []
    about += [names[row["profile_id"]]] if row["profile_id"] in names else []
    own = [f"{name}={value}" for name, value in payload.items() if name != "text"]
    text = f": {payload['text']}" if "text" in payload else ""
    by = f" ({row['actor'].removeprefix('plugin:')})" if row["actor"].startswith("plugin:") else ""
    return f"* {row['type']}{by}{'  ' if about else ''}{', '.join(about)}{'  ' if own else ''}{' '.join(own)}{text}"


def _said(message: Told) -> Iterator[str]:
    whom = f"{message.staff}, {message.to}" if message.staff and message.to else message.staff or message.to
    about = f", order {message.order}" if message.order else ""
    head = f"{message.channel} {message.template}{f' to {whom}' if whom else ''}{about}"
    if message.state in {State.SUPPRESSED, State.HELD, State.CANCELLED}:
        why = ": ".join(part for part in (message.reason, message.detail) if part)
        yield f"- not sent: {head} ({message.state}{f', {why}' if why else ''})"
        return
    if message.state in {State.QUEUED, State.SENDING}:
        later = f" until {message.not_before:%Y-%m-%d %H:%M} UTC" if message.not_before else ""
        yield f"- waits{later}: {head}{f' ({message.reason})' if message.reason else ''}"
    else:
        why = ": ".join(part for part in (message.reason, message.detail) if part)
        became = "" if message.state == State.SENT else f" ({message.state}{f', {why}' if why else ''})"
        yield f"> {head}{became}"
    if message.subject is not None:
        yield f"    {message.subject}"
        yield ""
    for line in (message.text or "").splitlines():
        yield f"    {line}"
    yield ""


def _time(at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M}" if not local.second else f"{local:%Y-%m-%d %H:%M:%S}"
