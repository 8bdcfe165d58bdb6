r"""What a mail looks like on the wire, for every gateway of this package.

Vendor documentation: RFC 5322 (headers), 2045-2047 (MIME), 6532 (UTF-8 in headers), 3834 (`Auto-Submitted`),
8058 (one-click unsubscribe).

The bytes are made by hand: `email.message.EmailMessage` takes about 1.5 ms a mail, more than sending it does. What is
the same for every mail is made once; tests read every kind of mail back with `email.parser`. Only `\r\n` ends a line,
and outside an international recipient's own address everything is ASCII.
"""

import re
from binascii import b2a_base64, b2a_qp
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from urllib.parse import quote

from pydantic import field_validator

from crmkit import GatewaySettings, Message, PayloadError, UnsupportedError
from crmkit_email.address import CONTROLS, Address, ascii_domain, encoded_words, parse_address, parse_mailbox

#: Headers this module writes itself; a message may not bring its own.
OURS = frozenset("from sender to cc bcc subject date message-id mime-version return-path received x-crmkit-key".split())
#: Headers that machines read: a value they cannot hold as it stands is refused, never encoded.
STRUCTURED = frozenset(
    "auto-submitted feedback-id importance in-reply-to list-archive list-help list-id list-owner list-post"
    " list-subscribe list-unsubscribe list-unsubscribe-post precedence priority references x-priority".split()
)
MAX_LINE = 998
_NAME = re.compile(r"[!-9;-~]{1,70}")
_NEWLINE = re.compile(r"\r\n|\r|\n")
_PLAIN = re.compile(rb"(?:[\t\x20-\x7e]{0,998}\r\n)*")
_TOKEN = re.compile(r" *[^ ]+")


class SenderSettings(GatewaySettings):
    """What every mail gateway is told about the mails themselves."""

    #: who it is from, e.g. "Tea House <shop@tea.example>"
    sender: str
    #: where answers go, if not to the sender
    reply_to: str | None = None
    #: where marketing mail can be unsubscribed from: a mailto: or https: URL, with {key} and {address} filled in
    unsubscribe: str | None = None

    @field_validator("sender", "reply_to")
    @classmethod
    def _is_mailbox(cls, value: str | None) -> str | None:
        if value is not None:
            parse_mailbox(value)
        return value

    @field_validator("unsubscribe")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"(?:mailto:|https://)[!-;=?-~]+", value):
            raise ValueError("must be one mailto: or https:// URL, without spaces")
        return value


class MailSettings(SenderSettings):
    """What gateways that write whole mails are told besides."""

    #: the domain of Message-IDs, if not the sender's
    message_id_domain: str | None = None

    @field_validator("message_id_domain")
    @classmethod
    def _is_domain(cls, value: str | None) -> str | None:
        return value if value is None else ascii_domain(value)


@dataclass(frozen=True, slots=True)
class Mail:
    r"""A mail ready for the wire: `content` with `\r\n` line ends, dots not yet doubled."""

    recipient: Address
    message_id: str
    content: bytes

    @property
    def needs_utf8(self) -> bool:
        """Whether only a server with SMTPUTF8 can be given it."""
        return self.recipient.needs_utf8


