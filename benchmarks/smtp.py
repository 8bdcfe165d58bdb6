"""Dispatch over the gateway `smtp`: mails of text and HTML, rendered when decided, written as MIME when sent.

Beside it: a loop over one aiosmtplib connection that sends the same mails, finished beforehand.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from aiosmtplib import SMTP

from benchmarks import house, sinks
from benchmarks.harness import Race, Result, Size, timed
from benchmarks.house import House
from crmkit import Message
from crmkit_email.mime import MailSettings, Writer

SENDER = "shop@tea.example"
CHANNEL = '[[channels.email]]\nuse = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\nsender = "{sender}"'


def run(folder: Path, size: Size) -> Iterator[Result]:
    """The row."""
    house.load(size.mails)
    with sinks.running("mail") as port:
        place = House(folder, channel=CHANNEL.format(port=port, sender=SENDER), via="email")
        place.create()
        place.sync()
        place.decide()
        decided = place.keep("decided.db")
        mails = _finished(decided)
        assert len(mails) == size.mails

        def crmkit() -> float:
            place.restore(decided)
            sent: list[int] = []
            seconds = timed(lambda: sent.append(place.dispatch()))
            assert sent == [size.mails]
            return seconds

        race = Race(size.rounds, {"crmkit": crmkit, "bare": lambda: timed(lambda: asyncio.run(_loop(mails, port)))})
        yield Result(
            "dispatch over smtp",
            f"{race.rate('crmkit', size.mails):,.0f} mails/s",
            f"one connection, finished mails, {race.rate('bare', size.mails):,.0f}/s",
            race.ratio("crmkit", "bare"),
            0.6,
        )


def _finished(database: Path) -> list[tuple[str, bytes]]:
    writer = Writer(MailSettings(sender=SENDER))
    names = "id key channel address_kind address purpose template locale text subject html".split()
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(f"SELECT {', '.join(names)} FROM message WHERE state = 'queued'").fetchall()
    messages = [Message(**dict(zip(names, row, strict=True))) for row in rows]
    return [(message.address, writer.write(message, datetime.now(UTC)).content) for message in messages]


async def _loop(mails: list[tuple[str, bytes]], port: int) -> None:
    async with SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False) as connection:
        for to, content in mails:
            await connection.sendmail(SENDER, [to], content)
