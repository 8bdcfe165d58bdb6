"""Signed links: what a customer may open without a login. Each names one customer and one purpose, and expires.

A link is `<web url>/<letter>/<token>`. The token is what it is about and a keyed hash of that, of the letter and of the
moment it expires: changed anywhere, taken to another page or opened too late, it opens nothing. It holds numbers only,
nobody's name or address.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

#: {purpose: (the letter of its page, how many days its links last)}
PURPOSES: dict[str, tuple[str, int]] = {
    "unsubscribe": ("u", 400),
    "preferences": ("p", 180),
    "order": ("o", 180),
    "statement": ("s", 60),
    "survey": ("q", 60),
    "contact": ("c", 365),
}
_PURPOSE_OF = {letter: purpose for purpose, (letter, _) in PURPOSES.items()}

#: Bytes of the keyed hash: one guess in 2^96 hits.
_MAC = 12
_EPOCH = date(2020, 1, 1)
#: A token is never longer, whatever it says.
LONGEST = 200


class LinkError(ValueError):
    """A link opens nothing: it is not one of ours, or `is_expired`."""

    def __init__(self, what: str, *, is_expired: bool = False) -> None:
        super().__init__(what)
        self.is_expired = is_expired


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is about.

    Attributes:
        purpose: one of `PURPOSES`.
        profile_id: the customer it was made for.
        subject: the number of what it is about: an order, for a statement a shop; 0: nothing more.
        word: a name, where it takes one: a survey's, a channel's.
        until: the last day (UTC) it opens.
    """

    purpose: str
    profile_id: int
    subject: int = 0
    word: str = ""
    until: date = date.max

    def expires_at(self) -> datetime:
        """The first moment at which it opens nothing any more."""
        return datetime.combine(self.until, datetime.min.time(), UTC) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and reads the links of an installation.

    Attributes:
        url: where customers reach it.
        keys: the secrets links are signed with: the first signs, all of them are read, so that keys can change over.
    """

    url: str
    keys: Sequence[bytes]

    def make(
        self,
        purpose: str,
        profile_id: int,
        now: datetime,
        *,
        subject: int = 0,
        word: str = "",
        until: date | None = None,
    ) -> str:
        """The address of a page for one customer. The same day and the same facts give the same address.

        Args:
            until: the last day it opens, where it is to end before its time.
        """
        letter, days = PURPOSES[purpose]
        usual = now.astimezone(UTC).date() + timedelta(days=days)
        until = usual if until is None else min(until, usual)
        said = _pack((until - _EPOCH).days, profile_id, subject) + word.encode()
        token = base64.urlsafe_b64encode(said + _sign(self.keys[0], letter, said)).rstrip(b"=").decode()
        return f"{self.url.rstrip('/')}/{letter}/{token}"

    def read(self, letter: str, token: str, now: datetime) -> Link:
        """What a link is about.

        Raises:
            LinkError: it is not one of this page's, or it has expired.
        """
        purpose = _PURPOSE_OF.get(letter)
        try:
            if purpose is None or len(token) > LONGEST or not token.isascii():
                raise LinkError("no link of ours")
            whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            said, mac = whole[:-_MAC], whole[-_MAC:]
            found = [hmac.compare_digest(mac, _sign(key, letter, said)) for key in self.keys]
            if not any(found):
                raise LinkError("no link of ours")
            (days, profile_id, subject), word = _unpack(said)
            link = Link(purpose, profile_id, subject, word.decode(), _EPOCH + timedelta(days=days))
        except (binascii.Error, IndexError, UnicodeDecodeError, OverflowError):
            raise LinkError("no link of ours") from None
        if base64.urlsafe_b64encode(whole).rstrip(b"=").decode() != token:  # one link is written in one way
            raise LinkError("no link of ours")
        if now >= link.expires_at():
            raise LinkError("the link has expired", is_expired=True)
        return link


def key_of(secret: str) -> bytes:
    """The key links are signed with, of a secret that may be used for other things too."""
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"crmkit links").digest()


def _sign(key: bytes, letter: str, said: bytes) -> bytes:
    return hmac.new(key, letter.encode() + b"\0" + said, hashlib.sha256).digest()[:_MAC]


def _pack(*numbers: int) -> bytes:
    """Numbers from 0 up, seven bits to a byte."""
    packed = bytearray()
    for number in numbers:
        while number > 0x7F:
            packed.append(number & 0x7F | 0x80)
            number >>= 7
        packed.append(number)
    return bytes(packed)


def _unpack(packed: bytes) -> tuple[tuple[int, int, int], bytes]:
    """Three numbers, and what is left."""
    numbers, place = [], 0
    for _ in range(3):
        number, shift = 0, 0
        while True:
            byte = packed[place]
            place += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        numbers.append(number)
    return (numbers[0], numbers[1], numbers[2]), packed[place:]
