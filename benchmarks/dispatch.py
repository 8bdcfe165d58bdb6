"""Dispatch over HTTP: messages that are decided already, to a vendor on loopback that answers at once or after 20 ms.

Beside it: a bare loop of as many workers over the same client and the same requests, which remembers nothing. What
crmkit does more is the claim, the mark before the wire, the attempt and the result of each, on disk.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks import house, sinks
from benchmarks.adapters import post
from benchmarks.harness import Race, Result, Size, timed
from benchmarks.house import House
from crmkit.adapters.http import client

CONCURRENCY = 50
CHANNEL = '[[channels.sms]]\nuse = "loopback"\nurl = "{url}"\nconcurrency = {concurrency}'


def run(folder: Path, size: Size) -> Iterator[Result]:
    """A row for each answer time."""
    house.load(size.messages)
    for milliseconds in (0, 20):
        with sinks.running("vendor", milliseconds / 1000) as port:
            url = f"http://127.0.0.1:{port}/messages"
            place = House(folder / str(milliseconds), channel=CHANNEL.format(url=url, concurrency=CONCURRENCY))
            place.create()
            place.sync()
            place.decide()
            decided = place.keep("decided.db")
            with closing(sqlite3.connect(decided)) as connection:
                ready = connection.execute("SELECT key, address, text FROM message WHERE state = 'queued'").fetchall()
            assert len(ready) == size.messages

            def crmkit(place: House = place, decided: Path = decided) -> float:
                place.restore(decided)
                sent: list[int] = []
                seconds = timed(lambda: sent.append(place.dispatch()))
                assert sent == [size.messages]
                return seconds

            def bare(ready: list[tuple[str, str, str]] = ready, url: str = url) -> float:
                return timed(lambda: asyncio.run(_loop(ready, url)))

            race = Race(size.rounds, {"crmkit": crmkit, "bare": bare})
            yield Result(
                f"dispatch, {milliseconds} ms, {CONCURRENCY} in flight",
                f"{race.rate('crmkit', size.messages):,.0f} messages/s",
                f"bare loop, {race.rate('bare', size.messages):,.0f}/s",
                race.ratio("crmkit", "bare"),
                0.7,
            )


async def _loop(ready: list[tuple[str, str, str]], url: str) -> None:
    waiting = iter(ready)
    async with client(concurrency=CONCURRENCY) as http:

        async def work() -> None:
            for key, to, text in waiting:
                await post(http, url, key, to, text)

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
