"""One request for many mails that differ: what SendGrid's mail/send wants.

Vendor documentation: https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send

A request has one content, and crmkit's texts are rendered. So the content of a request for many is one tag for each
part, and each personalization says what stands for it: its own text and html, whole. SendGrid fills in tags and looks
at nothing else of what it fills in. The tag is a hash of everything in the request, so none of it can hold it.

What is filled in may have 10,000 bytes for each mail (SendGrid's own page on tags says 50,000; the smaller is kept). A
longer mail goes in a request of its own, as does what SendGrid cannot be told.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from crmkit import Message
from crmkit_email.address import Address, Mailbox, parse_mailbox
from crmkit_email.heading import headings, own_reply_to, reply_to
from crmkit_email.origin import KEY, ORIGIN
from crmkit_email.sendgrid_settings import SendgridSettings

#: Personalizations in a request.
MOST = 1_000
#: Bytes that may be filled in for one mail, less those of two tags.
FILLED = 10_000 - 200
#: Bytes of all of a request: SendGrid takes 30 MB.
LARGEST = 20_000_000
#: Headers that are SendGrid's own, in lower case.
RESERVED = frozenset({"x-sg-id", "x-sg-eid", "dkim-signature"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that can be told SendGrid: whom it is to, and its further headers."""

    message: Message
    recipient: Address
    headers: dict[str, str]


def entry_of(message: Message, recipient: Address, settings: SendgridSettings) -> Entry:
    """A message as SendGrid is told it.

    Raises:
        PayloadError: a header cannot be written.
    """
    reply_to(message, settings.reply_to)
    return Entry(message, recipient, headings(message, recipient, settings.unsubscribe))


def company(message: Message, settings: SendgridSettings) -> Hashable:
    """What the messages of a request have in common; who is in no company goes alone."""
    if not _fits(message):
        return "alone", message.key
    return message.purpose, bool(message.text.strip()), bool((message.html or "").strip()), own_reply_to(message)


def requests(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The messages that may go in one request: no address twice, and not too much of it all."""
    found: list[tuple[list[Entry], set[str], int]] = []
    for entry in entries:
        address, size = str(entry.recipient).casefold(), _size(entry.message)
        for at, (group, addresses, filled) in enumerate(found):
            if address not in addresses and len(group) < MOST and filled + size <= LARGEST:
                group.append(entry)
                addresses.add(address)
                found[at] = (group, addresses, filled + size)
                break
        else:
            found.append(([entry], {address}, size))
    return [group for group, _, _ in found]


def request(entries: Sequence[Entry], settings: SendgridSettings, origin: str) -> dict[str, Any]:
    """The body of a request for messages of one company, or for one; `origin` is the adapter's."""
    first = entries[0].message
    parts = {"text/plain": first.text, "text/html": first.html or ""}
    kinds = [kind for kind, value in parts.items() if value.strip()]
    tags = {} if len(entries) == 1 else {kind: _tag(kind, entries) for kind in kinds}
    answers = reply_to(first, settings.reply_to)
    group = settings.group(first.purpose)
    body: dict[str, Any] = {
        "personalizations": [_personalization(entry, tags, origin) for entry in entries],
        "from": _mailbox(parse_mailbox(settings.sender)),
        "subject": first.subject,  # asked for, and stands for none: each has its own
        **({} if answers is None else {"reply_to": _mailbox(answers)}),
        "content": [{"type": kind, "value": tags.get(kind, parts[kind])} for kind in kinds],
        "tracking_settings": {
            "click_tracking": {"enable": settings.click_tracking, "enable_text": False},
            "open_tracking": {"enable": settings.open_tracking},
            "subscription_tracking": {"enable": False},
        },
        **({} if group is None else {"asm": {"group_id": group}}),
        **({} if settings.ip_pool is None else {"ip_pool_name": settings.ip_pool}),
    }
    mail_settings = {}
    if settings.sandbox:
        mail_settings["sandbox_mode"] = {"enable": True}
    if settings.bypass_unsubscribes and first.purpose != "marketing":
        mail_settings["bypass_unsubscribe_management"] = {"enable": True}
    return {**body, **({"mail_settings": mail_settings} if mail_settings else {})}


def _personalization(entry: Entry, tags: dict[str, str], origin: str) -> dict[str, Any]:
    message = entry.message
    values = {"text/plain": message.text, "text/html": message.html or ""}
    filled = {tag: values[kind] for kind, tag in tags.items()}
    return {
        "to": [{"email": str(entry.recipient)}],
        "subject": message.subject,
        "headers": entry.headers,
        **({"substitutions": filled} if filled else {}),
        "custom_args": {KEY: message.key, ORIGIN: origin},
    }


def _mailbox(mailbox: Mailbox) -> dict[str, str]:
    return {"email": str(mailbox.address), **({"name": mailbox.name} if mailbox.name else {})}


def _tag(kind: str, entries: Sequence[Entry]) -> str:
    """What stands for one part of each mail: nothing in the request can hold the hash of it all."""
    digest = blake2b(kind.encode(), digest_size=16)
    for entry in entries:
        message = entry.message
        for one in (message.key, message.subject or "", message.text, message.html or ""):
            encoded = one.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return f"-crmkit-{kind.partition('/')[2]}-{digest.hexdigest()}-"


def _size(message: Message) -> int:
    parts = (message.subject or "", message.text, message.html or "")
    return 1_000 + sum(len(part.encode("utf-8", "surrogatepass")) for part in parts)


def _fits(message: Message) -> bool:
    parts = (message.text, message.html or "")
    return sum(len(part.encode("utf-8", "surrogatepass")) for part in parts) <= FILLED
