"""What a vendor says, as it may be shown and stored: without what is anybody's own.

Vendors quote what they were sent, and servers name whom they do not know. So a word is kept only if it is plain and is
no part of what is ours; what the vendor says by its code is never lost by that.
"""

import re
from collections.abc import Iterable

from crmkit import Message

#: So much of what a vendor says is looked at, and so much shown, in characters.
LONGEST, SHOWN = 2_000, 200
#: What is shorter is no part of a word; it may be a word, and somebody's name.
TELLING = 4
#: What everybody says.
_COMMON = frozenset(
    "a an and are at be been by for from has have in is it not of on or the this to was with you your".split()
)
_WORD = re.compile(r"[\"'(<\[]*[A-Za-z0-9][A-Za-z0-9_.,:;'/-]{0,29}[.,:;!?\"')>\]]*")
_NUMBER = re.compile(r"\d{6}|\d(?:[ ().-]?\d){8}")
_PART = re.compile(r"\w+")


def shown(words: str, ours: Iterable[str] = ()) -> str:
    """What a vendor says, on one line and not too long.

    Args:
        words: what it says.
        ours: addresses, texts and secrets, of which no part is told.
    """
    whole = {part.casefold() for one in ours for part in _PART.findall(one)} - _COMMON
    known = {part for part in whole if len(part) >= TELLING}
    kept: list[str] = []
    for word in words[:LONGEST].split():
        plain = word.casefold()
        is_fit = _WORD.fullmatch(word) and not _NUMBER.search(word) and whole.isdisjoint(_PART.findall(plain))
        if is_fit and not any(part in plain or (len(plain) >= TELLING and plain in part) for part in known):
            kept.append(word)
        elif not kept or kept[-1] != "...":
            kept.append("...")
    return " ".join(kept)[:SHOWN]


def ours(message: Message) -> list[str]:
    """What of a message is nobody's to read in an error: whom it is to, and what it says."""
    texts = [message.address, message.subject or "", message.text, message.html or ""]
    return [*texts, *message.headers.values(), *_texts(message.params)]


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
