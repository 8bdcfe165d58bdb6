"""What Alibaba Cloud calls with: receipts (SmsReport, GlobeSmsReport) and replies (SmsUp), as records.

Vendor documentation: https://help.aliyun.com/document_detail/101867.html, 197995.html and 60127.html. A receipt names
call and number, and repeats what the call was given as `OutId`; one from abroad has other names for all it says, and
repeats nothing. A reply names neither. One may come twice.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from crmkit import Address, Reason, ReceiptRecord, Record, fingerprint
from crmkit_sms import bundle, mainland
from crmkit_sms.aliyun_code import reason_of
from crmkit_sms.echo import shown

#: How a message to another country ended.
DELIVERED, FAILED, EXPIRED = "1", "2", "6"


def read(item: Any, received_at: datetime, locales: Iterable[str] | None) -> Iterator[Record]:
    """One receipt or reply.

    Args:
        item: as it came.
        received_at: when it came, for what does not say its own time.
        locales: languages whose opt-out words count; None: all.

    Raises:
        ValueError, TypeError, KeyError: it is neither.
    """
    if not isinstance(item, Mapping):
        raise TypeError("neither a receipt nor a reply")
    if "phone_number" not in item:
        # queue and web write the names of these differently
        return _from_abroad({name.replace("_", "").lower(): value for name, value in item.items()}, received_at)
    sender = mainland.address(str(item["phone_number"]))
    if "content" in item:
        said_at = mainland.moment(item.get("send_time")) or received_at
        extras = {name: item[name] for name in ("sign_name", "dest_code") if item.get(name)}
        return mainland.reply(str(item["sequence_id"]), sender, str(item["content"]), said_at, extras, locales)
    if not isinstance(item["success"], bool):
        raise ValueError("neither delivered nor not")
    batch_id, out_id = str(item["biz_id"]), str(item.get("out_id") or "")
    receipt = {
        "external_id": fingerprint(batch_id, sender.value, str(item["success"]), str(item.get("report_time"))),
        "key": out_id if out_id and not bundle.is_marks(out_id) else None,
        "batch_id": batch_id,
        "occurred_at": mainland.moment(item.get("report_time")) or received_at,
    }
    return _receipt(receipt, sender, None if item["success"] else str(item.get("err_code") or "no code"))


def _from_abroad(item: Mapping[str, Any], received_at: datetime) -> Iterator[Record]:
    """What became of a message to another country; its number always begins with that."""
    sender = mainland.address(f"+{str(item['to']).lstrip('+0')}")
    status, batch_id = str(item["status"]), str(item["messageid"])
    if status not in {DELIVERED, FAILED, EXPIRED}:
        raise ValueError("neither delivered nor not")
    code = "EXPIRED" if status == EXPIRED else str(item.get("errorcode") or "no code")
    receipt = {
        "external_id": fingerprint(batch_id, sender.value, status),
        "batch_id": batch_id,
        "occurred_at": _moment(item.get("receivedate")) or received_at,
    }
    return _receipt(receipt, sender, None if status == DELIVERED else code)


def _receipt(known: Mapping[str, Any], sender: Address, code: str | None) -> Iterator[Record]:
    """A receipt, and what it says of the number.

    Args:
        known: its fields that are the same whatever came of the message.
        sender: its number.
        code: why it did not arrive; None if it did.
    """
    reason = None if code is None else reason_of(code)
    yield ReceiptRecord(
        **known,
        recipient=sender.value,
        state="delivered" if reason is None else "bounced" if reason is Reason.BAD_ADDRESS else "failed",
        reason=reason,
        detail=None if code is None else shown(code),
    )
    if reason is Reason.OPTED_OUT:
        yield mainland.consent(known["external_id"], sender, "withdrawn", None, known["occurred_at"])


def _moment(written: Any) -> datetime | None:
    """A time as it is written of messages abroad: as at home, or `Mon, 24 Dec 2018 16:58:22 +0800`."""
    try:
        found = parsedate_to_datetime(str(written))
    except ValueError:
        return mainland.moment(written)
    return found if found.tzinfo is not None else found.replace(tzinfo=mainland.ZONE)
