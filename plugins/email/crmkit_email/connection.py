"""Connections to an SMTP server: opened once, used for many mails, never used again after anything went wrong.

Vendor documentation: RFC 5321, 3207 (STARTTLS), 4954 (AUTH); aiosmtplib is the client.

What a lost connection means depends on what had been written. Up to the last piece of a mail's content the server
cannot have taken the mail: RetryableError. From that piece on, which ends in the dot, it may have: DoubtError.
aiosmtplib's own `data()` does not tell the two apart, so content is written here.
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from typing import cast

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPHeloError,
    SMTPResponse,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from crmkit import AdapterError, AuthError, DoubtError, RetryableError
from crmkit_email.status import said

#: A connection idle for longer is asked whether it is still there before it is used.
IDLE_SECONDS = 60.0
#: Content is written in pieces of this size; most mails are one piece.
PIECE = 64 * 1024
_POLL_SECONDS = 0.005
_QUIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """The server and how to speak to it; `tls` is `starttls`, `implicit` or `none`."""

    host: str
    port: int
    tls: str
    username: str | None
    password: str
    timeout: float
    verdict_timeout: float

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Connection:
    """One connection, ready for a mail.

    Attributes:
        served: mails handed over so far.
        dirty: a transaction was refused midway; the server must forget it before the next.
    """

    def __init__(self, client: SMTP, server: Server) -> None:
        self._client = client
        self._server = server
        self._used_at = time.monotonic()
        self.served = 0
        self.dirty = False

    @property
    def alive(self) -> bool:
        """Whether it can still be used, as far as can be known without asking."""
        return self._client.is_connected

    def offers(self, extension: str) -> bool:
        """Whether the server announced an extension (lower case)."""
        return extension in self._client.esmtp_extensions

    @property
    def size_limit(self) -> int:
        """The largest mail the server takes, in octets; 0 if it does not say."""
        size = self._client.esmtp_extensions.get("size", "")
        return int(size) if size.isascii() and size.isdigit() else 0

    async def command(self, *words: bytes) -> SMTPResponse:
        """Send a command and read the reply, whatever it says.

        Raises:
            RetryableError: no reply that makes sense; the connection is gone.
        """
        try:
            reply = await self._client.execute_command(*words, timeout=self._server.timeout)
            return sensible(reply)
        except (SMTPException, OSError) as error:
            self.drop()
            step = words[0].split(b" ")[0].decode("ascii", "replace")
            raise RetryableError(
                f"{self._server} gave no answer to {step} ({_why(error)})", who="smtp", operation="deliver"
            ) from error

    async def send(self, content: bytes) -> SMTPResponse:
        """Write a mail after the server asked for it (354), and read the verdict.

        Raises:
            RetryableError: the connection was lost before the end was written; the server has no mail.
            DoubtError: the end was written, and no verdict came.
        """
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        wire = stuffed + b".\r\n"
        last = max(0, (len(wire) - 6) // PIECE * PIECE)  # the last piece holds the whole of CRLF.CRLF
        try:
            for start in range(0, last, PIECE):
                self._write(wire[start : start + PIECE])
                await self._drained()
            self._write(wire[last:])
        except (SMTPException, OSError) as error:
            self.drop()
            raise RetryableError(
                f"{self._server} was lost while the mail was being written ({_why(error)})",
                who="smtp",
                operation="deliver",
            ) from error
        try:
            if self._client.protocol is None:
                raise SMTPServerDisconnected("Connection lost")
            reply = sensible(await self._client.protocol.read_response(timeout=self._server.verdict_timeout))
            if reply.code < 400 and reply.code // 100 != 2:
                raise SMTPResponseException(reply.code, reply.message)
        except (SMTPException, OSError) as error:
            self.drop()
            raise DoubtError(
                f"{self._server} was given the mail and gave no verdict ({_why(error)})",
                who="smtp",
                operation="deliver",
                do="see in the server's log whether it took the Message-ID",
            ) from error
        self.served += 1
        self._used_at = time.monotonic()
        if reply.code == 421:
            self.drop()
        return reply

    async def is_ready(self) -> bool:
        """Whether another mail can be sent over it, asking the server where that is not certain."""
        if not self.alive:
            return False
        idle = time.monotonic() - self._used_at > IDLE_SECONDS
        if self.dirty or idle:
            try:
                reply = await self.command(b"RSET" if self.dirty else b"NOOP")
            except RetryableError:
                return False
            except BaseException:
                self.drop()
                raise
            if reply.code != 250:
                self.drop()
                return False
            self.dirty = False
        return True

    async def quit(self) -> None:
        """Take leave; however the server answers, the connection is gone."""
        try:
            if self.alive:
                await self._client.execute_command(b"QUIT", timeout=min(_QUIT_SECONDS, self._server.timeout))
        except (SMTPException, OSError):
            pass
        finally:
            self.drop()

    def drop(self) -> None:
        """End it at once: what is not written yet never will be."""
        _abort(self._client)

    def _write(self, piece: bytes) -> None:
        if self._client.protocol is None:
            raise SMTPServerDisconnected("Connection lost")
        self._client.protocol.write(piece)

    async def _drained(self) -> None:
        """Wait until the piece is with the operating system: the end is not written to a connection that is lost."""
        async with asyncio.timeout(self._server.timeout):
            while self.alive:
                transport = cast("asyncio.WriteTransport", self._client.transport)
                if not transport.get_write_buffer_size():
                    return
                await asyncio.sleep(_POLL_SECONDS)
        raise SMTPServerDisconnected("Connection lost")


async def connect(server: Server, tls: ssl.SSLContext | None) -> Connection:
    """A connection that is greeted, encrypted and logged in as configured.

    Raises:
        AuthError: credentials, certificate or what the server offers: nothing passes before the operator mends it.
        RetryableError: anything else; nothing of any mail was written.
    """
    client = SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.tls == "implicit",
        start_tls=False,
        tls_context=tls,
        timeout=server.timeout,
        local_hostname="localhost",  # not said: see _own_name
    )
    try:
        sensible(await client.connect())
        await _greet(client)
        if server.tls == "starttls":
            if not client.supports_extension("starttls"):
                raise AuthError(
                    f"{server} offers no STARTTLS",
                    who="smtp",
                    operation="connect",
                    do='check host and port; tls = "implicit" is usual on port 465, tls = "none" sends in the clear',
                )
            await client.starttls()
            await _greet(client)
        if server.username is not None:
            await _log_in(client, server)
    except AdapterError:
        _abort(client)
        raise
    except Exception as error:  # whatever it was, no mail had begun: it must not count as doubt
        _abort(client)
        raise _to_error(error, server) from error
    except BaseException:
        _abort(client)
        raise
    return Connection(client, server)


def sensible(reply: SMTPResponse) -> SMTPResponse:
    """The reply itself, if its code is one of SMTP's."""
    if not 200 <= reply.code <= 599:
        raise SMTPResponseException(reply.code, f"not an SMTP reply: {reply.message[:80]}")
    return reply


