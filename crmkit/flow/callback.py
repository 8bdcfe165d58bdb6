"""Callback: receipts come back and move messages on. They may come twice, late, or before the accept was stored."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.core.customer import normal_address
from crmkit.core.log import RECEIPT_TAKEN, RECEIPT_WAITS
from crmkit.core.message import BOUNCES, Reason, State
from crmkit.core.records import ReceiptRecord, SuppressionRecord
from crmkit.store import customers, forgotten, lines, log, outbox

#: A message only moves up: a late "sent" does not take back "delivered".
_RANK = {State.SENT: 1, State.FAILED: 2, State.BOUNCED: 3, State.DELIVERED: 4}
#: A receipt waits this long for its message.
PATIENCE = timedelta(hours=24)
#: Receipts that are looked at together.
SWEEP = 1000
_OPEN = frozenset({State.QUEUED, State.SENDING, State.IN_DOUBT, State.HELD})


def take(
    tx: Connection,
    receipts: Sequence[ReceiptRecord],
    *,
    account: str,
    listened: Collection[str],
    now: datetime,
    correlations: Sequence[str | None] = (),
) -> int:
    """Store receipts and move the messages they are about; those of unknown messages wait.

    Args:
        account: whose receipts they are: the gateway entry's name. Another's ids for messages are not looked at.
        correlations: what brought each receipt, in logs.

    Returns:
        How many were new.
    """
    if not receipts:
        return 0
    meant = _meant(tx, [{"message_key": r.key, "account": account, **_named(r)} for r in receipts])
    rows = [
        {
            "account": account,
            "external_id": receipt.ref,
            "message_id": number,
            "message_key": receipt.key,
            **_named(receipt),
            "state": receipt.state,
            "reason": receipt.reason,
            "detail": receipt.detail,
            "occurred_at": receipt.occurred_at,
            "received_at": now,
            "by": by,
        }
        for receipt, number, by in zip(receipts, meant, correlations or [None] * len(receipts), strict=True)
    ]
    fresh = outbox.add_receipts(tx, rows)
    for row in fresh:
        if row["message_id"] is None:
            reason = _told_reason(row["reason"], State(row["state"]))
            lines.later(tx, RECEIPT_WAITS, account=account, state=str(row["state"]), reason=reason, by=row["by"])
    _apply(tx, [row for row in fresh if row["message_id"] is not None], listened, now)
    return len(fresh)


def _named(receipt: ReceiptRecord) -> dict[str, str | None]:
    return {"vendor_id": receipt.vendor_id, "batch_id": receipt.batch_id, "recipient": receipt.recipient}


def _meant(tx: Connection, receipts: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """The message each receipt is about: by our key, by its account's id for it, or by call and recipient."""
    found = outbox.messages_meant(
        tx,
        [row["message_key"] for row in receipts if row["message_key"]],
        [row["vendor_id"] for row in receipts if row["vendor_id"]],
        [row["batch_id"] for row in receipts if row["batch_id"] and row["recipient"]],
    )
    names = _Names(found)
    return [names.of(row) for row in receipts]


class _Names:
    """Messages by everything a receipt may name them by."""

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        self.by_key = {row["key"]: row["id"] for row in messages}
        self.by_vendor = {(row["gateway"], row["vendor_id"]): row["id"] for row in messages if row["vendor_id"]}
        self.by_batch = {
            (row["gateway"], row["batch_id"], row["address"]): row["id"] for row in messages if row["batch_id"]
        }

    def of(self, receipt: Mapping[str, Any]) -> int | None:
        """The number of the message a receipt is about, None if it is none of these."""
        account = receipt["account"]
        return (
            self.by_key.get(receipt["message_key"])
            or self.by_vendor.get((account, receipt["vendor_id"]))
            or self.by_batch.get((account, receipt["batch_id"], receipt["recipient"]))
        )


def catch_up(tx: Connection, messages: Sequence[Mapping[str, Any]], listened: Collection[str], now: datetime) -> None:
    """Apply receipts that came before these messages (rows of the outbox) were known to be sent."""
    if not messages:
        return
    waiting = outbox.waiting_receipts(
        tx,
        [row["key"] for row in messages],
        [row["vendor_id"] for row in messages if row["vendor_id"]],
        [row["batch_id"] for row in messages if row["batch_id"]],
    )
    names = _Names(messages)
    _match(tx, waiting, [names.of(row) for row in waiting], listened, now)


def sweep(tx: Connection, listened: Collection[str], now: datetime) -> int:
    """Join receipts that wait to their messages, and give up what waited too long.

    A receipt that is stored while the accept it belongs to is committed misses it; so it is looked for again.

    Returns:
        How many were joined.
    """
    outbox.give_up_receipts(tx, now - PATIENCE, now)
    joined, last = 0, 0
    while waiting := outbox.orphans(tx, last, SWEEP):
        last = waiting[-1]["id"]
        joined += _match(tx, waiting, _meant(tx, waiting), listened, now)
    return joined


def _match(
    tx: Connection,
    receipts: Sequence[Mapping[str, Any]],
    meant: Sequence[int | None],
    listened: Collection[str],
    now: datetime,
) -> int:
    """Join receipts to the messages they are about, and apply them. Returns how many."""
    matched = [{**row, "message_id": number} for row, number in zip(receipts, meant, strict=True) if number is not None]
    if matched:
        outbox.match_receipts(tx, matched)
        _apply(tx, matched, listened, now)
    return len(matched)


