"""Recipient, sender and headers of a mail as vendors with an HTTP API are told them, each in a field of its own.

Vendor documentation: RFC 5322 (headers), 8058 (one-click unsubscribe). The vendor writes the mail itself, so names go
as they are written; values of further headers go as the wire wants them, since vendors pass them on unread.
"""

from collections.abc import Collection, Mapping

from crmkit import Message, PayloadError
from crmkit_email.address import Address, Mailbox, parse_mailbox
from crmkit_email.mime import header, ways_out

#: Headers that no vendor lets a message bring, in lower case; Reply-To has a field of its own.
THEIRS = frozenset("from sender to cc bcc subject date message-id mime-version return-path received reply-to".split())


def cannot_be_told(message: Message, recipient: Address, reserved: Collection[str] = ()) -> str | None:
    """Why an API cannot be given a message; None if it can.

    Args:
        recipient: whom it is to.
        reserved: further names of headers, in lower case, that are the vendor's.
    """
    if recipient.needs_utf8:
        return "takes no international addresses (SMTPUTF8)"
    for name in message.headers:
        lower = name.lower()
        if lower != "reply-to" and (lower in THEIRS or lower in reserved or lower.startswith(("content-", "resent-"))):
            return f"lets no message bring a header {name!r} of its own"
    return None


def headings(message: Message, recipient: Address, unsubscribe: str | None) -> dict[str, str]:
    """The further headers of a message, in ASCII and on one line each.

    Raises:
        PayloadError: one cannot be written.
    """
    brought = {name: value for name, value in message.headers.items() if name.lower() != "reply-to"}
    every: Mapping[str, str] = {**brought, **ways_out(message, recipient, unsubscribe)}
    found = {} if any(name.lower() == "auto-submitted" for name in every) else {"Auto-Submitted": "auto-generated"}
    for name, value in every.items():
        found[name] = header(name, value)[len(name) + 2 :].replace("\r\n", "")
    return found


def own_reply_to(message: Message) -> str | None:
    """Where answers go by a header the message brings, as it is written there."""
    return next((value for name, value in message.headers.items() if name.lower() == "reply-to" and value), None)


def reply_to(message: Message, default: str | None) -> Mailbox | None:
    """Where answers go, if not to the sender.

    Raises:
        PayloadError: what the message brings is no address. That says nothing of whom it is to.
    """
    written = own_reply_to(message) or default
    try:
        return None if written is None else parse_mailbox(written)
    except ValueError:
        raise PayloadError("Reply-To is no address", who="email", operation="write") from None


def written(mailbox: Mailbox) -> str:
    """A mailbox as one text, its name as people write it."""
    if not mailbox.name:
        return str(mailbox.address)
    quoted = mailbox.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{mailbox.address}>'
