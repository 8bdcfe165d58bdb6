"""What is not as it should be and staff may mend, counted: what `crm.troubles` shows a handler."""

from dataclasses import dataclass

#: Every kind there is, the gravest first.
KINDS = (
    "silent-orders",
    "silent-webhooks",
    "silent-receipts",
    "late",
    "in-doubt",
    "held",
    "bounced",
    "failed",
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Some of one kind.

    Attributes:
        kind: `late` orders (promised, and not delivered where the shop would say so); messages `held` for a person,
            `in-doubt`, `bounced` and `failed`; accounts whose orders, webhooks or receipts are silent for longer than
            usual (`silent-orders`, `silent-webhooks`, `silent-receipts`).
        count: how many there are now; of `bounced` and `failed`, which nothing ends, how many there were since.
        fresh: how many of them are new since then.
        named: the worst few: numbers of orders, or names of accounts; the oldest first, of messages the latest.
    """

    kind: str
    count: int
    fresh: int
    named: tuple[str, ...] = ()
