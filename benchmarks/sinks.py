"""Servers to send to, each in a process of its own: an HTTP vendor and a mail server that take everything.

As quick as a few lines of asyncio are, so that the sender is what is measured. `python -m benchmarks.sinks KIND
[SECONDS]` prints its port and serves until its input ends.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Vendor(asyncio.Protocol):
    """Answers every POST with an id, after a while if told so."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.read, self.count = seconds, b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            head = self.read[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self.read) < end + 4 + length:
                return
            self.read = self.read[end + 4 + length :]
            self.count += 1
            if self.seconds:
                asyncio.get_running_loop().call_later(self.seconds, self._answer, self.count)
            else:
                self._answer(self.count)

    def _answer(self, number: int) -> None:
        body = b'{"id": "v%d"}' % number
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)


class Mailbox(asyncio.Protocol):
    """Takes every mail."""

    def __init__(self) -> None:
        self.read, self.in_mail = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.read += data
        while (end := self.read.find(b"\r\n.\r\n" if self.in_mail else b"\r\n")) >= 0:
            line, self.read = self.read[:end], self.read[end + (5 if self.in_mail else 2) :]
            if self.in_mail:
                self.in_mail = False
                self.transport.write(b"250 2.0.0 taken\r\n")
                continue
            self._answer(line[:4].upper())

    def _answer(self, verb: bytes) -> None:
        if verb == b"EHLO":
            self.transport.write(b"250-sink\r\n250-SIZE 33554432\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n")
        elif verb == b"DATA":
            self.in_mail = True
            self.transport.write(b"354 go on\r\n")
        elif verb == b"QUIT":
            self.transport.write(b"221 2.0.0 bye\r\n")
            self.transport.close()
        else:
            self.transport.write(b"250 2.0.0 ok\r\n")


@contextmanager
def running(kind: str, seconds: float = 0) -> Iterator[int]:
    """A sink in its own process; gives its port."""
    command = [sys.executable, "-m", "benchmarks.sinks", kind, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(10)


async def _serve(kind: str, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Mailbox if kind == "mail" else lambda: Vendor(seconds), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], float(sys.argv[2])))
