"""Vendors that answer as exchanges say: one without a network, and one on 127.0.0.1 that can fail while it does."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from crmkit.testing.echo import echoed
from crmkit.testing.exchange import Exchange, Sent
from crmkit.testing.fault import FAULTS, answer
from crmkit.testing.vendor import Vendor, _end, _Request


class Playback(httpx.AsyncBaseTransport):
    """Answers what exchanges say, and notes what was sent and how it differs from what is expected.

    Requests may come in another order than the file has them: each is answered by the first exchange left that it does
    not differ from, else by the next one with its method and path, else by the next one.

    Args:
        exchanges: what is expected, and answered.
        any_of: names of which any value is right, see `Sent.differences`.
        again: whether a request more than there are exchanges is answered as the last was, and none is held against
            what is expected; what answers repeat of a request is then that request's, see `echoed`.

    Attributes:
        requests: what was sent, by exchange, in the order of the exchanges; what was none's comes last.
        problems: how it differs.
        unanswered: what was asked that no exchange was left for.
    """

    def __init__(self, exchanges: Sequence[Exchange], *, any_of: Iterable[str] = (), again: bool = False) -> None:
        self._left = list(enumerate(exchanges))
        self._count = len(exchanges)
        self._last = exchanges[-1] if exchanges else None
        self._any_of, self._again = frozenset(any_of), again
        self._sent: list[tuple[int, httpx.Request]] = []
        self.problems: list[str] = []
        self.unanswered: list[str] = []

    @property
    def answered(self) -> list[tuple[int, httpx.Request]]:
        """What was sent, with the number of the exchange that answered it; what was none's has a number after these."""
        return sorted(self._sent, key=lambda one: one[0])

    @property
    def requests(self) -> list[httpx.Request]:
        """What was sent."""
        return [request for _, request in self.answered]

    @property
    def missing(self) -> list[str]:
        """What was expected and never sent."""
        return [f"never sent: {one.request.method} {one.request.target}" for _, one in self._left]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        await request.aread()
        sent = Sent.of(request, request.headers, whole=True)
        number, chosen = self._chosen(sent)
        self._sent.append((number, request))
        if chosen is None:
            self.problems.append(f"request {len(self._sent)}: {sent.method} {sent.target} is not expected")
            self.unanswered.append(f"{sent.method} {httpx.URL(sent.target).path}")
            return httpx.Response(404, request=request)
        if not self._again:
            wrong = chosen.request.differences(sent, any_of=self._any_of)
            self.problems += [
                f"request {number + 1} ({chosen.request.method} {chosen.request.target}) {one}" for one in wrong
            ]
        if chosen.response is None:
            raise httpx.ReadError("the connection was closed", request=request)
        return (echoed(chosen, sent) if self._again else chosen.response).response(request)

    def answers_last(self, sent: Sent) -> bool:
        """Whether a request is like that of the last exchange: a gateway's message."""
        last = self._last
        return last is not None and (last.request.method, _path(last.request)) == (sent.method, _path(sent))

    def _chosen(self, sent: Sent) -> tuple[int, Exchange | None]:
        apart = [(one, one[1].request.differences(sent, any_of=self._any_of)) for one in self._left]
        place = (sent.method, httpx.URL(sent.target).path)
        best = min(
            apart,
            key=lambda pair: (bool(pair[1]), (pair[0][1].request.method, _path(pair[0][1].request)) != place),
            default=None,
        )
        if best is None:
            return self._count + len(self._sent), self._last if self._again else None
        self._left.remove(best[0])
        return best[0]


def _path(request: Sent) -> str:
    return httpx.URL(request.target).path


class PlaybackVendor(Vendor):
    """A vendor on 127.0.0.1 that answers as exchanges say, whatever it is asked, and fails at the last of them.

    Args:
        ledger: its ledger's file.
        exchanges: what it answers, in this order; what comes after the last is answered as the last.
        fault: how it fails at the last exchange, by its name in `crmkit.testing.fault`; None: not at all.
        options: as `Vendor` takes them.

    Attributes:
        asked: requests it read.
        sendings: those of them that are like the last exchange: a gateway's message.
    """

    def __init__(
        self,
        ledger: Path,
        exchanges: Sequence[Exchange],
        fault: str | None = None,
        *,
        always: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(ledger, **options)
        self._good = [(one.request.method, _path(one.request), _raw(one)) for one in exchanges]
        self._left = list(range(len(self._good)))
        self._fault = fault
        self._always = always
        self.asked = self.sendings = 0
        if fault is not None and FAULTS[fault].when == "connection":
            for _ in range(100 if always else 1):
                self.fail(fault, at="connection")

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def _serve(self, request: _Request, writer: Any) -> bool:
        self.asked += 1
        number = self._number(request.method, request.path)
        self.sendings += bool(self._good) and (request.method, request.path) == self._good[-1][:2]
        good = self._good[number][2] if self._good else answer(404)
        is_last = number == len(self._good) - 1
        how = FAULTS[self._fault] if self._fault is not None and is_last else None
        if how is None or how.when != "answer":
            writer.write(good)
            await writer.drain()
            return True
        if not self._always:
            self._fault = None
        return await _end(writer, how.writes(good), how.ends, self.pause / 10)

    def _number(self, method: str, path: str) -> int:
        """Which exchange a request is answered with: the next of its address, else the last of it, else the last."""
        mine = [number for number, one in enumerate(self._good) if one[:2] == (method, path)]
        fresh = [number for number in mine if number in self._left]
        if not fresh:
            return mine[-1] if mine else len(self._good) - 1
        self._left.remove(fresh[0])
        return fresh[0]


def _raw(exchange: Exchange) -> bytes:
    told = exchange.response
    if told is None:
        return b""
    headers = {
        name: value for name, value in told.headers if name.lower() not in {"content-length", "transfer-encoding"}
    }
    return answer(told.status, told.body, headers)
