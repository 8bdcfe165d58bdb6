"""The outbox: messages with their states and reasons, what was tried, and what the vendor said became of them.

```
            claim            mark             accept            receipt
 queued ───────────▶ sending ─────▶ (started) ──────▶ sent ──────────────▶ delivered
   ▲  │                 │               │               └────────────────▶ bounced · failed
   │  ├▶ suppressed     └─ lapsed ─▶ queued (unmarked)  refusal ─────────▶ bounced · failed
   │  ├▶ held               lease  ─▶ in-doubt (marked) no verdict ──────▶ in-doubt
   │  └▶ cancelled                                      not now ─────────▶ queued (later)
   └──────── retry, release (a person)
```
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from crmkit.core.columns import Json, UtcTime
from crmkit.core.form import Form
from crmkit.core.money import Money


class State(StrEnum):
    """Where a message is."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    FAILED = "failed"
    IN_DOUBT = "in-doubt"
    HELD = "held"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why a message did not leave, waits, or came back: one vocabulary for plans, outbox, reports and `explain`."""

    # suppressed
    HISTORY = "history"
    NO_ADDRESS = "no-address"
    NO_CONSENT = "no-consent"
    OPTED_OUT = "opted-out"
    MARKETPLACE_FORBIDS = "marketplace-forbids"
    STALE = "stale"
    OVERTAKEN = "overtaken"
    DUPLICATE = "duplicate"
    COMBINED = "combined"
    HOLD_OUT = "hold-out"
    FORGOTTEN = "forgotten"
    # deferred
    QUIET_HOURS = "quiet-hours"
    CAPPED = "capped"
    BUDGET = "budget"
    PAUSED = "paused"
    FENCED = "fenced"
    OPT_OUTS_UNKNOWN = "opt-outs-unknown"
    RETRY = "retry"
    # held
    MISSING_VARIABLE = "missing-variable"
    TEMPLATE_ERROR = "template-error"
    POLICY_ERROR = "policy-error"
    NO_GATEWAY = "no-gateway"
    MAY_HAVE_LEFT = "may-have-left"
    # refused by the vendor
    BAD_ADDRESS = "bad-address"
    MAILBOX_FULL = "mailbox-full"
    NOT_CAPABLE = "not-capable"
    BLOCKED = "blocked"
    CONTENT = "content"
    VENDOR_POLICY = "vendor-policy"
    SENDER = "sender"
    FUNDS = "funds"
    UNSUPPORTED = "unsupported"
    EXPIRED = "expired"
    TRIES_USED_UP = "tries-used-up"
    NO_VERDICT = "no-verdict"
    OTHER = "other"


#: Refusals after which the address is not written to again, whatever for.
BOUNCES = frozenset({Reason.BAD_ADDRESS, Reason.NOT_CAPABLE})


#: What may leave when its time has come, in SQL: the condition of an index, which queries repeat word for word.
WAITING = "state = 'queued' AND (reason IS NULL OR reason NOT IN ('paused', 'opt-outs-unknown'))"
#: What waits for a person to let it leave, however long that takes, in SQL: the condition of an index too.
KEPT = "state = 'queued' AND reason IN ('paused', 'opt-outs-unknown')"
#: What staging lets go nowhere, in SQL: the condition of an index.
OUTSIDE = "state = 'queued' AND reason = 'fenced'"
#: What a process has taken and whose try is not recorded, in SQL: the condition of an index too.
LEASED = "lease_until IS NOT NULL"
#: Messages a person may look after, in SQL: the condition of an index.
AMISS = "state IN ('held', 'bounced', 'failed')"
#: Tries that the vendor accepted, and those it refused or gave no verdict of, in SQL: conditions of indexes.
ACCEPTED = "outcome = 'accepted'"
REFUSED = "outcome IN ('rejected', 'refused', 'in-doubt')"
#: Receipts of messages that came back, in SQL: the condition of an index.
CAME_BACK = "state = 'bounced'"
#: Refusals that are the gateway's own: another may take the message.
OWN_REFUSALS = frozenset({Reason.SENDER, Reason.FUNDS, Reason.VENDOR_POLICY})


class TemplateRow(SQLModel, table=True):
    """A version of a template, stored by its hash: what a message was rendered from can always be shown."""

    __tablename__ = "template"

    hash: str = Field(primary_key=True)
    name: str
    locale: str
    channel: str
    source: str


class MessageRow(SQLModel, table=True):
    """A message: frozen when decided (recipient, template version, parameters, text); only its state moves.

    `key` is the same for every try, and what the vendor is given to tell repeats by. `gateways` is the chain of those
    it may still go by, in failover order: who cannot take it is struck off, and after doubt only who may have it
    is left. `gateway` is the one whose turn it is. `not_before` is when it may leave next (in doubt: when its vendor
    may be asked next), `expires_at` after which it is stale. `claim_id` and `lease_until` say whose it is while
    sending, `started_at` is the mark before the wire.
    """

    __tablename__ = "message"
    __table_args__ = (
        Index(
            "message_due",
            "gateway",
            "not_before",
            "id",
            sqlite_where=text(WAITING),
            postgresql_where=text(WAITING),
        ),
        Index(
            "message_kept",
            "id",
            sqlite_where=text(KEPT),
            postgresql_where=text(KEPT),
        ),
        Index(
            "message_doubt",
            "gateway",
            "not_before",
            sqlite_where=text("state = 'in-doubt'"),
            postgresql_where=text("state = 'in-doubt'"),
        ),
        Index(
            "message_sending",
            "lease_until",
            sqlite_where=text(LEASED),
            postgresql_where=text(LEASED),
        ),
        Index(
            "message_claim",
            "claim_id",
            sqlite_where=text("claim_id IS NOT NULL"),
            postgresql_where=text("claim_id IS NOT NULL"),
        ),
        Index("message_profile", "profile_id"),
        Index("message_fenced", "id", sqlite_where=text(OUTSIDE), postgresql_where=text(OUTSIDE)),
        Index("message_amiss", "state", "decided_at", sqlite_where=text(AMISS), postgresql_where=text(AMISS)),
        Index(
            "message_staff",
            "interaction_id",
            sqlite_where=text("profile_id IS NULL"),
            postgresql_where=text("profile_id IS NULL"),
        ),
        Index(
            "message_once",
            "once",
            sqlite_where=text("once IS NOT NULL"),
            postgresql_where=text("once IS NOT NULL"),
        ),
        Index(
            "message_marketing",
            "address",
            sqlite_where=text("purpose = 'marketing'"),
            postgresql_where=text("purpose = 'marketing'"),
        ),
        Index(
            "message_vendor",
            "gateway",
            "vendor_id",
            sqlite_where=text("vendor_id IS NOT NULL"),
            postgresql_where=text("vendor_id IS NOT NULL"),
        ),
        Index(
            "message_batch",
            "batch_id",
            sqlite_where=text("batch_id IS NOT NULL"),
            postgresql_where=text("batch_id IS NOT NULL"),
        ),
    )

    id: int = Field(primary_key=True)
    key: str = Field(unique=True)
    #: the author's own key with its recipient: of several, one is told
    once: str | None = None
    interaction_id: int | None = None
    #: what it came of, in logs
    correlation_id: str | None = None
    #: how long the chain of effects was that led here
    depth: int = 0
    plugin: str
    profile_id: int | None = None
    staff: str | None = None
    shop_id: int | None = None
    order_id: int | None = None
    template: str
    template_hash: str | None = None
    locale: str | None = None
    purpose: str
    #: the milestone of the order it tells, for what later news overtakes
    milestone: str | None = None
    channel: str
    gateways: list[str] = Field(sa_type=Json)
    address_kind: str | None = None
    address: str | None = None
    params: dict[str, Any] | None = Field(default=None, sa_type=Json)
    #: while it is held: what its plugin asked for, by which it is composed anew once it is released
    asked: dict[str, Any] | None = Field(default=None, sa_type=Json)
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] | None = Field(default=None, sa_type=Json)
    encoding: str | None = None
    segments: int | None = None
    content_hash: str | None = None
    decided_at: datetime = Field(sa_type=UtcTime)
    not_before: datetime = Field(sa_type=UtcTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcTime)
    state: str
    reason: str | None = None
    detail: str | None = None
    tries: int = 0
    claim_id: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcTime)
    #: when it took its share of its gateway's quota, and what was set aside for its cost (a decimal)
    claimed_at: datetime | None = Field(default=None, sa_type=UtcTime)
    reserved: str | None = None
    gateway: str | None = None
    vendor_id: str | None = None
    batch_id: str | None = None
    #: how often its vendor was asked what became of it
    look_ups: int = 0
    #: since when it is not known whether an earlier try was taken
    doubted_at: datetime | None = Field(default=None, sa_type=UtcTime)
    #: a decimal, since a text message costs less than a minor unit
    cost: str | None = None
    cost_currency: str | None = None
    sent_at: datetime | None = Field(default=None, sa_type=UtcTime)
    settled_at: datetime | None = Field(default=None, sa_type=UtcTime)


class AttemptRow(SQLModel, table=True):
    """One try at delivering a message; every one is kept."""

    __tablename__ = "attempt"
    __table_args__ = (
        Index("attempt_message", "message_id"),
        Index(
            "attempt_accepted",
            "gateway",
            "finished_at",
            sqlite_where=text(ACCEPTED),
            postgresql_where=text(ACCEPTED),
        ),
        Index(
            "attempt_refused",
            "gateway",
            "finished_at",
            sqlite_where=text(REFUSED),
            postgresql_where=text(REFUSED),
        ),
    )

    id: int = Field(primary_key=True)
    message_id: int
    number: int
    gateway: str
    started_at: datetime = Field(sa_type=UtcTime)
    finished_at: datetime = Field(sa_type=UtcTime)
    outcome: str
    reason: str | None = None
    vendor_id: str | None = None
    detail: str | None = None
    #: the address it was handed over with, where staging has put another in the place of the message's own
    redirected_to: str | None = None


class ReceiptRow(SQLModel, table=True):
    """What a vendor said became of a message. It waits (`message_id` NULL) where the message is not known yet.

    What waited for a day in vain is given up.
    """

    __tablename__ = "receipt"
    __table_args__ = (
        UniqueConstraint("account", "external_id"),
        Index(
            "receipt_orphan",
            "vendor_id",
            sqlite_where=text("message_id IS NULL"),
            postgresql_where=text("message_id IS NULL"),
        ),
        Index("receipt_message", "message_id"),
        Index("receipt_received", "account", "received_at"),
        Index(
            "receipt_bounced",
            "account",
            "received_at",
            sqlite_where=text(CAME_BACK),
            postgresql_where=text(CAME_BACK),
        ),
    )

    id: int = Field(primary_key=True)
    account: str
    external_id: str
    message_id: int | None = None
    message_key: str | None = None
    vendor_id: str | None = None
    batch_id: str | None = None
    recipient: str | None = None
    state: str
    reason: str | None = None
    detail: str | None = None
    occurred_at: datetime = Field(sa_type=UtcTime)
    received_at: datetime = Field(sa_type=UtcTime)
    given_up_at: datetime | None = Field(default=None, sa_type=UtcTime)


class InterventionRow(SQLModel, table=True):
    """What a person did to a message, append-only: `retry`, `release`, `settle` or `cancel`.

    `was` is the state it was in, `reason` what the person said.
    """

    __tablename__ = "intervention"
    __table_args__ = (Index("intervention_message", "message_id"),)

    id: int = Field(primary_key=True)
    message_id: int
    at: datetime = Field(sa_type=UtcTime)
    actor: str
    action: str
    was: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of one try, as a gateway says it: accepted by the vendor, refused for a reason, not now, or not sent.

    `batch_id` is what the vendor names where it numbers calls, not messages: receipts name it and the recipient.
    `is_untried` says of what is put off that its vendor was not asked at all.
    """

    message: "Message"
    outcome: Literal["accepted", "rejected", "deferred", "unsupported"]
    vendor_id: str | None = None
    reason: Reason | None = None
    detail: str | None = None
    cost: Money | None = None
    retry_after: timedelta | None = None
    batch_id: str | None = None
    is_untried: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a gateway is given it, content frozen.

    Attributes:
        key: the same for every try; hand it to the vendor where it can tell repeats by it.
        address, address_kind: whom to reach, of a kind the gateway declared in `reaches`.
        subject, text, html: the rendered content; html only where the template has it.
        headers: further headers for e-mail.
        params: the facts the template was rendered with.
        form: what a vendor of approved texts wants instead: its template's id, sign and values; None where the
            template says nothing of this gateway.
        shop, order: the shop it is about by name, and the vendor's id of the order; None if about none.
        purpose: `transactional` or `marketing`.
        decided_at, leaves_at: when its content was frozen, and the run's clock as it is handed over.
        expires_at: after this it is stale news; for vendors that can be told.
    """

    id: int
    key: str
    channel: str
    address_kind: str
    address: str
    purpose: str
    template: str
    locale: str
    text: str
    subject: str | None = None
    html: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    form: Form | None = None
    shop: str | None = None
    order: str | None = None
    decided_at: datetime | None = None
    leaves_at: datetime | None = None
    expires_at: datetime | None = None

    def accepted(
        self,
        vendor_id: str | None = None,
        cost: Money | None = None,
        detail: str | None = None,
        batch_id: str | None = None,
    ) -> Receipt:
        """The vendor took it."""
        return Receipt(self, "accepted", vendor_id=vendor_id, cost=cost, detail=detail, batch_id=batch_id)

    def rejected(self, reason: Reason, detail: str) -> Receipt:
        """The vendor said no, and would say so again."""
        return Receipt(self, "rejected", reason=reason, detail=detail)

    def deferred(self, detail: str, retry_after: timedelta | None = None) -> Receipt:
        """The vendor said "not now", and did not take it."""
        return Receipt(self, "deferred", reason=Reason.RETRY, detail=detail, retry_after=retry_after)

    def untried(self, detail: str, retry_after: timedelta | None = None) -> Receipt:
        """Its batch ended before its turn came: it waits for another, and none of its tries is used up."""
        return replace(self.deferred(detail, retry_after), is_untried=True)

    def unsupported(self, detail: str) -> Receipt:
        """This gateway cannot express it, and sent nothing: an `UnsupportedError` for one message of a batch."""
        return Receipt(self, "unsupported", reason=Reason.UNSUPPORTED, detail=detail)
