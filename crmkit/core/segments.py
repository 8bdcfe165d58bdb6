"""How a text travels as SMS: which encoding it needs, how many units it takes, into how many parts it is cut.

3GPP TS 23.038 (the alphabet) and 23.040 (concatenation). One character outside the GSM alphabet turns the whole
message into UCS-2. Neither an escape pair nor a surrogate pair is cut in two: a part may end one unit early.
"""

from dataclasses import dataclass
from typing import Literal

#: The default alphabet, one septet a character; the escape character itself is none that can be written.
GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
#: The extension table: an escape and a septet each.
GSM_EXTENDED = frozenset("\f^{}\\[~]|€")
_GSM = GSM_BASIC | GSM_EXTENDED

#: (units of a message that is one part, units of each part of a longer one), with an 8-bit reference number.
_SIZES = {"gsm7": (160, 153), "ucs2": (70, 67)}


@dataclass(frozen=True, slots=True)
class Segments:
    """Septets (`gsm7`) or 16-bit units (`ucs2`) of a text, and the parts an SMS gateway cuts it into.

    Vendors may bill otherwise: mainland China counts every text at 70 and 67 characters, sign included.
    """

    encoding: Literal["gsm7", "ucs2"]
    units: int
    parts: int


def segments_of(text: str) -> Segments:
    """Encoding, units and parts of `text`; an empty text is still one part."""
    if _GSM.issuperset(text):
        encoding: Literal["gsm7", "ucs2"] = "gsm7"
        wide = sum(map(text.count, GSM_EXTENDED))
    else:
        encoding = "ucs2"
        wide = 0 if text.isascii() else sum(char > "\uffff" for char in text)
    units = len(text) + wide
    single, part = _SIZES[encoding]
    if units <= single:
        return Segments(encoding, units, 1)
    if not wide:
        return Segments(encoding, units, -(-units // part))
    parts, room = 1, part
    for char in text:
        cost = 1 + (char in GSM_EXTENDED if encoding == "gsm7" else char > "\uffff")
        if cost > room:
            parts, room = parts + 1, part
        room -= cost
    return Segments(encoding, units, parts)
