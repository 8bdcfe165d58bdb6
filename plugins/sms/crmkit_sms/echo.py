"""What a vendor says, as it may be shown and stored: without what it repeats of ours.

Vendors quote what they were sent: the number (national, with 00, with spaces), the text, the credentials. What is ours
is looked for by letters and digits alone, in pieces of a few, so that neither spelling nor a cut hides it.
"""

import html
import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

#: So much of what a vendor says is looked at, and so much shown, in characters.
LONGEST, SHOWN = 2_000, 300
#: So many letters or digits in a row that are ours are not shown; ideographs say more than letters.
NUMBER, SECRET, TEXT, IDEOGRAPHS = 6, 8, 10, 4
#: So many digits in a row, however they are set apart, are taken for somebody's number.
_SOMEBODY = re.compile(r"\+?\d(?:[ ().\-/]{0,2}\d){8,}")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


def signed_in(user: str, password: str) -> str:
    """Name and password as HTTP writes them, which a vendor may repeat too."""
    return b64encode(f"{user}:{password}".encode()).decode()


def shown(words: str, *, number: str = "", texts: Iterable[str] = (), secrets: Iterable[str] = ()) -> str:
    """What a vendor says, on one line and not too long.

    Args:
        words: what it says.
        number: the recipient's; "" where it is not known: then whatever looks like a number is taken out.
        texts: what was sent, or filled into what was sent.
        secrets: what only we and the vendor may know.
    """
    words = _plain(words[:LONGEST])
    for secret in sorted(secrets, key=len, reverse=True):
        words = _without(words, secret, "secret", SECRET)
    digits = "".join(char for char in number if char.isdigit())
    words = _without(words, digits, "recipient", NUMBER) if digits else _SOMEBODY.sub("recipient", words)
    ours = [part for text in texts for part in (text, *_codes(text))]
    for text in sorted(ours, key=len, reverse=True):
        words = _without(words, text, "text", TEXT)
    return " ".join("".join(char if char.isprintable() else " " for char in words).split())[:SHOWN]


def _plain(words: str) -> str:
    """Without what hides characters from being found: percent, entities, escapes."""
    for _ in range(3):
        plain = unquote(html.unescape(_ESCAPED.sub(lambda found: chr(int(found[1], 16)), words)))
        if plain == words:
            break
        words = plain
    return words


def _without(words: str, ours: str, label: str, count: int) -> str:
    """Words in which a label stands for whatever is ours in them."""
    ours = _plain(ours)
    known = "".join(letter for letter, _ in _letters(ours))
    if len(known) < 4:  # too little to be told from any other word
        return re.sub(rf"(?<!\w){re.escape(ours)}(?!\w)", label, words) if ours.strip() else words
    placed = list(_letters(words))
    hidden = _covered("".join(letter for letter, _ in placed), _pieces(known, count))
    parts, end, at = [], 0, 0
    while at < len(placed):
        if not hidden[at]:
            at += 1
            continue
        first = placed[at][1]
        while at < len(placed) and hidden[at]:
            at += 1
        if label == "recipient":
            first = len(words[:first].rstrip("+0"))
        parts += [words[end : max(end, first)], label]
        end = placed[at - 1][1] + 1
    return "".join([*parts, words[end:]])


def _letters(text: str) -> Iterator[tuple[str, int]]:
    """Letters and digits, as plain as they can be written, each with its place."""
    for at, char in enumerate(text):
        for one in unicodedata.normalize("NFKD", char).casefold():
            if one.isalnum():
                yield str(unicodedata.decimal(one, one)), at


def _pieces(known: str, count: int) -> set[str]:
    count = min(count, len(known))
    pieces = {known[at : at + count] for at in range(len(known) - count + 1)}
    some = (known[at : at + IDEOGRAPHS] for at in range(len(known) - IDEOGRAPHS + 1))
    return pieces | {piece for piece in some if all(char >= "\u2e80" for char in piece)}


def _covered(letters: str, pieces: set[str]) -> list[bool]:
    """For each letter, whether it belongs to one of the pieces."""
    covered = [False] * len(letters)
    for length in {len(piece) for piece in pieces}:
        for at in range(len(letters) - length + 1):
            if letters[at : at + length] in pieces:
                covered[at : at + length] = [True] * length
    return covered


def leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in what a template was filled with, so far as they are long enough to tell of somebody."""
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from leaves(one)
    elif not isinstance(value, bool) and value is not None and len(str(value)) >= 4:
        yield str(value)


def _codes(text: str) -> set[str]:
    """Numbers and codes in a text: what opens a locker is told by itself too."""
    return {word for word in re.findall(r"\w*\d\w*", text) if len(word) >= 4}
