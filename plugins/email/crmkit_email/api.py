"""What gateways to vendors with an HTTP API of their own have in common: they are told where it is, hand over what
can be told in its fields, and read its calls and its lists. What differs is the vendor's: what is written, and read.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import field_validator

from crmkit import Account, Call, Gateway, Message, Page, PayloadError, Reason, Receipt, Record, Refused, window
from crmkit_email.address import Address, parse_address
from crmkit_email.heading import cannot_be_told
from crmkit_email.machine import is_loopback
from crmkit_email.mime import SenderSettings

T = TypeVar("T")


class ApiSettings(SenderSettings):
    """The sender, and where the vendor's API is."""

    #: where the API is; http only on this machine
    base_url: str

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        parts = urlsplit(value)
        if not parts.hostname or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
            raise ValueError("should be an address like https://api.example.com")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("would send the credentials in the clear; use https")
        return value.rstrip("/")


class ApiGateway(Gateway):
    """Hands mails to a vendor's API, and takes in what it tells of them.

    Class attributes:
        vendor: what it is called in a sentence.
        reserved: further headers, in lower case, that it lets no message bring.
        reads: what a call of its webhook tells, by the settings, the account and the mark of this installation.

    Its settings have `suppressions`.
    """

    channel = "email"
    reaches = ("email",)
    deduplicates = False

    vendor: ClassVar[str]
    reserved: ClassVar[frozenset[str]] = frozenset()
    reads: "ClassVar[staticmethod[[Call, Any, Account, str], Iterator[Record | Refused]]]"

    settings: Any

    def suppressed(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Addresses that the vendor began to keep mail from between two moments."""
        raise NotImplementedError

    def prepared(self, message: Message, write: Callable[[Message, Address], T]) -> T | Receipt:
        """A message as it is to be sent; a receipt where that is not possible.

        Args:
            message: what is to be sent.
            write: writes it for its recipient; raises PayloadError where one of its headers cannot be.
        """
        try:
            recipient = parse_address(message.address)
            made = write(message, recipient)
        except ValueError as error:
            return message.rejected(Reason.BAD_ADDRESS, f"not an e-mail address: {error}")
        except PayloadError:
            return message.rejected(Reason.CONTENT, "one of its headers cannot be written")
        why = cannot_be_told(message, recipient, self.reserved)
        return made if why is None else message.unsupported(f"{self.vendor} {why}")

    def records(self, call: Call) -> Iterator[Record | Refused]:
        """Receipts of our mails, consent, and addresses that bounced to whoever else sends by the same account."""
        return self.reads(call, self.settings, self.account, self.origin)

    @window(overlap="1h", end_lag="1m")
    async def suppressions(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Addresses the vendor keeps mail from: what its webhooks missed, and what it knew before crmkit came."""
        if self.settings.suppressions:
            async for page in self.suppressed(start, end):
                yield page
