"""A gateway delivers messages over one vendor and tells what came of each.

"The vendor said no" is a receipt (`message.rejected(reason, detail)`). "Not now" is `message.deferred(...)` or a
`RetryableError`. "It left and we do not know" is a `DoubtError`, or anything else that is raised once bytes were
written.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Annotated, Any, ClassVar

import httpx
from pydantic import BaseModel, ConfigDict, Field

from crmkit.adapters.source import Account
from crmkit.core.message import Message, Receipt


class GatewaySettings(BaseModel):
    """What every gateway can be told in its entry of crmkit.toml; an adapter adds its own. Secrets are `SecretStr`."""

    model_config = ConfigDict(extra="forbid")

    #: how many requests (or connections) may be under way at once
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8


class Gateway:
    """Delivers messages over one vendor.

    Class attributes:
        name: the slug; the same as module, entry point and configuration value.
        channel: the way out it serves: `sms`, `email`, `call`, `chat`, ...
        reaches: the kinds of address it accepts.
        deduplicates: whether sending the same key again cannot double the message.
        batch: how many messages one call takes; above 1, `deliver_many` is called.
        Settings: a subclass of `GatewaySettings`.

    Attributes:
        settings, account: this use of the adapter; the account's name is the entry's.
        http: a client ready to use.
    """

    name: ClassVar[str]
    channel: ClassVar[str]
    reaches: ClassVar[tuple[str, ...]]
    deduplicates: ClassVar[bool] = False
    batch: ClassVar[int] = 1
    Settings: ClassVar[type[GatewaySettings]] = GatewaySettings

    settings: Any

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        self.settings = settings
        self.account = account
        self.http = http

    async def open(self) -> None:
        """Called once before the first delivery."""

    async def close(self) -> None:
        """Called once after the last, also when the run is interrupted."""

    async def deliver(self, message: Message) -> Receipt:
        """Hand one message to the vendor.

        Returns:
            What the vendor said.

        Raises:
            RetryableError: nothing left, or the vendor said "not now".
            AuthError: the credentials were refused; the account pauses.
            UnsupportedError: this vendor cannot express the message.
            DoubtError: it left and no verdict came back; so is every other error taken, an answer that cannot be read
                among them.
        """
        raise NotImplementedError

    def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
        """Hand up to `batch` messages over; yield a receipt for each as it is known.

        What was not yielded when this raises takes the exception.
        """
        raise NotImplementedError

    async def look_up(self, message: Message) -> Receipt | None:
        """Ask the vendor what became of a message that is in doubt; None if it does not know it."""
        raise NotImplementedError

    async def check(self) -> Iterable[str]:
        """Problems an operator should know of before the first run (`crmkit doctor`); none if all is well."""
        return ()
