"""Callback: receipts come back and move messages on. They may come twice, late, or before the accept was stored."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.message import BOUNCES, Reason, State
from crmkit.core.records import ReceiptRecord
from crmkit.store import customers, log, outbox

#: A message only moves up: a late "sent" does not take back "delivered".
_RANK = {State.SENT: 1, State.FAILED: 2, State.BOUNCED: 3, State.DELIVERED: 4}
_OPEN = frozenset({State.QUEUED, State.SENDING, State.IN_DOUBT, State.HELD})


def take(
    tx: Connection, receipts: Sequence[ReceiptRecord], *, account: str, listened: Collection[str], now: datetime
) -> int:
    """Store receipts and move the messages they are about; those of unknown messages wait.

    Args:
        account: whose receipts they are: the gateway entry's name. Another's ids for messages are not looked at.

    Returns:
        How many were new.
    """
    if not receipts:
        return 0
    found = outbox.messages_meant(
        tx, [r.key for r in receipts if r.key], [r.vendor_id for r in receipts if r.vendor_id]
    )
    by_key = {row["key"]: row for row in found}
    by_vendor = {row["vendor_id"]: row for row in found if row["vendor_id"] and row["gateway"] == account}
    rows = []
    for receipt in receipts:
        meant = by_key.get(receipt.key or "") or by_vendor.get(receipt.vendor_id or "")
        rows.append(
            {
                "account": account,
                "external_id": receipt.ref,
                "message_id": meant["id"] if meant is not None else None,
                "message_key": receipt.key,
                "vendor_id": receipt.vendor_id,
                "state": receipt.state,
                "reason": receipt.reason,
                "detail": receipt.detail,
                "occurred_at": receipt.occurred_at,
                "received_at": now,
            }
        )
    fresh = outbox.add_receipts(tx, rows)
    _apply(tx, [row for row in fresh if row["message_id"] is not None], listened, now)
    return len(fresh)


def catch_up(tx: Connection, messages: Sequence[Mapping[str, Any]], listened: Collection[str], now: datetime) -> None:
    """Apply receipts that came before these messages (`id`, `key`, `vendor_id`) were known to be sent."""
    by_key = {row["key"]: row["id"] for row in messages}
    by_vendor = {(row["gateway"], row["vendor_id"]): row["id"] for row in messages if row["vendor_id"]}
    waiting = outbox.waiting_receipts(tx, list(by_key), [vendor_id for _, vendor_id in by_vendor])
    meant = [by_key.get(row["message_key"]) or by_vendor.get((row["account"], row["vendor_id"])) for row in waiting]
    matched = [{**row, "message_id": number} for row, number in zip(waiting, meant, strict=True) if number is not None]
    if not matched:
        return
    outbox.match_receipts(tx, matched)
    _apply(tx, matched, listened, now)


def _apply(tx: Connection, receipts: Sequence[Mapping[str, Any]], listened: Collection[str], now: datetime) -> None:
    messages = {number: dict(row) for number, row in outbox.by_id(tx, [r["message_id"] for r in receipts]).items()}
    moved: dict[int, dict[str, Any]] = {}
    for receipt in sorted(receipts, key=lambda row: row["occurred_at"]):
        message, state = messages[receipt["message_id"]], State(receipt["state"])
        reason = _reason(receipt["reason"], state) if state in {State.BOUNCED, State.FAILED} else None
        if state is State.BOUNCED and reason in BOUNCES:
            customers.suppress(
                tx,
                channel=message["channel"],
                address=message["address"],
                reason=str(reason),
                source=f"receipt:{message['id']}",
                now=receipt["occurred_at"],
            )
        was = State(message["state"])
        if was in _OPEN or _RANK.get(state, 0) > _RANK.get(was, 9):
            message.update(state=state, reason=reason, detail=receipt["detail"])
            message["sent_at" if state is State.SENT else "settled_at"] = receipt["occurred_at"]
            moved[message["id"]] = message
    outbox.move(tx, list(moved.values()))
    tell(tx, list(moved.values()), listened, now)


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
            }
        )
    log.append(tx, rows, listened, now)