class Writer:
    """Writes messages as mails; what all mails share is made once.

    Args:
        settings: sender and the like.
    """

    def __init__(self, settings: MailSettings) -> None:
        mailbox = parse_mailbox(settings.sender)
        self.sender = mailbox.address
        self._domain = settings.message_id_domain or self.sender.domain
        self._unsubscribe = settings.unsubscribe
        self._from = f"From: {mailbox.header(6)}\r\n"
        self._defaults = {"auto-submitted": "Auto-Submitted: auto-generated\r\n"}
        if settings.reply_to:
            self._defaults["reply-to"] = header("Reply-To", settings.reply_to)

    def write(self, message: Message, at: datetime) -> Mail:
        """The mail of a message. The same key gives the same Message-ID, whenever it is written.

        Args:
            message: what to say, and to whom.
            at: the date it bears; aware.

        Raises:
            ValueError: the address is not one.
            PayloadError, UnsupportedError: a header of the message cannot be written.
        """
        recipient = parse_address(message.address)
        name = key_hash(message.key)
        message_id = f"<{name}@{self._domain}>"
        lines = [
            self._from,
            f"To: {recipient}\r\nDate: {format_datetime(at)}\r\nMessage-ID: {message_id}\r\n",
            header("Subject", message.subject or ""),
            header("X-Crmkit-Key", message.key),
            *self._further(message, recipient).values(),
            "MIME-Version: 1.0\r\n",
        ]
        text, html = message.text, message.html or ""
        parts: tuple[bytes, ...]
        if not html.strip():
            parts = (part("plain", text),)
        elif not text.strip():
            parts = (part("html", html),)
        else:
            boundary = f"=_{name}"
            lines.append(f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n')
            line = f"--{boundary}\r\n".encode("ascii")
            end = f"--{boundary}--\r\n".encode("ascii")
            # the line break before a boundary belongs to the boundary
            parts = (line, part("plain", text), b"\r\n", line, part("html", html), b"\r\n", end)
        return Mail(recipient, message_id, b"".join(("".join(lines).encode("utf-8"), *parts)))

    def _further(self, message: Message, recipient: Address) -> dict[str, str]:
        further = dict(self._defaults)
        for name, value in message.headers.items():
            lower = name.lower()
            if lower in OURS or lower.startswith(("content-", "resent-")):
                raise UnsupportedError(
                    f"the message brings a header {name!r} of its own",
                    who="email",
                    operation="write",
                    do="leave it out",
                )
            further[lower] = header(name, value)
        for name, value in ways_out(message, recipient, self._unsubscribe).items():
            further[name.lower()] = header(name, value)
        return further


def ways_out(message: Message, recipient: Address, unsubscribe: str | None) -> dict[str, str]:
    """The headers by which marketing mail is unsubscribed from, unless the message brings its own.

    Args:
        unsubscribe: the setting: a URL with `{key}` and `{address}` to be filled in.
    """
    brought = {name.lower() for name in message.headers}
    if message.purpose != "marketing" or not unsubscribe or "list-unsubscribe" in brought:
        return {}
    url = unsubscribe.replace("{key}", quote(message.key, safe=""))
    url = url.replace("{address}", quote(str(recipient), safe=""))
    one_click = {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} if url.startswith("https:") else {}
    return {"List-Unsubscribe": f"<{url}>", **one_click}


def key_hash(key: str) -> str:
    """What a key is called where not every character may stand: in a Message-ID, in a file name."""
    return sha256(key.encode("utf-8", "replace")).hexdigest()[:32]


def header(name: str, value: str) -> str:
    """One header with its line end, folded. Line breaks and control characters in the value become a space.

    Raises:
        PayloadError: the name is not a header's, or the value is not what such a header holds.
    """
    if not _NAME.fullmatch(name):
        raise PayloadError(f"{name!r} is not the name of a header", who="email", operation="write")
    value = CONTROLS.sub(" ", value).strip()
    lower = name.lower()
    if lower == "reply-to":
        try:
            return f"{name}: {parse_mailbox(value).header(len(name) + 2)}\r\n"
        except ValueError as error:
            raise PayloadError(f"Reply-To {value!r}: {error}", who="email", operation="write") from error
    if value.isascii() and ("=?" not in value or lower in STRUCTURED):
        line = f"{name}: {value}\r\n"
        if len(line) <= 80:
            return line
        folded = _fold(name, value)
        if folded is not None:
            return folded
    if lower in STRUCTURED:
        raise PayloadError(
            f"a header {name} cannot hold {value[:80]!r}",
            who="email",
            operation="write",
            do="use ASCII, and less of it",
        )
    words = "\r\n ".join(encoded_words(value, len(name) + 2))
    return f"{name}: {words}\r\n"


def _fold(name: str, value: str) -> str | None:
    """ASCII folded at its spaces; None if a word is longer than a line may be."""
    lines: list[str] = []
    line = f"{name}:"
    for token in _TOKEN.findall(f" {value}"):
        if len(line) + len(token) > 78 and line != f"{name}:":
            lines.append(line)
            line = token
        else:
            line += token
        if len(line) > MAX_LINE:
            return None
    return "\r\n".join([*lines, line, ""])


def part(subtype: str, text: str) -> bytes:
    """Headers and body of one part: as it stands where every line is short ASCII, else the shorter encoding."""
    text = _NEWLINE.sub("\r\n", text)
    if not text.endswith("\r\n"):
        text += "\r\n"
    data = text.encode("utf-8", "replace")
    charset, encoding = "utf-8", "quoted-printable"
    if text.isascii() and _PLAIN.fullmatch(data):
        charset, encoding, body = "us-ascii", "7bit", data
    elif (len(data) - len(text)) * 6 > len(data):
        encoding = "base64"
        code = b2a_base64(data, newline=False)
        body = b"\r\n".join([*(code[i : i + 76] for i in range(0, len(code), 76)), b""])
    else:
        body = b2a_qp(data, istext=True)
    top = f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return top.encode("ascii") + body
