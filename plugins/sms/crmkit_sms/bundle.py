"""Messages that go in one call, and what came of each.

Of a call that was lost nothing is known, so all its messages are in doubt; what a vendor is told beside such a call has
a mark of each, by which one of them is found again.
"""

import string
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from hashlib import blake2b

from crmkit import AdapterError, AuthError, DoubtError, Message, Receipt, RetryableError

#: What came of a message: what its vendor said, or what was raised instead.
Came = tuple[Message, Receipt | AdapterError]
#: Makes one call for messages to different numbers; None where it was refused for what may be the fault of one of them.
Hand = Callable[[Sequence[Message]], Awaitable[Sequence[Came] | None]]
#: Which error goes for all that have no receipt: the one that promises least.
_FIRST: dict[type[AdapterError], int] = {DoubtError: 0, AuthError: 1, RetryableError: 2}
#: Messages are handed over in so many calls, and for so many seconds, at the most; then what is left waits its turn.
#: Two hundred that are all refused are so told in six turns.
CALLS, SECONDS = 80, 120.0
#: What marks begin with, and what they and their width are written in, six bits to a letter.
_SIGN, _LETTERS = "~", string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
#: Bits of a mark at the most.
_WIDEST = 48


async def handed_over(messages: Sequence[Message], hand: Hand) -> AsyncIterator[Receipt]:
    """Every receipt as it comes; at the end what was raised.

    Nobody is written to twice in one call, since receipts name call and recipient. A call that is refused for what may
    be one message's fault is made again for each half, within bounds: what takes longer than a try may is in doubt,
    though it never left. One error goes for all that have no receipt: where there is a doubt, what surely was not taken
    is put off instead.

    Raises:
        AdapterError: what goes for all that were not yielded.
    """
    raised: list[tuple[Message, AdapterError]] = []
    handed: set[int] = set()
    got_on = False  # somebody has a verdict; where nobody has, each turn costs a try, so that there is an end
    stopped: AdapterError | None = None
    waiting, calls, began = deque(_apart(messages)), 0, time.monotonic()
    while waiting:
        group = waiting.popleft()
        if stopped is None and (calls >= CALLS or time.monotonic() - began > SECONDS):
            for message in group:
                put_off = message.untried if got_on else message.deferred
                yield put_off("its batch had to be handed over in too many parts")
            continue
        if stopped is None:
            calls += 1
            handed.update(message.id for message in group)
            came = await hand(group)
        else:
            came = [(message, stopped) for message in group]
        if came is None:
            half = len(group) // 2
            waiting.extendleft((group[half:], group[:half]))
            continue
        got_on = True
        for message, one in came:
            if isinstance(one, Receipt):
                yield one
                continue
            raised.append((message, one))
            if isinstance(one, AuthError | RetryableError):  # goes for what would follow too
                stopped = one
    if not raised:
        return
    gravest = min((error for _, error in raised), key=lambda error: _FIRST.get(type(error), len(_FIRST)))
    if isinstance(gravest, DoubtError):
        for message, error in raised:
            if not isinstance(error, DoubtError):
                put_off = message.deferred if message.id in handed else message.untried
                yield put_off(str(error), getattr(error, "retry_after", None))
    raise gravest


def _apart(messages: Iterable[Message]) -> list[list[Message]]:
    """Messages in groups in which each number stands once."""
    groups: list[dict[str, Message]] = []
    for message in messages:
        group = next((one for one in groups if message.address not in one), None)
        if group is None:
            groups.append(group := {})
        group[message.address] = message
    return [list(group.values()) for group in groups]


def marks(messages: Sequence[Message], longest: int) -> str:
    """A mark of each message, as wide as they fit into what the vendor repeats.

    Args:
        messages: those of a call.
        longest: characters the vendor repeats.
    """
    width = min(_WIDEST, (longest - 2) * 6 // len(messages))
    bits = "".join(_mark(message.key, width) for message in messages)
    bits += "0" * (-len(bits) % 6)
    return _SIGN + _LETTERS[width] + "".join(_LETTERS[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def is_marks(text: str) -> bool:
    """Whether a vendor repeats marks, and not a key."""
    return text.startswith(_SIGN)


def has_mark(text: str, key: str) -> bool:
    """Whether the message of this key was likely in a call.

    A call of a hundred in 255 characters has 15 bits for each: of 330 other messages one is taken for one of them; with
    two hundred in 511 characters, of 160. With 31 or fewer in a call it does not happen (48 bits).
    """
    if not is_marks(text) or len(text) < 2 or not set(text[1:]) <= set(_LETTERS):
        return False
    width = _LETTERS.index(text[1])
    bits = "".join(f"{_LETTERS.index(letter):06b}" for letter in text[2:])
    wanted = _mark(key, width)
    return width > 0 and any(bits[at : at + width] == wanted for at in range(0, len(bits), width))


def _mark(key: str, width: int) -> str:
    """The first bits of a key's hash."""
    digest = int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_WIDEST // 8).digest())
    return f"{digest:0{_WIDEST}b}"[:width]
