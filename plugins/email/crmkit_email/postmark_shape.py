"""What Postmark is sent, and what it answers.

Vendor documentation: https://postmarkapp.com/developer/api/email-api#send-batch-emails

A value of metadata holds 80 characters, so a longer key of ours goes in pieces.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from crmkit import Message
from crmkit_email.address import Address, parse_mailbox
from crmkit_email.heading import headings, reply_to, written
from crmkit_email.origin import KEY, ORIGIN, is_ours
from crmkit_email.postmark_settings import PostmarkSettings

#: Messages in a call, and bytes of all of it: Postmark takes 50 MB.
MOST, LARGEST = 500, 40_000_000
#: Characters of a value of metadata, and values of which the key may consist.
VALUE, PIECES = 80, 9
#: By which headers Postmark lets readers of its broadcasts unsubscribe.
_UNSUBSCRIBE = frozenset({"list-unsubscribe", "list-unsubscribe-post"})


class PostmarkSaid(BaseModel):
    """What Postmark says of one message, or of a call."""

    error_code: Annotated[int, Field(alias="ErrorCode")] = 0
    message: Annotated[str, Field(alias="Message")] = ""
    message_id: Annotated[str | None, Field(alias="MessageID")] = None


def _no_text(value: Any) -> Any:
    return {} if value is None else value


Metadata = Annotated[dict[str, Any], BeforeValidator(_no_text)]


class PostmarkListed(BaseModel):
    """A message in Postmark's log."""

    message_id: Annotated[str, Field(alias="MessageID", min_length=1)]
    status: Annotated[str | None, Field(alias="Status")] = None
    metadata: Annotated[Metadata, Field(alias="Metadata")] = {}


class PostmarkMessages(BaseModel):
    """A page of Postmark's log."""

    total: Annotated[int, Field(alias="TotalCount", ge=0)]
    messages: Annotated[list[PostmarkListed], Field(alias="Messages")]


class PostmarkSuppressed(BaseModel):
    """An address that Postmark suppresses."""

    email: Annotated[str, Field(alias="EmailAddress", min_length=3, max_length=500)]
    reason: Annotated[str, Field(alias="SuppressionReason")]
    created_at: Annotated[datetime, Field(alias="CreatedAt")]


def metadata_of(message: Message, origin: str) -> dict[str, str] | None:
    """What tells a message of ours in all that Postmark says of it; None where its key is too long for that."""
    pieces = [message.key[at : at + VALUE] for at in range(0, len(message.key), VALUE)]
    if len(pieces) > PIECES:
        return None
    named = {KEY if number == 1 else f"{KEY}_{number}": piece for number, piece in enumerate(pieces, 1)}
    return {**named, ORIGIN: origin}


def key_in(metadata: dict[str, Any]) -> str:
    """The key a message carries, whoever's it is; empty where it has none."""
    names = [KEY, *(f"{KEY}_{number}" for number in range(2, PIECES + 1))]
    return "".join(str(metadata[name]) for name in names if metadata.get(name))


def our_key_in(metadata: dict[str, Any], origin: str) -> str | None:
    """The key of a message, where it is one of ours."""
    key = key_in(metadata)
    return key if is_ours(key, str(metadata.get(ORIGIN)), origin) else None


def mail(message: Message, recipient: Address, settings: PostmarkSettings, origin: str) -> dict[str, Any]:
    """A message as Postmark is sent it.

    Raises:
        PayloadError: a header cannot be written.
    """
    further = headings(message, recipient, settings.unsubscribe)
    if message.purpose == "marketing" and settings.unsubscribe_by == "postmark":
        further = {name: value for name, value in further.items() if name.lower() not in _UNSUBSCRIBE}
    answers = reply_to(message, settings.reply_to)
    html = message.html or ""
    return {
        "From": written(parse_mailbox(settings.sender)),
        "To": str(recipient),
        "Subject": message.subject or "",
        **({"TextBody": message.text} if message.text.strip() else {}),
        **({"HtmlBody": html} if html.strip() else {}),
        **({} if answers is None else {"ReplyTo": written(answers)}),
        "Headers": [{"Name": name, "Value": value} for name, value in further.items()],
        "Metadata": metadata_of(message, origin) or {},
        "MessageStream": settings.stream(message.purpose),
        "TrackOpens": settings.open_tracking,
        "TrackLinks": "HtmlOnly" if settings.click_tracking else "None",
    }
