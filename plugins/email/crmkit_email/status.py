"""What an SMTP server's refusal means: by enhanced status code first, then by reply code, never by text alone.

Vendor documentation: RFC 5321 §4.2 (reply codes), RFC 3463 and the IANA registry (enhanced codes), 7504 and 7505.

The phase matters: the same 550 is an unknown mailbox after RCPT, a refused sender after MAIL, and a judgement on the
content after DATA.
"""

import re
from typing import Literal

from crmkit import Reason

Phase = Literal["mail", "rcpt", "data"]
#: "deferred": not now. "credentials", "sender": no mail will pass before the operator mends it.
Verdict = Reason | Literal["deferred", "credentials", "sender"]

#: Enhanced codes without their class; the class is the reply code's first digit.
ENHANCED: dict[str, Verdict] = {
    "1.1": Reason.BAD_ADDRESS,  # no such mailbox
    "1.2": Reason.BAD_ADDRESS,  # no such domain
    "1.3": Reason.BAD_ADDRESS,  # not an address
    "1.6": Reason.BAD_ADDRESS,  # moved, no forwarding
    "1.7": "sender",  # not a sender's address
    "1.8": "sender",  # the sender's domain does not exist
    "1.10": Reason.BAD_ADDRESS,  # the domain takes no mail (null MX)
    "2.0": Reason.MAILBOX_FULL,
    "2.1": Reason.BAD_ADDRESS,  # mailbox disabled
    "2.2": Reason.MAILBOX_FULL,
    "2.3": Reason.CONTENT,  # too long for this mailbox
    "3.4": Reason.CONTENT,  # too long for this server
    "4.4": Reason.BAD_ADDRESS,  # no route: the domain has no server
    "6.7": Reason.UNSUPPORTED,  # international address not taken
    "6.9": Reason.UNSUPPORTED,
    "7.8": "credentials",
    "7.9": "credentials",  # mechanism too weak
    "7.11": "credentials",  # encryption needed to log in
    "7.13": "credentials",  # account disabled
    "7.17": Reason.BAD_ADDRESS,  # the mailbox has a new owner
    "7.20": "sender",  # DKIM
    "7.21": "sender",
    "7.22": "sender",
    "7.23": "sender",  # SPF
    "7.24": "sender",
    "7.25": "sender",  # reverse DNS
    "7.26": "sender",  # not authenticated
    "7.27": "sender",  # the sender's domain takes no mail
    "7.29": "sender",  # TLS
    "7.30": "sender",  # DKIM needed
    "7.32": "sender",  # From not aligned
    "7.509": "sender",  # DMARC
    "7.515": "sender",  # bulk sender not authenticated
}
#: The codes not listed above, by their subject; addressing (1) and undefined (0) are left to the reply code.
SUBJECT: dict[str, Verdict] = {
    "2": Reason.OTHER,
    "3": Reason.OTHER,
    "4": Reason.OTHER,
    "5": Reason.UNSUPPORTED,
    "6": Reason.CONTENT,
    "7": Reason.VENDOR_POLICY,
}
#: Reply codes that mean the same in every phase.
BASIC: dict[int, Verdict] = {
    500: Reason.UNSUPPORTED,
    501: Reason.UNSUPPORTED,
    502: Reason.UNSUPPORTED,
    503: Reason.UNSUPPORTED,
    504: Reason.UNSUPPORTED,
    525: "credentials",
    530: "credentials",
    534: "credentials",
    535: "credentials",
    538: "credentials",
    554: Reason.VENDOR_POLICY,
    555: Reason.UNSUPPORTED,
}
#: Reply codes that depend on what was asked.
AT_PHASE: dict[tuple[Phase, int], Verdict] = {
    ("rcpt", 521): Reason.BAD_ADDRESS,
    ("rcpt", 550): Reason.BAD_ADDRESS,
    ("rcpt", 551): Reason.BAD_ADDRESS,
    ("rcpt", 552): Reason.MAILBOX_FULL,
    ("rcpt", 553): Reason.BAD_ADDRESS,
    ("rcpt", 556): Reason.BAD_ADDRESS,
    ("mail", 552): Reason.CONTENT,
    ("data", 550): Reason.VENDOR_POLICY,
    ("data", 552): Reason.CONTENT,
}
#: What a refusal of the sender (MAIL) may still be; all else there is about the sender, hence about every mail.
_NOT_THE_SENDER = frozenset({Reason.CONTENT, Reason.UNSUPPORTED, "credentials"})