async def _greet(client: SMTP) -> None:
    try:
        await client.ehlo(hostname=_own_name(client))
    except SMTPHeloError as error:
        if error.code not in (500, 502) or not client.is_connected:
            raise
        await client.helo(hostname=_own_name(client))


async def _log_in(client: SMTP, server: Server) -> None:
    """Log in by one mechanism, in the clear only where nothing better is known: trying all of them locks accounts."""
    offered = client.server_auth_methods
    order = ("plain", "login", "cram-md5") if server.tls != "none" else ("cram-md5", "plain", "login")
    username, password = server.username or "", server.password
    for method in order:
        if method not in offered:
            continue
        try:
            if method == "plain":
                await client.auth_plain(username, password)
            elif method == "login":
                await client.auth_login(username, password)
            else:
                await client.auth_crammd5(username, password)
            return
        except SMTPAuthenticationError as error:
            if error.code not in (502, 504):
                raise
    raise AuthError(
        f"{server} offers no way to log in that crmkit knows (it offers: {', '.join(offered) or 'none'})",
        who="smtp",
        operation="connect",
        do="check host, port and tls, or leave out username and password",
    )


def _to_error(error: Exception, server: Server) -> AdapterError:
    untrusted = next((e for e in (error, error.__cause__) if isinstance(e, ssl.SSLCertVerificationError)), None)
    if untrusted:
        return AuthError(
            f"the certificate of {server} is not trusted ({untrusted.verify_message})",
            who="smtp",
            operation="connect",
            do="check host, or name the certificate's issuer with ca_file",
        )
    if isinstance(error, SMTPAuthenticationError) and error.code >= 500:
        return AuthError(
            f"{server} refused the credentials of {server.username} ({said(error.code, error.message)})",
            who="smtp",
            operation="connect",
            do="check username and password",
        )
    return RetryableError(f"{server} cannot be used now ({_why(error)})", who="smtp", operation="connect")


def _why(error: BaseException) -> str:
    if isinstance(error, SMTPResponseException):
        return said(error.code, error.message)
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(error) or type(error).__name__


def _own_name(client: SMTP) -> str:
    """What EHLO says: the machine's name if it is a full one, else its address. A look-up might take long."""
    name = socket.gethostname()
    if "." in name and name.isascii() and not any(c.isspace() for c in name):
        return name
    own = ipaddress.ip_address(client.get_transport_info("sockname")[0].partition("%")[0])
    return f"[{own}]" if own.version == 4 else f"[IPv6:{own}]"


def _abort(client: SMTP) -> None:
    transport = client.transport
    if transport is not None:
        cast("asyncio.WriteTransport", transport).abort()
    client.close()
