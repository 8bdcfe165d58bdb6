"""Messages that go in one call, and what came of each.

Of a call that was lost nothing is known, so all its messages are in doubt; what a vendor is told beside such a call has
a mark of each, by which one of them is found again.
"""

from base64 import urlsafe_b64encode
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
#: What marks begin with, and characters of one.
_SIGN, _LENGTH = "~", 2


async def handed_over(messages: Sequence[Message], hand: Hand) -> AsyncIterator[Receipt]:
    """Every receipt as it comes; at the end what was raised.

    Nobody is written to twice in one call, since receipts name call and recipient. A call that is refused for what may
    be one message's fault is made again for each half. One error goes for all that have no receipt: where there is a
    doubt, what surely was not taken is put off instead.

    Raises:
        AdapterError: what goes for all that were not yielded.
    """
    raised: list[tuple[Message, AdapterError]] = []
    stopped: AdapterError | None = None
    waiting = deque(_apart(messages))
    while waiting:
        group = waiting.popleft()
        came = await hand(group) if stopped is None else [(message, stopped) for message in group]
        if came is None:
            half = len(group) // 2
            waiting.extendleft((group[half:], group[:half]))
            continue
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
                yield message.deferred(str(error), getattr(error, "retry_after", None))
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


def marks(messages: Sequence[Message]) -> str:
    """A mark of each message: two characters, which fit a hundred into what vendors repeat."""
    return _SIGN + "".join(_mark(message.key) for message in messages)


def is_marks(text: str) -> bool:
    """Whether a vendor repeats marks, and not a key."""
    return text.startswith(_SIGN)


def has_mark(text: str, key: str) -> bool:
    """Whether the message of this key was likely in a call; of 4,096 others one is taken for it."""
    found = text.removeprefix(_SIGN)
    pairs = (found[at : at + _LENGTH] for at in range(0, len(found), _LENGTH))
    return is_marks(text) and _mark(key) in pairs


def _mark(key: str) -> str:
    return urlsafe_b64encode(blake2b(key.encode(), digest_size=3).digest()).decode()[:_LENGTH]
