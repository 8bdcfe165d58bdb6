"""Whether a message in Twilio's log could be one of ours: what is surely not there is sent again, and would be doubled.

Twilio does not always show what it was given. A trial account and a footer add to the text, smart encoding (a
messaging service has it by default) rewrites it, redaction hides texts and ends of numbers, countries change how their
numbers are written, and a service may send by another channel (`rcs:+86...`). So only what differs in what none of
these touch is surely another message.
"""

import re
import unicodedata
from typing import Literal

from crmkit import Message
from crmkit_sms.twilio_shape import TwilioListed

#: `same`: it is one that reads exactly so; `unclear`: it could be it; `other`: it surely is another.
Likeness = Literal["same", "unclear", "other"]

NUMBER = re.compile(r"\+[1-9][0-9]{4,14}")
_CHANNEL = re.compile(r"^[a-z]+:")
#: What stands for characters that are not shown.
_MASK = re.compile(r"[Xx*#•█…]")
_COVERED = re.compile(r"[*#•█]{3}|X{3}")
#: What stands for a whole text that is not shown, in so few letters.
_GONE, _SHORT = re.compile(r"redact|remov|delet|hidden|unavailable", re.IGNORECASE), 40
#: Numbers that share so many digits at their end may be one, written in two ways.
_TAIL = 7


def likeness(found: TwilioListed, message: Message, *, rewrites: bool) -> Likeness:
    """Whether a listed message is, or could be, the one we mean; when it was made is not looked at.

    Args:
        found: as Twilio lists it.
        message: the one in doubt.
        rewrites: whether Twilio may have replaced characters of its text.
    """
    if found.direction == "inbound":
        return "other"
    alike = {_of_number(found.to, message.address), _of_text(found.body or "", message.text, rewrites)}
    if "other" in alike:
        return "other"
    return "same" if alike == {"same"} and found.sid else "unclear"


def is_masked(to: str | None) -> bool:
    """Whether a recipient is not shown in full: then a list that is asked for a number may leave it out."""
    return to is not None and not NUMBER.fullmatch(to) and _MASK.search(_CHANNEL.sub("", to)) is not None


def _of_number(to: str | None, address: str) -> Likeness:
    if not to:
        return "same"  # the list was asked for this number
    bare = _CHANNEL.sub("", to)
    if NUMBER.fullmatch(bare):
        if bare == address:
            return "same" if bare == to else "unclear"
        return "unclear" if bare[-_TAIL:] == address[-_TAIL:] else "other"
    if len(to) == len(address) and is_masked(to):
        fits = all(shown == given or _MASK.fullmatch(shown) for shown, given in zip(to, address, strict=True))
        return "same" if fits else "other"
    return "unclear"


def _of_text(body: str, text: str, rewrites: bool) -> Likeness:
    if body == text:
        return "same"
    theirs, ours = _letters(body), _letters(text)
    if not theirs or theirs in ours or ours in theirs or _COVERED.search(body):
        return "unclear"
    if len(theirs) <= _SHORT and _GONE.search(body):
        return "unclear"
    if rewrites:
        rest = iter(theirs)
        if all(char in rest for char in ours if _is_kept(char)):
            return "unclear"
    return "other"


def _letters(text: str) -> str:
    """What is left of a text where punctuation, spaces, accents and look-alikes were replaced."""
    return "".join(char for char in unicodedata.normalize("NFKD", text).casefold() if char.isalnum())


def _is_kept(char: str) -> bool:
    """Whether no rewriting touches a letter: it replaces what looks like ASCII, and no other script."""
    return char.isascii() or char >= "\u0400"
