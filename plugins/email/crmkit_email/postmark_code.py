"""What Postmark's error codes and kinds of bounces mean, as data.

Vendor documentation: https://postmarkapp.com/developer/api/overview#error-codes,
https://postmarkapp.com/developer/api/bounce-api#bounce-types
"""

from typing import Literal

from crmkit import Reason

#: {error code: why one message was refused}; a refused address is told from other fields by the words beside 300.
REASONS = {
    300: Reason.CONTENT,  # a field is not as it should be
    406: Reason.BLOCKED,  # bounced, complained or was shut out before; which of these, the suppressions say
    411: Reason.CONTENT,  # a kind of attachment
}
#: "Not now": nothing was taken.
NOT_NOW = frozenset({100, 429})
#: What only the operator can mend: {error code: (what, what to do)}.
OURS = {
    10: ("the server token is refused", "check server_token in crmkit.toml"),
    400: ("the sender is no sender signature", "confirm sender or its domain at Postmark"),
    401: ("the sender signature is not confirmed", "confirm sender or its domain at Postmark"),
    405: ("the account may not send more", "look at its plan and invoices at Postmark"),
    412: ("the account is not approved yet", "ask Postmark for approval; until then it sends within your domain"),
    413: ("the account may not send", "see why at Postmark"),
    1224: ("there is no such message stream", "correct transactional_stream or marketing_stream"),
    1235: ("there is no such message stream", "correct transactional_stream or marketing_stream"),
}

Fate = tuple[Literal["bounced", "failed"], Reason]
#: {kind of bounce: what became of the message}; kinds that are not here say nothing: Postmark goes on trying, or
#: somebody's mailbox answered by itself.
BOUNCES: dict[str, Fate] = {
    "HardBounce": ("bounced", Reason.BAD_ADDRESS),
    "BadEmailAddress": ("bounced", Reason.BAD_ADDRESS),
    "SoftBounce": ("failed", Reason.OTHER),  # given up; a full mailbox, mostly
    "Blocked": ("failed", Reason.BLOCKED),
    "SpamNotification": ("failed", Reason.BLOCKED),
    "ManuallyDeactivated": ("failed", Reason.BLOCKED),
    "DMARCPolicy": ("failed", Reason.SENDER),
    "VirusNotification": ("failed", Reason.CONTENT),
    "Unsubscribe": ("failed", Reason.OPTED_OUT),
    "ManualSuppression": ("failed", Reason.BLOCKED),
    "SMTPApiError": ("failed", Reason.OTHER),
    "TemplateRenderingFailed": ("failed", Reason.CONTENT),
}


def is_about_the_address(words: str) -> bool:
    """Whether a refusal with code 300 is about whom a message is to."""
    plain = words.replace("\u2019", "'").lower()
    return "'to'" in plain or ("illegal email address" in plain and "'from'" not in plain and "'reply" not in plain)
