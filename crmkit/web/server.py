"""The server: the application on a port, closed to whoever is slow, and shut without losing what came in.

It is uvicorn with a protocol that ends a connection whose client keeps it waiting: for the head of a request, for its
body, or by not reading what it is answered. It stands behind a proxy that speaks TLS, or alone on a private network.
"""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from crmkit.core.errors import ConfigError
from crmkit.engine.local import Local
from crmkit.web.app import create
from crmkit.web.limit import SHARE, Callers, Crowd

#: Seconds after which the thread that keeps webhooks gets the interpreter from the one that hears them: Python's own
#: 5 ms, waited for with every statement, are longer than a commit.
SWITCH = 0.000_5


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client is waited for, in seconds, and how much of it is borne.

    Attributes:
        head: until a request's head is there, from the connection or from its first byte.
        body: from then on until its body is; a route may wait less long.
        idle: between requests.
        reading: until a client goes on reading what it is answered.
        lingering: once the server is to end, until nobody is let in any more; that it ends is said at once.
        ending: from then on for requests in flight.
        connections: at once; more are told to come again, and so is an address that has its share of them already.
        largest_head: bytes of a request that are neither its body nor round it: where to, and fields before and after.
        most_fields: of them.
    """

    head: float = 10.0
    body: float = 20.0
    idle: float = 20.0
    reading: float = 20.0
    lingering: float = 0.0
    ending: float = 10.0
    connections: int = 1_000
    largest_head: int = 32 * 1024
    most_fields: int = 100

    @property
    def share(self) -> int:
        """Connections one address may have."""
        return max(1, self.connections // SHARE)


def _closing(status: str, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n{more}connection: close\r\n\r\n".encode()


#: What a chunk of a body has round it without being told of: its size and its ends.
_ROUND_A_CHUNK = 32
_CROWDED = _closing("503 Service Unavailable", "retry-after: 1\r\n")
_LONG = _closing("431 Request Header Fields Too Large")


class Connection(HttpToolsProtocol):
    """One connection. At any time it waits for one thing: a head, a body, its reader, or nothing."""

    patience = Patience()
    crowd: Crowd
    _deadline: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None
    _caller: str | None = None
    _is_head = _is_long = False
    _head = _fields = 0  # read of the message: bytes that are none of its body, and how many fields
    _unread = 0  # bytes of it that came, and are no body, nor anything that was read yet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head, unless there are too many already."""
        super().connection_made(transport)
        self._caller = self.crowd.enter(self.client[0] if self.client else "")
        if len(self.connections) > self.patience.connections or self.crowd.is_full(self._caller, self.patience.share):
            transport.write(_CROWDED)
            transport.close()
        else:
            self._wait(self.patience.head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._rest()
        self._reads_again()
        self.crowd.leave(self._caller)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came: of what is no body only so much, and of a head within the time its first byte began."""
        for at in range(0, len(data), self.patience.largest_head):
            if not self.transport.is_closing():
                self._receive(data[at : at + self.patience.largest_head])
        if self._deadline is None and not self.transport.is_closing() and (self._is_head or not self._is_answering()):
            self._wait(self.patience.head)

    def _receive(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        self._unread = max(0, self._unread)
        if self._unread > self.patience.largest_head and not self.transport.is_closing():
            self._end()

    def send_400_response(self, msg: str) -> None:
        """What came is no request, or more than is read of one."""
        if self._is_long:
            self._end()
        else:
            super().send_400_response(msg)

    def _end(self) -> None:
        """More came than is read: say so, unless something else is being said."""
        if not self._is_answering() or not self.cycle.response_started:
            self.transport.write(_LONG)
        self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._is_head, self._head, self._fields, self._unread = True, 0, 0, 0

    def on_url(self, url: bytes) -> None:
        """Some of where to."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field; one that comes after the body is nobody's."""
        self._fields += 1
        self._count(len(name) + len(value) + 4)
        if self._is_head:
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        """So much was read of a head.

        Raises:
            ValueError: it is too much.
        """
        self._head += size
        if self._head > self.patience.largest_head or self._fields > self.patience.most_fields:
            self._is_long = True
            raise ValueError("too long")

    def on_headers_complete(self) -> None:
        """The head is there: wait for the body."""
        super().on_headers_complete()
        self._is_head, self._unread = False, 0
        self._wait(self.patience.body)

    def on_chunk_header(self) -> None:
        """A part of the body comes."""
        self._unread -= _ROUND_A_CHUNK

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._unread -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        super().on_message_complete()
        self._unread = 0
        self._rest()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._stuck = self._stuck or self.loop.call_later(self.patience.reading, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._reads_again()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first head
        return cycle is not None and not cycle.response_complete

    def _wait(self, seconds: float) -> None:
        self._rest()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _rest(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _reads_again(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's."""
        yield


class Server:
    """Serves an application.

    Args:
        app: the application.
        host, port: where; any port where 0.
        patience: how long clients are waited for.
        ending: called once it is to end, before it takes no more.
        callers: who calls, where an address may have its share of connections only.

    Attributes:
        port: the port it listens on.

    Raises:
        ConfigError: it cannot listen there.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        patience: Patience | None = None,
        ending: Callable[[], None] = lambda: None,
        callers: Callers | None = None,
    ) -> None:
        patience = patience or Patience()
        protocol = type("Connection", (Connection,), {"patience": patience, "crowd": Crowd(callers)})
        self._socket, self._ending, self._lingering = _listening(host, port), ending, patience.lingering
        self.port: int = self._socket.getsockname()[1]
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                loop="asyncio",
                log_config=None,
                access_log=False,  # paths hold secrets
                server_header=False,
                proxy_headers=False,  # whom a proxy calls for is asked where it matters
                timeout_keep_alive=patience.idle,  # type: ignore[arg-type]  # seconds, and parts of them
                timeout_graceful_shutdown=patience.ending,  # type: ignore[arg-type]
            )
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; requests in flight then may end."""
        sys.setswitchinterval(SWITCH)
        gc.collect()
        gc.freeze()  # what is there now stays, and need not be looked through again and again
        serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._socket]))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            self._ending()
            await asyncio.wait(
                [serving], timeout=self._lingering
            )  # whoever distributes calls looks elsewhere meanwhile
            self._uvicorn.should_exit = True
            await serving


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, proto)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(2048)
            found.setblocking(False)
        except BaseException:
            found.close()
            raise
    except OSError as error:
        what = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise ConfigError(what, who="serve", do="take another with --port, or end who has it") from None
    return found


def of(local: Local, host: str, port: int, lingering: float = 0.0) -> Server:
    """A server of an installation.

    Args:
        local: the installation.
        host, port: where.
        lingering: seconds for which it lets callers in, once it is to end.

    Raises:
        ConfigError: it cannot listen there.
    """
    app, web = create(local), local.host.config.web
    patience, callers = Patience(connections=web.connections, lingering=lingering), Callers(web.proxies)
    return Server(app, host, port, patience, ending=app.state.health.end, callers=callers)
