"""A gateway delivers messages over one vendor and tells what came of each.

"The vendor said no" is a receipt (`message.rejected(reason, detail)`). "Not now" is `message.deferred(...)` or a
`RetryableError`. "It left and we do not know" is a `DoubtError`, or anything else that is raised once bytes were
written.
"""

from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from datetime import time, timedelta
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from crmkit.adapters.adapter import Adapter
from crmkit.core.form import Wording
from crmkit.core.message import Message, Receipt
from crmkit.core.money import Money


class GatewaySettings(BaseModel):
    """What every gateway can be told in its entry of crmkit.toml; an adapter adds its own. Secrets are `SecretStr`."""

    model_config = ConfigDict(extra="forbid")

    #: how many requests (or connections) may be under way at once
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8


class Gateway(Adapter):
    """Delivers messages over one vendor.

    Class attributes:
        channel: the way out it serves: `sms`, `email`, `call`, `chat`, ...
        reaches: the kinds of address it accepts.
        deduplicates: whether sending the same key again cannot double the message. An instance may know it better.
        batch: how many messages one call takes; above 1, `deliver_many` is called.
        exclusive: whether only one process at a time may use it (a modem, a bound session).
        look_up_after: how long after a try its vendor can be asked what became of it.
        needs_form: whether it sends approved texts only; a template that says nothing of it goes by another gateway.
        sends_marketing: (from, to, IANA zone) outside of which its vendor takes no marketing; it waits until then.
        Settings: a subclass of `GatewaySettings`.
    """

    channel: ClassVar[str]
    reaches: ClassVar[tuple[str, ...]]
    deduplicates: bool = False
    batch: ClassVar[int] = 1
    exclusive: ClassVar[bool] = False
    look_up_after: ClassVar[timedelta] = timedelta(minutes=2)
    needs_form: ClassVar[bool] = False
    sends_marketing: ClassVar[tuple[time, time, str] | None] = None
    Settings: ClassVar[type[GatewaySettings]] = GatewaySettings
    sends: ClassVar[bool] = True

    #: the templates of its channel, for `check`
    wordings: Sequence[Wording] = ()

    def check_template(self, wording: Wording) -> Iterable[str]:
        """What keeps this gateway from sending a template as it is written; told by `crmkit config check`. No network.

        Asked for every template of its channel that says something of it, and for every other unless `needs_form`. What
        is no more than a warning is a `Caution`.
        """
        return ()

    async def deliver(self, message: Message) -> Receipt:
        """Hand one message to the vendor.

        Returns:
            What the vendor said.

        Raises:
            RetryableError: nothing left, or the vendor said "not now".
            AuthError: the credentials were refused; the account pauses.
            RefusedError: the vendor said no; `message.rejected` says why, where that is known.
            UnsupportedError: this vendor cannot express the message; one of a batch is `message.unsupported`.
            DoubtError: it left and no verdict came back; so is every other error taken, an answer that cannot be read
                among them.
        """
        raise NotImplementedError

    def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
        """Hand up to `batch` messages over; yield a receipt for each as it is known.

        What was not yielded when this raises takes the exception.
        """
        raise NotImplementedError

    def batch_key(self, message: Message) -> Hashable:
        """What messages of one batch must have in common: a template, a sender."""
        return None

    async def look_up(self, message: Message) -> Receipt | None:
        """Ask the vendor what became of a message that is in doubt.

        Returns:
            What the vendor says of it; None only where it is certain that the vendor does not have it: it is then sent
            again.

        Raises:
            AdapterError: that cannot be told now.
        """
        raise NotImplementedError

    async def balance(self) -> Money | int | None:
        """What is left on the account at its vendor: money, or a number of messages; None: it has no such thing.

        `crmkit doctor` asks, and warns where it is below the entry's `balance_low`. The call only reads: pass
        `sends=False` to `self.call`.

        Raises:
            AdapterError: that cannot be told now.
        """
        return None

    async def cancel(self, message: Message) -> bool:
        """Take back a message the vendor has and has not sent yet; whether it did."""
        return False
