"""The lines of the log: each is declared here with all it may say, and says nothing personal.

Numbers, names of accounts, plugins and templates, states, reasons, counts, seconds, correlation ids; of an error its
class and where it was raised. Never an address, a name, a text, a token, a path or a query, nor the words of an error:
vendors and databases quote in them what they were given.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What an operation is called; anything else may be made of values.
_PLAIN = re.compile(r"[a-z][a-z_ -]{0,39}")
#: Every line there is, by name.
LINES: dict[str, "Line"] = {}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log.

    Attributes:
        area: its logger is `crmkit.AREA`.
        name: what it is called.
        meaning: when it is said.
        fields: what it may say.
    """

    area: str
    name: str
    meaning: str
    fields: tuple[str, ...]
    level: int
    logger: logging.Logger

    @property
    def is_wanted(self) -> bool:
        """Whether anybody would see it."""
        return self.logger.isEnabledFor(self.level)

    def say(self, **facts: Any) -> None:
        """Say it now. What a transaction does is said once it is committed: `store.lines.later`."""
        if not self.is_wanted:
            return
        strange = facts.keys() - self.fields
        if strange:
            raise TypeError(f"the line {self.name} says nothing of {', '.join(sorted(strange))}")
        told = {name: facts[name] for name in self.fields if facts.get(name) is not None}
        text = " ".join([self.name, *(f"{name}={value}" for name, value in told.items())])
        self.logger.log(self.level, text, extra={"line": self.name, "facts": told})


def _line(area: str, name: str, meaning: str, fields: str, level: int = logging.INFO) -> Line:
    line = LINES[name] = Line(area, name, meaning, tuple(fields.split()), level, logging.getLogger(f"crmkit.{area}"))
    return line


WEBHOOK_HEARD = _line(
    "door",
    "webhook-heard",
    "a webhook was verified: `kept`, `known` from before, or `answered` without keeping",
    "account fate seconds correlation",
)
WEBHOOK_REFUSED = _line(
    "door", "webhook-refused", "a call was turned away, nothing of it kept", "account status seconds correlation"
)
WEBHOOK_FAILED = _line(
    "door",
    "webhook-failed",
    "a webhook could not be kept; its vendor may try again",
    "account status operation error place seconds correlation",
    logging.ERROR,
)
PAGE_TAKEN = _line(
    "sync",
    "page-taken",
    "a page of a stream, or a batch of webhooks, is stored",
    "account stream records news refused interactions correlation",
)
CURSOR_STAYS = _line(
    "sync",
    "cursor-stays",
    "a stream was read by another process meanwhile: what this one read is stored, and the cursor stays where that is",
    "account stream",
)
SYNC_STOPPED = _line(
    "sync",
    "sync-stopped",
    "an account, or one of its streams, could not be read to its end",
    "account operation error place",
    logging.WARNING,
)
WEBHOOK_TAKEN = _line(
    "ingest", "webhook-taken", "what a webhook says is stored", "account webhook records rereads correlation"
)
WEBHOOK_UNREADABLE = _line(
    "ingest",
    "webhook-unreadable",
    "a webhook was kept, and its parser cannot read it",
    "account webhook correlation",
    logging.WARNING,
)
INTERACTION = _line(
    "ingest",
    "interaction",
    "something new happened, and is in the log of interactions",
    "interaction type account correlation",
    logging.DEBUG,
)
DECIDED = _line("decide", "decided", "a batch of interactions was decided", "interactions messages failures")
DECISION_FAILED = _line(
    "decide",
    "decision-failed",
    "a plugin failed on an interaction; it is tried again, or parked",
    "interaction plugin tries is_parked operation error place correlation",
    logging.WARNING,
)
MESSAGE_DECIDED = _line(
    "decide",
    "message-decided",
    "a message is in the outbox, to leave or not to",
    "message interaction plugin template channel state reason correlation",
)
MESSAGE_KEPT = _line(
    "deliver",
    "message-kept",
    "the last look kept a message from leaving, for now or for good",
    "message gateway state reason correlation",
)
MESSAGE_TRIED = _line(
    "deliver",
    "message-tried",
    "a try at delivering a message ended",
    "message gateway number outcome state reason error seconds correlation",
)
GATEWAY_STOPPED = _line(
    "deliver",
    "gateway-stopped",
    "a gateway stopped before its messages were out",
    "gateway operation error place",
    logging.WARNING,
)
GATEWAY_DOWN = _line(
    "deliver",
    "gateway-down",
    "a gateway does not answer any more: its messages go by others, or wait; said once",
    "gateway",
    logging.WARNING,
)
GATEWAY_BACK = _line("deliver", "gateway-back", "a gateway that was down answers again", "gateway since")
RECEIPT_TAKEN = _line(
    "receipt",
    "receipt-taken",
    "what a vendor says became of a message; `correlation` is the message's, `by` what brought the receipt",
    "message account state reason correlation by",
)
RECEIPT_WAITS = _line(
    "receipt", "receipt-waits", "a receipt of a message that is not known yet", "account state reason by"
)
PAGE_SHOWN = _line("page", "page-shown", "a page was asked for", "page method status seconds correlation")
PAGE_FAILED = _line(
    "page", "page-failed", "a page broke", "page method status operation error place seconds correlation", logging.ERROR
)
STEP_FAILED = _line(
    "service",
    "step-failed",
    "a round, a standing connection or the inbox failed under `run` or `serve`; it is tried again",
    "what operation error place",
    logging.ERROR,
)
FENCED = _line(
    "service",
    "fenced",
    "this database was restored, copied or is unknown here: nothing is decided or sent until it is adopted",
    "kind found do",
    logging.ERROR,
)

WORKS_AGAIN = _line("service", "works-again", "what failed works again", "what")
LISTENING = _line("service", "listening", "the server takes calls", "host port")
STOPPED = _line("service", "stopped", "the service ended in its own time", "")
ENDED = _line(
    "service", "ended", "the service ended by an error nobody expected", "operation error place", logging.ERROR
)


def place_of(error: BaseException) -> str | None:
    """Where an error was raised: file, line and function, and nothing that was in hand there."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return None
    code = place.tb_frame.f_code
    return f"{Path(code.co_filename).name}:{place.tb_lineno} ({code.co_name})"


def told_of(error: BaseException) -> dict[str, Any]:
    """What a line says of an error: its class, where it was raised, and during what."""
    operation, cause = getattr(error, "operation", None) or "", error.__cause__ or error
    return {
        "operation": operation if _PLAIN.fullmatch(operation) else None,
        "error": type(error).__name__ if cause is error else f"{type(error).__name__} from {type(cause).__name__}",
        "place": place_of(cause),
    }
