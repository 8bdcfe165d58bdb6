"""What Tencent Cloud calls with: receipts, many at once, and replies, one at a time, as records.

Vendor documentation: https://cloud.tencent.com/document/product/382/59178 and 5809. A receipt names the number the
message was given when it was sent; it does not repeat what the call was given. A reply has no number of its own.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from crmkit import Address, Reason, ReceiptRecord, Record, fingerprint
from crmkit_sms import mainland
from crmkit_sms.echo import shown
from crmkit_sms.tencent_code import CARRIERS


def read(item: Any, received_at: datetime, locales: Iterable[str] | None) -> Iterator[Record]:
    """One receipt or reply.

    Args:
        item: as it came.
        received_at: when it came, for what does not say its own time.
        locales: languages whose opt-out words count; None: all.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: it is neither.
    """
    sender = mainland.address(str(item["mobile"]), str(item.get("nationcode") or "86"))
    if "report_status" in item:
        return _receipt(item, sender, mainland.moment(item.get("user_receive_time")) or received_at)
    text, said_at = str(item["text"]), datetime.fromtimestamp(int(item["time"]), UTC)
    known = fingerprint(sender.value, str(item["time"]), text)
    extras = {name: item[name] for name in ("sign", "extend") if item.get(name)}
    return mainland.reply(known, sender, text, said_at, extras, locales)


def _receipt(item: Any, sender: Address, told_at: datetime) -> Iterator[Record]:
    status, sid, code = item["report_status"], str(item["sid"]), str(item.get("errmsg") or "no code")
    if status not in {"SUCCESS", "FAIL"} or not sid:
        raise ValueError("neither delivered nor not")
    reason = None if status == "SUCCESS" else CARRIERS.get(code.upper(), Reason.OTHER)
    words = shown(f"{code} {item.get('description') or ''}", number=sender.value)
    yield ReceiptRecord(
        external_id=fingerprint(sid, status),
        state="delivered" if reason is None else "failed",
        vendor_id=sid,
        recipient=sender.value,
        reason=reason,
        detail=None if reason is None else words,
        occurred_at=told_at,
    )
    if reason is Reason.OPTED_OUT:
        yield mainland.consent(fingerprint(sid, status), sender, "withdrawn", None, told_at)
