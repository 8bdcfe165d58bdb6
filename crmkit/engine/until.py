"""Tasks that go on side by side until they are to stop, or one of them ends."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any


async def run_until(stop: asyncio.Event, steps: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Go on with all of these until `stop` is set; a transaction that is under way then may end.

    Raises:
        Exception: what ended one of them.
    """
    tasks = [asyncio.create_task(step) for step in (*steps, _stopped(stop))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for result in ended:
        if isinstance(result, Exception):
            raise result


async def _stopped(stop: asyncio.Event) -> None:
    await stop.wait()
