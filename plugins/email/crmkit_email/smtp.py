"""Sends mail through an SMTP server, over connections that carry many mails each.

Vendor documentation: RFC 5321 and 6409 (submission), 1870 (SIZE), 6531 (SMTPUTF8).

SMTP has no idempotency: the Message-ID is the same for every try, yet no server promises to look at it. So this gateway
does not deduplicate, and is exact about what may have left (see `connection`).
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import httpx
from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from crmkit import (
    Account,
    AdapterError,
    AuthError,
    Gateway,
    Message,
    Reason,
    Receipt,
    RetryableError,
    UnsupportedError,
    hookimpl,
)
from crmkit_email.address import ascii_domain, parse_address
from crmkit_email.connection import Connection, Server, connect
from crmkit_email.machine import is_loopback
from crmkit_email.mime import Mail, MailSettings, Writer
from crmkit_email.pool import Pool
from crmkit_email.status import Phase, said, verdict

IMPLICIT_TLS_PORT = 465


class Stale(Exception):
    """A connection kept from earlier mails turned out to be closed before this mail began."""


class SmtpGateway(Gateway):
    """Sends mail through an SMTP server."""

    name = "smtp"
    channel = "email"
    reaches = ("email",)
    deduplicates = False

    class Settings(MailSettings):
        """How to reach the server, and as whom."""

        model_config = ConfigDict(hide_input_in_errors=True)

        host: str
        port: Annotated[int, Field(ge=1, le=65535)] = 587
        #: by default: implicit on port 465, else starttls
        tls: Literal["starttls", "implicit", "none"] | None = None
        username: str | None = None
        password: SecretStr | None = None
        #: where the server sends bounces, if not to the sender
        envelope_sender: str | None = None
        #: seconds to wait for a connection and for each reply
        timeout: Annotated[float, Field(gt=0)] = 60.0
        #: seconds to wait for the verdict on a mail's content; giving up leaves the mail in doubt
        verdict_timeout: Annotated[float, Field(gt=0)] = 120.0
        #: a PEM file of certificates to trust, if not the system's
        ca_file: Path | None = None
        #: connections at once
        concurrency: Annotated[int, Field(ge=1, le=1000)] = 4
        #: mails over one connection
        max_per_connection: Annotated[int, Field(ge=1)] = 100

        @field_validator("host")
        @classmethod
        def _is_host(cls, value: str) -> str:
            try:
                return str(ipaddress.ip_address(value))
            except ValueError:
                return ascii_domain(value)

        @field_validator("envelope_sender")
        @classmethod
        def _is_address(cls, value: str | None) -> str | None:
            if value is not None:
                parse_address(value)
            return value

        @model_validator(mode="after")
        def _fits_together(self) -> Self:
            if self.tls is None:
                self.tls = "implicit" if self.port == IMPLICIT_TLS_PORT else "starttls"
            if (self.username is None) != (self.password is None):
                raise ValueError("username and password go together: give both or neither")
            if self.tls == "none" and self.password is not None and not is_loopback(self.host):
                raise ValueError('tls = "none" would send the password in the clear; use "starttls" or "implicit"')
            return self

    settings: Settings

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self._writer = Writer(settings)
        envelope = settings.envelope_sender
        self._sender = parse_address(envelope) if envelope else self._writer.sender
        self._server = Server(
            settings.host,
            settings.port,
            settings.tls or "starttls",
            settings.username,
            settings.password.get_secret_value() if settings.password else "",
            settings.timeout,
            settings.verdict_timeout,
        )
        self._tls: ssl.SSLContext | None = None
        self._pool = Pool(self._connect, settings.concurrency, settings.max_per_connection)

    async def close(self) -> None:
        await self._pool.close()

    async def deliver(self, message: Message) -> Receipt:
        """Hand one mail to the server.

        Raises:
            RetryableError: the server cannot have taken it.
            AuthError: credentials, certificate or sender refused.
            UnsupportedError, PayloadError: this mail cannot be written, or not for this server.
            DoubtError: it was written to its end, and no verdict came.
        """
        try:
            return await self._deliver(message)
        except AdapterError as error:
            error.who = self.account.name  # whose it is, of several entries
            raise

    async def _deliver(self, message: Message) -> Receipt:
        try:
            mail = self._writer.write(message, message.leaves_at or message.decided_at or self.now())
        except ValueError as error:
            return message.rejected(Reason.BAD_ADDRESS, f"not an e-mail address: {error}")
        async with self._pool.slots:
            try:
                return await self._deliver_over(await self._pool.take(), message, mail)
            except Stale:
                return await self._deliver_over(await self._pool.open(), message, mail)

    async def check(self) -> Iterable[str]:
        """Connects, encrypts and logs in as a delivery would."""
        try:
            connection = await self._connect()
        except AdapterError as error:
            return [str(error)]
        await connection.quit()
        return []

    async def _connect(self) -> Connection:
        if self._tls is None and self._server.tls != "none":
            path = self.account.folder / self.settings.ca_file if self.settings.ca_file else None
            try:
                self._tls = await asyncio.to_thread(ssl.create_default_context, cafile=path)
            except OSError as error:
                raise AuthError(
                    f"cannot read certificates from {path} ({error})",
                    who="smtp",
                    operation="connect",
                    do="check ca_file",
                ) from error
        return await connect(self._server, self._tls)

    async def _deliver_over(self, connection: Connection, message: Message, mail: Mail) -> Receipt:
        """One transaction; whatever interrupts it, cancellation included, ends the connection."""
        try:
            receipt = await self._transact(connection, message, mail)
        except UnsupportedError:
            self._pool.give_back(connection)
            raise
        except BaseException:
            connection.drop()
            raise
        self._pool.give_back(connection)
        return receipt

    async def _transact(self, connection: Connection, message: Message, mail: Mail) -> Receipt:
        limit = connection.size_limit
        if limit and len(mail.content) > limit:
            return message.rejected(
                Reason.CONTENT, f"the mail has {len(mail.content)} octets, the server takes {limit}"
            )
        kept = connection.served > 0
        for phase, command in self._envelope(connection, mail):
            try:
                reply = await connection.command(*command)
            except RetryableError as error:
                if kept and phase == "mail":
                    raise Stale from error
                raise
            if reply.code == 421 and kept and phase == "mail":
                raise Stale
            if reply.code >= 400:
                connection.dirty = True
                return self._refusal(message, mail, phase, reply.code, reply.message)
            if reply.code // 100 != (3 if command == (b"DATA",) else 2):
                raise RetryableError(
                    f"{self._server} answered {said(reply.code, reply.message)}", who="smtp", operation="deliver"
                )
        reply = await connection.send(mail.content)
        if reply.code >= 400:
            connection.dirty = True
            return self._refusal(message, mail, "data", reply.code, reply.message)
        detail = said(reply.code, reply.message, str(mail.recipient))
        return message.accepted(vendor_id=mail.message_id, detail=detail)

    def _envelope(self, connection: Connection, mail: Mail) -> Iterator[tuple[Phase, tuple[bytes, ...]]]:
        options = []
        if connection.offers("size"):
            options.append(b"SIZE=%d" % len(mail.content))
        if mail.needs_utf8 or self._sender.needs_utf8:
            if not connection.offers("smtputf8"):
                raise UnsupportedError(
                    f"{self._server} takes no international addresses (SMTPUTF8)", who="smtp", operation="deliver"
                )
            options += [b"BODY=8BITMIME", b"SMTPUTF8"]
        yield "mail", (b"MAIL", f"FROM:<{self._sender}>".encode(), *options)
        yield "rcpt", (b"RCPT", f"TO:<{mail.recipient}>".encode())
        yield "data", (b"DATA",)

    def _refusal(self, message: Message, mail: Mail, phase: Phase, code: int, text: str) -> Receipt:
        detail = said(code, text, str(mail.recipient))
        found = verdict(phase, code, text)
        if found == "deferred":
            return message.deferred(detail)
        if found == "credentials":
            raise AuthError(
                f"{self._server} does not let this account send ({detail})",
                who="smtp",
                operation="deliver",
                do="check username, password and what the account may send",
            )
        if found == "sender":
            raise AuthError(
                f"{self._server} refused the sender {self._sender} ({detail})",
                who="smtp",
                operation="deliver",
                do="check sender, and the domain's SPF, DKIM and DMARC",
            )
        return message.rejected(found, detail)


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield SmtpGateway