_ENHANCED = re.compile(r"[245]\.(\d{1,3})\.(\d{1,3})\b")
_REPLY = re.compile(r"\s*(?:smtp;\s*)?([45]\d\d)[ -]+(.*)", re.DOTALL | re.IGNORECASE)
_RELAY = re.compile(r"relay|authenticat|not logged in", re.IGNORECASE)
_POLICY = re.compile(r"spam|polic|blocked|blacklist|block list|reputation|\b(?:spf|dkim|dmarc|rbl)\b", re.IGNORECASE)
_UNKNOWN = re.compile(
    r"user unknown|unknown user|does not exist|no such (?:user|mailbox|person|recipient)|用户不存在|帐户不存在", re.I
)
_UNSAYABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def verdict(phase: Phase, code: int, text: str) -> Verdict:
    """What a 4xx or 5xx reply means.

    Args:
        phase: what was asked: the sender (MAIL), the recipient (RCPT), or the mail (DATA and its content).
        code: the reply code.
        text: the reply's text, which may begin with an enhanced code.
    """
    if code < 500:
        return "deferred"
    basic = AT_PHASE.get((phase, code)) or BASIC.get(code, Reason.OTHER)
    found = basic
    enhanced = _ENHANCED.match(text)
    if enhanced:
        subject, detail = enhanced.groups()
        by_subject = basic if basic == "credentials" else SUBJECT.get(subject, basic)
        found = ENHANCED.get(f"{subject}.{detail}", by_subject)
    if phase == "mail":
        return found if found in _NOT_THE_SENDER else "sender"
    if phase == "rcpt" and found in (Reason.VENDOR_POLICY, Reason.BAD_ADDRESS):
        vague = not enhanced or enhanced[2] == "0"
        if (vague or found is Reason.VENDOR_POLICY) and _RELAY.search(text):
            return "credentials"
        if vague and found is Reason.BAD_ADDRESS and _POLICY.search(text):
            return Reason.VENDOR_POLICY
    security = enhanced and enhanced[1] == "7"
    if found in (Reason.OTHER, Reason.VENDOR_POLICY) and not security and _UNKNOWN.search(text):
        return Reason.BAD_ADDRESS
    return found


def said(code: int, text: str, recipient: str = "") -> str:
    """A reply as it may be shown and stored: one line, not too long, without the recipient's address."""
    if recipient:
        text = text.replace(recipient, "recipient")
    return f"{code} {_UNSAYABLE.sub(' ', text)}"[:300].strip()


def bounced(words: str, status: str, *, default: Reason) -> Reason:
    """What a refusal means that a vendor passes on in its own words: the default, unless they say something else.

    Args:
        words: a server's reply, `550 5.1.1 ...`, or the vendor's own words.
        status: an enhanced code, or nothing.
        default: what it is where neither says.
    """
    reply, enhanced = _REPLY.match(words), _ENHANCED.match(status.strip())
    if reply is None and enhanced is None:
        return default
    code, text = (int(reply[1]), reply[2]) if reply is not None else (550, words)
    if enhanced is not None and not _ENHANCED.match(text):
        text = f"{enhanced[0]} {text}"
    found = verdict("rcpt", max(code, 500), text)
    if found in ("credentials", "sender"):
        return Reason.SENDER
    return default if found in ("deferred", Reason.OTHER) else Reason(found)
