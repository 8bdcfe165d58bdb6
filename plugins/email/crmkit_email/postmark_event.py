"""What Postmark's webhooks tell, as records.

Vendor documentation: https://postmarkapp.com/developer/webhooks/webhooks-overview

Each call tells of one thing. Only bounces have ids; what else is told is known by its message, kind and time.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from crmkit import (
    Account,
    Address,
    Call,
    ConsentRecord,
    PayloadError,
    Reason,
    ReceiptRecord,
    Record,
    SuppressionRecord,
    fingerprint,
)
from crmkit_email.postmark_code import BOUNCES
from crmkit_email.postmark_settings import PostmarkSettings
from crmkit_email.postmark_shape import Metadata, our_key_in
from crmkit_email.quote import shown
from crmkit_email.status import bounced

Email = Annotated[str, Field(min_length=3, max_length=500)]
#: What is said of a complaint.
SPAM = "spam complaint"


class PostmarkEvent(BaseModel):
    """What is read of every kind of webhook."""

    kind: Annotated[str, Field(alias="RecordType")]
    message_id: Annotated[str | None, Field(alias="MessageID")] = None
    stream: Annotated[str | None, Field(alias="MessageStream")] = None
    metadata: Annotated[Metadata, Field(alias="Metadata")] = {}


class PostmarkDelivery(PostmarkEvent):
    """A server took the mail."""

    delivered_at: Annotated[datetime, Field(alias="DeliveredAt")]


class PostmarkBounce(PostmarkEvent):
    """A mail bounced, or somebody complained of it."""

    number: Annotated[int | None, Field(alias="ID")] = None
    type: Annotated[str, Field(alias="Type")]
    email: Annotated[Email, Field(alias="Email")]
    bounced_at: Annotated[datetime, Field(alias="BouncedAt")]
    details: Annotated[str | None, Field(alias="Details")] = None


class PostmarkChange(PostmarkEvent):
    """An address was suppressed, or is not any more."""

    recipient: Annotated[Email, Field(alias="Recipient")]
    changed_at: Annotated[datetime, Field(alias="ChangedAt")]
    origin: Annotated[str | None, Field(alias="Origin")] = None
    is_suppressed: Annotated[bool, Field(alias="SuppressSending")]
    reason: Annotated[str | None, Field(alias="SuppressionReason")] = None


def records_of(call: Call, settings: PostmarkSettings, account: Account, origin: str) -> Iterator[Record]:
    """What a webhook says.

    Args:
        origin: the adapter's.

    Raises:
        PayloadError: it is none of Postmark's.
    """
    try:
        event = PostmarkEvent.model_validate_json(call.body)
        yield from list(_said(event.kind, call.body, settings, origin))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        what = f"a webhook that cannot be read ({'.'.join(str(part) for part in first['loc'])}: {first['type']})"
        do = "point only webhooks about outgoing mail at this address"
        raise PayloadError(what, who=account.name, operation="read webhook", do=do) from None


def _said(kind: str, body: bytes, settings: PostmarkSettings, origin: str) -> Iterator[Record]:
    if kind == "Delivery":
        delivery = PostmarkDelivery.model_validate_json(body)
        key = our_key_in(delivery.metadata, origin)
        if key is not None:
            yield _receipt(delivery, key, "delivered", delivery.delivered_at, f"delivery:{delivery.message_id}")
    elif kind in {"Bounce", "SpamComplaint"}:
        bounce = PostmarkBounce.model_validate_json(body)
        yield from _asked_for(bounce, settings)
        yield from _bounced(bounce, origin)
    elif kind == "SubscriptionChange":
        change = PostmarkChange.model_validate_json(body)
        if change.is_suppressed:
            reason, stream = change.reason or "", change.stream or ""
            yield from suppressed(change.recipient, reason, change.changed_at, stream, settings)
        elif change.origin == "Recipient" and (purpose := settings.purpose(change.stream)) is not None:
            yield _wish(change.recipient, "granted", "subscribed again", change.changed_at, purpose)


def _asked_for(bounce: PostmarkBounce, settings: PostmarkSettings) -> Iterator[ConsentRecord]:
    """What somebody wants who complained of a mail, or answered it with the request to get no more, or to get more."""
    at, email, purpose = bounce.bounced_at, bounce.email, settings.purpose(bounce.stream)
    if "SpamComplaint" in {bounce.kind, bounce.type}:
        yield _wish(email, "withdrawn", SPAM, at, "marketing")
    elif bounce.type == "Unsubscribe":
        yield _wish(email, "withdrawn", "asked to be unsubscribed", at, purpose or "marketing")
    elif bounce.type == "Subscribe" and purpose is not None:
        yield _wish(email, "granted", "asked to be subscribed", at, purpose)


def _bounced(bounce: PostmarkBounce, origin: str) -> Iterator[Record]:
    at, email = bounce.bounced_at, bounce.email
    if bounce.kind == "SpamComplaint" or bounce.type not in BOUNCES:
        return
    state, reason = BOUNCES[bounce.type]
    if bounce.type == "SoftBounce":
        judged = bounced(bounce.details or "", "", default=Reason.OTHER)
        reason = judged if judged is Reason.MAILBOX_FULL else reason
    number = f"bounce:{bounce.number}" if bounce.number is not None else fingerprint(email, bounce.type, str(at))
    key = our_key_in(bounce.metadata, origin)
    if key is not None:
        why = shown(bounce.details or "", [email])
        detail = f"{shown(bounce.type)}: {why}" if why else shown(bounce.type)
        yield _receipt(bounce, key, state, at, number, reason, detail)
    elif state == "bounced":
        yield _suppression(email, reason, at)


def _receipt(
    event: PostmarkEvent,
    key: str,
    state: Literal["delivered", "bounced", "failed"],
    at: datetime,
    number: str,
    reason: Reason | None = None,
    detail: str | None = None,
) -> ReceiptRecord:
    named: dict[str, Any] = {"external_id": number, "key": key, "vendor_id": event.message_id}
    return ReceiptRecord(**named, state=state, reason=reason, detail=detail, occurred_at=at)


def suppressed(
    email: str, reason: str, at: datetime, stream: str, settings: PostmarkSettings
) -> Iterator[ConsentRecord | SuppressionRecord]:
    """What it means that Postmark sends nothing to an address any more."""
    if reason == "HardBounce":
        yield _suppression(email, Reason.BAD_ADDRESS, at)
    elif reason == "SpamComplaint":
        yield _wish(email, "withdrawn", SPAM, at, "marketing")
    elif reason == "ManualSuppression" and (purpose := settings.purpose(stream)) is not None:
        yield _wish(email, "withdrawn", "unsubscribed", at, purpose)  # by a link, or by the shop at Postmark


def _suppression(email: str, reason: Reason, at: datetime) -> SuppressionRecord:
    number = fingerprint("suppression", email, str(at))
    address = Address(kind="email", value=email)
    return SuppressionRecord(external_id=number, address=address, channel="email", reason=reason, since=at)


def _wish(
    email: str,
    state: Literal["withdrawn", "granted"],
    wording: str,
    at: datetime,
    purpose: Literal["transactional", "marketing"],
) -> ConsentRecord:
    return ConsentRecord(
        external_id=fingerprint(wording, email, str(at)),
        address=Address(kind="email", value=email),
        channel="email",
        purpose=purpose,
        state=state,
        wording=f"Postmark: {wording}",
        **({"is_complaint": True} if wording == SPAM else {}),
        said_at=at,
    )
