"""What SendGrid tells of mails and of those who read them, as records.

Vendor documentation: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event

Events come many at a time, in any order, some twice. Opening and following a link are no verdict, nor is "deferred":
SendGrid goes on trying for three days. Who unsubscribes or complains has marketing in mind; what SendGrid then keeps
from them besides is told as a receipt of the mail it drops. Leaving a group that is none of ours is taken for leaving
marketing; coming back to one says nothing of us.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from crmkit import (
    Account,
    Address,
    Call,
    ConsentRecord,
    PayloadError,
    Reason,
    ReceiptRecord,
    Record,
    Refused,
    SuppressionRecord,
    fingerprint,
)
from crmkit_email.origin import is_ours
from crmkit_email.quote import shown
from crmkit_email.sendgrid_settings import SendgridSettings
from crmkit_email.status import bounced

#: Why SendGrid did not even try, by what its reason begins with, in lower case.
DROPPED = {
    "bounced address": Reason.BAD_ADDRESS,
    "invalid": Reason.BAD_ADDRESS,
    "unsubscribed address": Reason.OPTED_OUT,
    "group unsubscribe": Reason.OPTED_OUT,
    "spam reporting address": Reason.OPTED_OUT,
    "spam content": Reason.CONTENT,
    "recipient list over package quota": Reason.FUNDS,
}
#: What begins so is about the request, not about the address.
_NOT_THE_ADDRESS = "invalid smtpapi header"
#: {event: whether the address wants more of what it is about}
WISHES: dict[str, Literal["withdrawn", "granted"]] = {
    "spamreport": "withdrawn",
    "unsubscribe": "withdrawn",
    "group_unsubscribe": "withdrawn",
    "group_resubscribe": "granted",
}
_BOUNCES = frozenset({Reason.BAD_ADDRESS, Reason.NOT_CAPABLE})


def _moment(value: Any) -> Any:
    """Seconds since 1970, as a number or written as one."""
    return datetime.fromtimestamp(float(value), UTC) if isinstance(value, int | float | str) else value


Moment = Annotated[datetime, BeforeValidator(_moment)]


class SendgridEvent(BaseModel):
    """An event, so far as it is read."""

    event: str
    email: Annotated[str, Field(min_length=3, max_length=500)]
    timestamp: Moment
    sg_event_id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    reason: str | None = None
    status: str | None = None
    type: str | None = None
    asm_group_id: int | None = None
    crmkit_key: str | None = None
    crmkit_origin: str | None = None


_EVENTS = TypeAdapter(list[dict[str, Any]])


def records_of(call: Call, settings: SendgridSettings, account: Account, origin: str) -> Iterator[Record | Refused]:
    """What a call of the event webhook says.

    Args:
        origin: the adapter's.

    Raises:
        PayloadError: it is no list of events.
    """
    try:
        events = _EVENTS.validate_json(call.body)
    except ValidationError:
        what, do = "a webhook that is no list of events", "point only SendGrid's event webhook at this address"
        raise PayloadError(what, who=account.name, operation="read webhook", do=do) from None
    for number, said in enumerate(events, 1):
        if "email" not in said:  # about the account: no mail, and nobody's
            continue
        try:
            event = SendgridEvent.model_validate(said)
            yield from _said(event, settings, origin)
        except (ValueError, OverflowError, OSError) as error:
            why = _why(error)
            yield Refused("receipt", f"event {number}", why, json.dumps(said, ensure_ascii=False))


def _why(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "a time that is none"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['type']}"


def _said(event: SendgridEvent, settings: SendgridSettings, origin: str) -> Iterator[Record]:
    name = event.event.lower()
    number = event.sg_event_id or fingerprint(name, event.email, str(event.timestamp), event.crmkit_key or "")
    if name in WISHES:
        if WISHES[name] == "withdrawn" or settings.is_ours(event.asm_group_id):
            purpose = settings_purpose(settings, event.asm_group_id)
            yield wish(event.email, WISHES[name], name, event.timestamp, number, purpose)
        return
    state, reason = fate(event)
    if state is None:
        return
    if is_ours(event.crmkit_key, event.crmkit_origin, origin):
        yield ReceiptRecord(
            external_id=number,
            state=state,
            key=event.crmkit_key,
            reason=reason,
            detail=_detail(event) if reason is not None else None,
            occurred_at=event.timestamp,
        )
    elif state == "bounced" and reason is not None and name == "bounce":
        yield suppression(event.email, reason, event.timestamp, number)


def _detail(event: SendgridEvent) -> str:
    words = [event.event, *([event.type] if event.type and event.type != event.event else [])]
    if event.status and event.status not in (event.reason or ""):
        words.append(event.status)
    what, why = shown(" ".join(words)), shown(event.reason or "", [event.email])
    return f"{what}: {why}" if why else what


def fate(event: SendgridEvent) -> tuple[Literal["sent", "delivered", "bounced", "failed"] | None, Reason | None]:
    """What an event says became of a mail, and why; nothing where it is no verdict."""
    name = event.event.lower()
    if name == "processed":
        return "sent", None
    if name == "delivered":
        return "delivered", None
    if name == "dropped":
        reason = dropped(event.reason or "")
    elif name == "bounce":
        is_block = (event.type or "bounce").lower() == "blocked"
        reason = bounced(event.reason or "", event.status or "", default=Reason.BAD_ADDRESS)
        if is_block and reason in _BOUNCES | {Reason.OTHER}:
            return "failed", Reason.BLOCKED  # SendGrid goes on sending there
    elif name == "blocked":
        return "failed", Reason.BLOCKED
    else:
        return None, None
    return ("bounced" if reason in _BOUNCES else "failed"), reason


def dropped(reason: str) -> Reason:
    """Why SendGrid did not try."""
    plain = reason.strip().lower()
    if plain.startswith(_NOT_THE_ADDRESS):
        return Reason.OTHER
    return next((found for start, found in DROPPED.items() if plain.startswith(start)), Reason.OTHER)


def settings_purpose(settings: SendgridSettings, group: int | None) -> Literal["transactional", "marketing"]:
    """What the mail of an unsubscribe group is for; marketing where it is none of ours."""
    is_transactional = group is not None and group == settings.transactional_group
    return "transactional" if is_transactional else "marketing"


def wish(
    email: str,
    state: Literal["withdrawn", "granted"],
    wording: str,
    at: datetime,
    number: str,
    purpose: Literal["transactional", "marketing"] = "marketing",
) -> ConsentRecord:
    """What somebody wants at an address."""
    return ConsentRecord(
        external_id=number,
        address=Address(kind="email", value=email),
        channel="email",
        purpose=purpose,
        state=state,
        wording=f"SendGrid: {wording}",
        **({"is_complaint": True} if wording == "spamreport" else {}),
        said_at=at,
    )


def suppression(email: str, reason: Reason, at: datetime, number: str) -> SuppressionRecord:
    """An address that SendGrid found to bounce, whoever's mail it was."""
    address = Address(kind="email", value=email)
    return SuppressionRecord(external_id=number, address=address, channel="email", reason=reason, since=at)
