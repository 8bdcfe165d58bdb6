"""E-mail addresses as the wire wants them: checked, the domain in its ASCII form, the name fit for a header.

What is let through here is written into SMTP commands, so nothing that could end a command or a header passes.
Domains follow IDNA 2008 (`idna`), not the standard library's `idna` codec of 2003, which would write to
`strasse.example` what was meant for `straße.example`.
"""

import re
from binascii import b2a_base64
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parseaddr
from functools import lru_cache

import idna

_LOCAL = re.compile(
    r'[^\s\x00-\x20\x7f-\xa0\ud800-\udfff"(),:;<>@\[\\\]]{1,64}|"(?:[^"\\\x00-\x1f\x7f-\x9f]|\\[ -~]){0,62}"'
)
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
#: what ends a line somewhere, and what no header may hold
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Address:
    """An address that may be written into a command: the local part as it was given, the domain in ASCII."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def needs_utf8(self) -> bool:
        """Whether only a server with SMTPUTF8 can be given it."""
        return not self.local.isascii()


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address with the name it is shown under, as in `Tea House <shop@tea.example>`."""

    name: str
    address: Address

    def header(self, used: int) -> str:
        """The value of a header; `used` columns of the first line are taken by the header's own name."""
        if not self.name:
            return str(self.address)
        if not self.name.isascii() or "=?" in self.name:
            phrase = "\r\n ".join(encoded_words(self.name, used))
            separator = "\r\n " if "\r\n" in phrase else " "
            return f"{phrase}{separator}<{self.address}>"
        if _PHRASE.fullmatch(self.name):
            return f"{self.name} <{self.address}>"
        quoted = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{self.address}>'


@lru_cache(maxsize=4096)
def ascii_domain(domain: str) -> str:
    """The domain in ASCII: punycode where it is international.

    Raises:
        ValueError: it is not a domain.
    """
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise ValueError("the domain is not a valid international name") from error
    if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
        raise ValueError("the domain is not one")
    return domain


def parse_address(text: str) -> Address:
    """One bare address.

    Raises:
        ValueError: it is not one; the text says why without repeating the address.
    """
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError("there is no @")
    if len(local.encode(errors="replace")) > 64 or not _LOCAL.fullmatch(local):
        raise ValueError("the part before the @ is empty, too long, or has characters no server takes")
    return Address(local, ascii_domain(domain))


def parse_mailbox(text: str) -> Mailbox:
    """One address with or without a name: `shop@tea.example`, `Tea House <shop@tea.example>`.

    Raises:
        ValueError: it is not one.
    """
    if CONTROLS.search(text):
        raise ValueError("it has a line break or control character")
    if "<" not in text:
        return Mailbox("", parse_address(text.strip()))
    name, _, rest = text.rpartition("<")
    address, closed, after = rest.partition(">")
    if not closed or after.strip():
        raise ValueError("the address is not closed with > at the end")
    name = name.strip()
    if name.startswith('"'):
        name, address_read = parseaddr(f"{name} <x@x>")
        if address_read != "x@x":
            raise ValueError("the quoted name is not well formed")
    return Mailbox(name, parse_address(address.strip()))


def encoded_words(text: str, used: int) -> Iterator[str]:
    """Text as encoded words (RFC 2047, base64), each fit for a line; characters are never torn apart.

    Args:
        text: any text without control characters.
        used: columns of the first line already taken.
    """
    raw = text.encode("utf-8", "replace")
    start, room = 0, max(12, (76 - used - 12) // 4 * 3)
    while start < len(raw):
        end = min(start + min(room, 45), len(raw))
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        yield f"=?utf-8?b?{b2a_base64(raw[start:end], newline=False).decode('ascii')}?="
        start, room = end, 45