def _apply(tx: Connection, receipts: Sequence[Mapping[str, Any]], listened: Collection[str], now: datetime) -> None:
    if not receipts:
        return
    messages = {number: dict(row) for number, row in outbox.held(tx, [r["message_id"] for r in receipts]).items()}
    moved: dict[int, dict[str, Any]] = {}
    ended: list[dict[str, Any]] = []
    news: set[int] = set()
    for receipt in sorted(receipts, key=lambda row: row["occurred_at"]):
        message, state, at = messages[receipt["message_id"]], State(receipt["state"]), receipt["occurred_at"]
        _say(tx, receipt, message, state)
        reason = _reason(receipt["reason"], state) if state in {State.BOUNCED, State.FAILED} else None
        if state is State.BOUNCED and reason in BOUNCES:
            row = {"channel": message["channel"], "address": message["address"], "reason": str(reason)}
            ended.append({**row, "source": f"receipt:{message['id']}", "since": at, "message": message["id"]})
        was = State(message["state"])
        if was in _OPEN:
            if state in {State.FAILED, State.BOUNCED} and receipt["account"] != message["gateway"]:
                continue  # said of a try over another gateway, which it has moved on from
        elif _RANK.get(state, 0) < _RANK.get(was, 9) or (state is was and not _is_earlier(at, reason, message)):
            continue
        message.update(state=state, reason=reason, detail=receipt["detail"])
        message["sent_at" if state is State.SENT else "settled_at"] = at
        moved[message["id"]] = message
        if state is not was:
            news.add(message["id"])
    empty = [number for number, message in messages.items() if message["text"] is None]
    if empty:  # of somebody who was forgotten: what a vendor writes of it names them
        forgotten.erase_receipts(tx, empty)
        for number in empty:
            messages[number]["detail"] = None
    elsewhere = outbox.redirected(tx, [row["message"] for row in ended])
    customers.suppress_all(tx, [row for row in ended if row["message"] not in elsewhere])
    outbox.move(tx, list(moved.values()))
    tell(tx, [row for number, row in moved.items() if number in news], listened, now)


def _say(tx: Connection, receipt: Mapping[str, Any], message: Mapping[str, Any], state: State) -> None:
    lines.later(
        tx,
        RECEIPT_TAKEN,
        message=message["id"],
        account=receipt["account"],
        state=str(state),
        reason=_told_reason(receipt["reason"], state),
        correlation=message["correlation_id"],
        by=receipt.get("by"),
    )


def _told_reason(reason: str | None, state: State) -> str | None:
    """Why it did not arrive, as the log may say it: one of ours, since a vendor's own may be anything."""
    return str(_reason(reason, state)) if state in {State.BOUNCED, State.FAILED} else None


def suppress_bounced(tx: Connection, messages: Sequence[Mapping[str, Any]], since: Mapping[int, datetime]) -> None:
    """Nothing more goes to the addresses of those of these messages that a try found to bounce.

    Of one that was redirected nothing is known of its own address.

    Args:
        since: {message: the moment that was known}.
    """
    customers.suppress_all(
        tx,
        [
            {
                "channel": row["channel"],
                "address": row["address"],
                "reason": str(row["reason"]),
                "source": f"message:{row['id']}",
                "since": since[row["id"]],
            }
            for row in messages
            if row["state"] is State.BOUNCED and row.get("redirected_to") is None
        ],
    )


def shut_out(tx: Connection, records: Sequence[SuppressionRecord], account: Shop) -> dict[str, int]:
    """Nothing more goes to addresses that another system knows nothing should go to.

    Returns:
        {created, unchanged: how many}.
    """
    if not records:
        return {}
    source = f"gateway:{account.name}" if account.kind == "gateway" else f"shop:{account.id}"
    rows = [
        {
            "channel": record.channel,
            "address": normal_address(record.address, account.region).value,
            "reason": record.reason,
            "source": source,
            "since": record.since,
        }
        for record in records
    ]
    fresh = customers.suppress_all(tx, rows)
    return {"created": fresh, "unchanged": len(rows) - fresh}


def _is_earlier(at: datetime, reason: Reason | None, message: Mapping[str, Any]) -> bool:
    """Whether a receipt is to be believed rather than the one that said the same: whatever order they came in.

    When a message was sent is what the accept says, where there was one.
    """
    if message["state"] == State.SENT or message["settled_at"] is None:
        return False
    return (at, str(reason)) < (message["settled_at"], str(message["reason"]))


def _reason(text: str | None, state: State) -> Reason:
    """The reason a receipt names; a bounce that names none is taken for what a bounce is."""
    if text is None and state is State.BOUNCED:
        return Reason.BAD_ADDRESS
    try:
        return Reason(text or Reason.OTHER)
    except ValueError:
        return Reason.OTHER


def tell(tx: Connection, messages: Sequence[Mapping[str, Any]], listened: Collection[str], now: datetime) -> None:
    """Put what became of messages into the log, where somebody listens; otherwise the outbox itself is the record."""
    rows = []
    for message in messages:
        kind = f"message-{message['state']}"
        if kind not in listened:
            continue
        payload = {"message": message["id"], "template": message["template"], "channel": message["channel"]}
        if message.get("reason") is not None:
            payload["reason"] = str(message["reason"])
        rows.append(
            {
                "type": kind,
                "profile_id": message["profile_id"],
                "shop_id": message["shop_id"],
                "order_id": message["order_id"],
                "actor": "crmkit",
                "occurred_at": message.get("settled_at") or now,
                "payload": payload,
                "cause_id": message["interaction_id"],
                "depth": message["depth"] + 1,
                "correlation_id": message["correlation_id"],
            }
        )
    log.append(tx, rows, listened, now)
