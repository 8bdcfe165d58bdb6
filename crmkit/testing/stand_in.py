"""A plugin that stands in for shops and vendors: a shop that says what a test lets it say, gateways that take all.

Both are ordinary adapters, read and handed messages by the engine as any other: `use = "stand-in"` in `[shops.NAME]`
and in `[[channels.CHANNEL]]`. Which test they belong to is told by the folder of their configuration.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

from crmkit.adapters.adapter import Account
from crmkit.adapters.gateway import Gateway
from crmkit.adapters.source import REPORTABLE, Source, SourceSettings
from crmkit.adapters.stream import Page, Start, stream
from crmkit.core.hooks import GROUP, hookimpl
from crmkit.core.message import Message, Receipt
from crmkit.core.records import Record

SLUG = "stand-in"
#: What a gateway answers: a receipt, made of the message or as it is; or what it raises.
Answer = Callable[[Message], Receipt] | BaseException


@dataclass(slots=True)
class Stage:
    """What the stand-ins of one configuration have to say, and what they were handed.

    Attributes:
        waiting: {account: records it gives when it is read next}.
        handed: (gateway, message) in the order in which they came.
        answers: {gateway: what it answers next}; once they are used up it takes every message.
    """

    waiting: defaultdict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    handed: list[tuple[str, Message]] = field(default_factory=list)
    answers: defaultdict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))

    async def pages(self, account: str) -> AsyncIterator[Page]:
        """What an account has to say, as its one stream."""
        if waiting := self.waiting.pop(account, None):
            yield Page(waiting)


#: By the folder of the configuration.
STAGES: defaultdict[Path, Stage] = defaultdict(Stage)


def _stage(account: Account) -> Stage:
    return STAGES[account.folder]


class StandInSource(Source):
    """A shop that says what a test lets it say, and reports whatever there is to report."""

    name = SLUG

    class Settings(SourceSettings):
        """What it reports, where that is less than all."""

        reports: frozenset[str] = REPORTABLE

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.reports = self.settings.reports

    @stream
    async def records_of_the_test(self, start: Start) -> AsyncIterator[Page]:
        """What is said since it was read last."""
        async for page in _stage(self.account).pages(self.account.name):
            yield page


class StandInGateway(Gateway):
    """Takes every message, unless it was told to answer otherwise, and numbers them."""

    name = SLUG

    async def deliver(self, message: Message) -> Receipt:
        """Take a message."""
        stage = _stage(self.account)
        stage.handed.append((self.account.name, message))
        waiting = stage.answers[self.account.name]
        answer = waiting.popleft() if waiting else None
        if isinstance(answer, BaseException):
            raise answer
        return message.accepted(vendor_id=f"v{message.id}") if answer is None else answer(message)

    @stream
    async def receipts_of_the_test(self, start: Start) -> AsyncIterator[Page]:
        """Receipts and replies that came since it was read last."""
        async for page in _stage(self.account).pages(self.account.name):
            yield page


class StandInEmail(StandInGateway):
    """E-mail."""

    channel = "email"
    reaches = ("email", "relay_email")


class StandInSms(StandInGateway):
    """Text messages."""

    channel = "sms"
    reaches = ("phone", "virtual_phone", "order_token")


class StandInCall(StandInGateway):
    """Calls."""

    channel = "call"
    reaches = ("phone", "virtual_phone")


class StandInChat(StandInGateway):
    """Chat."""

    channel = "chat"
    reaches = ("chat", "order_token")


GATEWAYS: dict[str, type[StandInGateway]] = {
    kind.channel: kind for kind in (StandInEmail, StandInSms, StandInCall, StandInChat)
}


@hookimpl
def crmkit_sources() -> Iterator[type[Source]]:
    """The shop."""
    yield StandInSource


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    """A gateway for each channel."""
    yield from GATEWAYS.values()


#: How they are installed.
POINTS = [
    EntryPoint(f"{family}.{SLUG}", __name__, GROUP)
    for family in ("marketplace", "source", *(kind.channel for kind in GATEWAYS.values()))
]
