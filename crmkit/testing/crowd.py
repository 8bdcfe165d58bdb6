"""A vendor that is handed several messages at once: it answers late, the last first, and numbers each by itself."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import httpx

from crmkit.core.message import Message
from crmkit.testing.exchange import Exchange, Sent
from crmkit.testing.playback import Playback

#: Seconds that a request waits for each that comes after it.
PAUSE = 0.02


class Crowd(Playback):
    """Answers as exchanges say, whatever it is sent, and each request with ids of its own.

    Args:
        exchanges: what it answers; ids are changed in the answer of the last.
        ids: the ids in that answer.
        count: how many are handed over.
        options: as `Playback` takes them.

    Attributes:
        taken: what was sent, with its number, for which `numbered` says what became of an id.
    """

    def __init__(self, exchanges: Sequence[Exchange], ids: Iterable[str], count: int, **options: Any) -> None:
        super().__init__(exchanges, again=True, **options)
        self._ids, self._expected = tuple(ids), count
        self.taken: list[tuple[Sent, int]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request, late."""
        response = await super().handle_async_request(request)
        sent = Sent.of(request, request.headers, whole=True)
        number = len(self.taken) + 1
        if self.answers_last(sent):
            self.taken.append((sent, number))
            response = self._numbered(response, number)
        await asyncio.sleep(PAUSE * max(1, self._expected - number + 1))
        return response

    def _numbered(self, response: httpx.Response, number: int) -> httpx.Response:
        body, headers = response.content, response.headers.multi_items()
        for one in self._ids:
            fresh = numbered(one, number)
            body = body.replace(one.encode(), fresh.encode())
            headers = [(name, value.replace(one, fresh)) for name, value in headers]
        headers = [pair for pair in headers if pair[0] != "content-length"]
        return httpx.Response(response.status_code, headers=headers, content=body, request=response.request)


def numbered(text: str, number: int) -> str:
    """An id like another, of the same length and letters; one another for each number up to five."""
    for at in range(len(text) - 1, -1, -1):
        if text[at].isalnum():
            kinds = "0123456789" if text[at].isdigit() else "abcdef" if text[at].islower() else "ABCDEF"
            place = kinds.find(text[at])
            return text[:at] + kinds[(place + number) % len(kinds)] + text[at + 1 :]
    return text


def one_of(message: Message, number: int) -> Message:
    """A message like another to somebody else: with its own key, address, order and text."""
    address, _, host = message.address.rpartition("@")
    own = f"{address}{number}@{host}" if address else f"{host[:-1]}{number}"
    form = message.form
    if form is not None:
        form = replace(form, params={name: f"{value}{number}" for name, value in form.params.items()})
    return replace(
        message,
        id=message.id + number,
        key=f"{number}{message.key}",
        address=own,
        text=f"{message.text} {number}",
        order=None if message.order is None else f"{message.order}{number}",
        form=form,
    )


__all__ = ["Crowd", "numbered", "one_of"]
