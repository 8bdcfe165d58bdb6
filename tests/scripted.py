"""A gateway that does what a test says, and the few steps most tests of delivery take."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from crmkit.adapters.adapter import Account
from crmkit.adapters.gateway import Gateway, GatewaySettings
from crmkit.core.actions import Send
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.message import Message, Receipt
from crmkit.core.money import Money
from crmkit.flow.deliver import Delivered, deliver
from crmkit.store import tables as t
from tests.play import NOON, Mail, Play, buyer, order


class Scripted(Mail):
    """A gateway that does what a test says, message by message, and remembers what it was asked to send."""

    def __init__(self, *outcomes: Any, **settings: Any) -> None:
        account = Account("mail", "UTC", None, None, Path())
        super().__init__(GatewaySettings(**settings), account, http=None)  # type: ignore[arg-type]
        self.outcomes = list(outcomes)
        self.asked: list[str] = []

    async def deliver(self, message: Message) -> Receipt:
        self.asked.append(message.key)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome(message) if callable(outcome) else outcome


class Deduplicating(Scripted):
    deduplicates = True


class Batched(Scripted):
    batch = 3

    async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
        for message in messages:
            yield await self.deliver(message)


def accept(message: Message) -> Receipt:
    return message.accepted(vendor_id=f"v{message.id}", cost=Money(Decimal("0.05"), "EUR"))


def queue(play: Play, count: int = 1, template: str = "news") -> None:
    """So many messages to different customers, decided at noon."""
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send(template, via=("email",))]), *_known(play))
    play.take(*(order(str(number), buyer(f"b{number}")) for number in range(count)))
    play.decide()
    assert play.count(t.message, state="queued") == count


def _known(play: Play) -> tuple[Any, ...]:
    return play.plugins["one"].handlers if "one" in play.plugins else ()


async def send(
    play: Play, gateway: Gateway, now: datetime | Callable[[], datetime] = NOON, name: str = "mail"
) -> Delivered:
    clock = now if callable(now) else lambda: now
    return await deliver(play.store.run, play.setup, name, gateway, clock)
