"""States, reasons and times as a person would say them."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from crmkit.cli.output import moment
from crmkit.core.message import Reason, State

STATES: dict[str, str] = {
    State.QUEUED: "waits to leave",
    State.SENDING: "is on its way to the gateway",
    State.SENT: "was accepted by the gateway; no receipt has come yet",
    State.DELIVERED: "arrived, as the vendor says",
    State.BOUNCED: "came back: the address takes nothing",
    State.FAILED: "could not be delivered",
    State.IN_DOUBT: "may or may not have left: no verdict came; its vendor is asked where it can be, or a person looks",
    State.HELD: "waits for a person",
    State.SUPPRESSED: "was not sent",
    State.CANCELLED: "was cancelled by a person",
}

REASONS: dict[str, str] = {
    Reason.HISTORY: "it happened before the shop announced anything",
    Reason.NO_ADDRESS: "no address is known that a configured gateway reaches",
    Reason.NO_CONSENT: "marketing needs an opt-in, and there is none",
    Reason.OPTED_OUT: "the customer or the address has opted out",
    Reason.MARKETPLACE_FORBIDS: "the marketplace does not allow it",
    Reason.STALE: "the news was too old when it would have left",
    Reason.OVERTAKEN: "later news of the same order was known already",
    Reason.DUPLICATE: "the same was told before",
    Reason.COMBINED: "it is part of another message",
    Reason.HOLD_OUT: "the customer is in the group that is told nothing, for comparison",
    Reason.FORGOTTEN: "the customer asked to be forgotten",
    Reason.QUIET_HOURS: "it waits for the end of the quiet hours",
    Reason.CAPPED: "the customer has been told enough, or the gateway has sent enough, for now",
    Reason.BUDGET: "the gateway's budget is used up for now",
    Reason.PAUSED: "sending is paused",
    Reason.FENCED: "it is staging, which lets nothing go to this address",
    Reason.OPT_OUTS_UNKNOWN: "marketing waits until old opt-outs were imported, or declared none",
    Reason.RETRY: "the last try did not succeed and is repeated",
    Reason.MISSING_VARIABLE: "a fact that the template needs is not known",
    Reason.TEMPLATE_ERROR: "the template could not be filled in",
    Reason.POLICY_ERROR: "a policy failed, so it waits for a person",
    Reason.NO_GATEWAY: "no gateway is configured for its channels",
    Reason.MAY_HAVE_LEFT: "a database that was lost, or is elsewhere, may have sent it already",
    Reason.BAD_ADDRESS: "the vendor says the address does not exist",
    Reason.MAILBOX_FULL: "the vendor says the mailbox is full",
    Reason.NOT_CAPABLE: "the vendor says the address cannot take such messages",
    Reason.BLOCKED: "the vendor says the recipient, or a blocklist, refuses the sender",
    Reason.CONTENT: "the vendor refused the content",
    Reason.VENDOR_POLICY: "the vendor's rules do not allow it",
    Reason.SENDER: "the vendor refused the sender",
    Reason.FUNDS: "the account at the vendor has no funds left",
    Reason.UNSUPPORTED: "the gateway cannot express it",
    Reason.EXPIRED: "the vendor gave up on it",
    Reason.OTHER: "the vendor refused it in words of its own",
    Reason.TRIES_USED_UP: "every try was used up",
    Reason.NO_VERDICT: "the request left and no verdict came back",
}


def reason(code: str | None) -> str:
    """A reason in words, the code where there are none."""
    return "" if code is None else REASONS.get(code, code.replace("-", " "))


def state(code: str) -> str:
    """A state in words."""
    return STATES.get(code, code)


def interaction(row: Any, zone: ZoneInfo) -> str:
    """An interaction in one line."""
    return f"{row['type']} (#{row['id']}) at {moment(row['occurred_at'], zone)}, by {row['actor']}"


def due(at: datetime, now: datetime, zone: ZoneInfo) -> str:
    """When something is due, or since when."""
    return f"due {moment(at, zone)}" if at > now else f"due since {moment(at, zone)}"


def named(text: str | None, shops: Mapping[int, str]) -> str | None:
    """A text with shops by their names, where what is stored has their numbers (`shop:3`)."""
    if text is None:
        return None
    return re.sub(r"\bshop:(\d+)\b", lambda found: shops.get(int(found[1]), found[0]), text)
