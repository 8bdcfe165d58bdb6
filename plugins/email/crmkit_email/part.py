"""A batch that is refused as a whole: nothing of it was taken, so it is handed over again in parts.

Who is named as the culprit is left out; where nobody is, halves find him. What is harmed in the end is one message.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from crmkit import DoubtError, Message, Receipt

#: A batch is handed over in so many calls, and for so many seconds, at the most; then what is left waits its turn.
CALLS, SECONDS = 40, 120.0


@dataclass(frozen=True, slots=True)
class Whole:
    """A call that was refused as a whole.

    Attributes:
        alone: what becomes of a message that is refused so when it is handed over alone.
        culprits: {number of a message: its receipt}, where the vendor says whose fault it is.
    """

    alone: Callable[[Message], Receipt]
    culprits: Mapping[int, Receipt] = field(default_factory=dict)


#: Hands messages over in one call.
HandOver = Callable[[Sequence[Message]], Awaitable[Sequence[Receipt] | Whole]]


async def in_parts(parts: Sequence[Sequence[Message]], hand_over: HandOver) -> AsyncIterator[Receipt]:
    """A receipt for each message, as it is known.

    Args:
        parts: what is to go in one call each.
        hand_over: makes a call.

    Raises:
        AdapterError: as the call; of what was not handed over before a doubt, nothing left.
    """
    waiting, calls, began = [list(part) for part in parts if part], 0, time.monotonic()
    got_on = False  # somebody has a verdict; where nobody has, each turn costs a try, so that there is an end
    while waiting:
        part = waiting.pop(0)
        if calls >= CALLS or time.monotonic() - began > SECONDS:
            for message in part:
                put_off = message.untried if got_on else message.deferred
                yield put_off("its batch had to be handed over in too many parts")
            continue
        calls += 1
        try:
            said = await hand_over(part)
        except DoubtError:
            for message in (one for rest in waiting for one in rest):
                yield message.untried("its batch came to a halt before it was handed over")
            raise
        if not isinstance(said, Whole):
            got_on = True
            for receipt in said:
                yield receipt
            continue
        got_on = got_on or bool(said.culprits) or len(part) == 1
        for receipt in said.culprits.values():
            yield receipt
        left = [message for message in part if message.id not in said.culprits]
        if said.culprits:
            waiting = [left, *waiting] if left else waiting
        elif len(left) == 1:
            yield said.alone(left[0])
        else:
            waiting = [left[: len(left) // 2], left[len(left) // 2 :], *waiting]
