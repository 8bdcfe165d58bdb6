"""What Alibaba Cloud calls with: receipts (SmsReport) and replies (SmsUp), as records.

Vendor documentation: https://help.aliyun.com/document_detail/101867.html and 60127.html. A receipt names call and
number, and repeats what the call was given as `OutId`; a reply names neither. One may come twice.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from crmkit import (
    Address,
    Reason,
    ReceiptRecord,
    Record,
    fingerprint,
)
from crmkit_sms import bundle, mainland
from crmkit_sms.aliyun_code import reason_of
from crmkit_sms.echo import shown

BOUNCES = frozenset({Reason.BAD_ADDRESS, Reason.NOT_CAPABLE})


def read(item: Any, received_at: datetime, locales: Iterable[str] | None) -> Iterator[Record]:
    """One receipt or reply.

    Args:
        item: as it came.
        received_at: when it came, for what does not say its own time.
        locales: languages whose opt-out words count; None: all.

    Raises:
        ValueError, TypeError, KeyError: it is neither.
    """
    sender = mainland.address(str(item["phone_number"]))
    if "content" in item:
        said_at = mainland.moment(item.get("send_time")) or received_at
        extras = {name: item[name] for name in ("sign_name", "dest_code") if item.get(name)}
        return mainland.reply(str(item["sequence_id"]), sender, str(item["content"]), said_at, extras, locales)
    return _receipt(item, sender, mainland.moment(item.get("report_time")) or received_at)


def _receipt(item: Any, sender: Address, told_at: datetime) -> Iterator[Record]:
    if not isinstance(item["success"], bool):
        raise ValueError("neither delivered nor not")
    batch_id, out_id, code = str(item["biz_id"]), str(item.get("out_id") or ""), str(item.get("err_code") or "no code")
    reason = None if item["success"] else reason_of(code)
    known = fingerprint(batch_id, sender.value, str(item["success"]), str(item.get("report_time")))
    yield ReceiptRecord(
        external_id=known,
        state="delivered" if reason is None else "bounced" if reason in BOUNCES else "failed",
        key=out_id if out_id and not bundle.is_marks(out_id) else None,
        batch_id=batch_id,
        recipient=sender.value,
        reason=reason,
        detail=None if reason is None else shown(code),
        occurred_at=told_at,
    )
    if reason is Reason.OPTED_OUT:
        yield mainland.consent(known, sender, "withdrawn", None, told_at)
