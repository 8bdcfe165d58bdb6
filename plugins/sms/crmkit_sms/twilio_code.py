"""What Twilio's error codes mean, as data: Twilio refines them often, so whatever is not here goes by the HTTP status.

Vendor documentation: https://www.twilio.com/docs/api/errors; that codes change: changelog of 2024-07-10.
"""

from crmkit import Reason

#: Why a message was refused or did not arrive. Only an address that never works is a bounce (`bad-address`,
#: `not-capable`); `sender`, `vendor-policy` and `funds` are Twilio's or the account's, so another gateway may take it.
REASONS = {
    21211: Reason.BAD_ADDRESS,  # no phone number
    21217: Reason.BAD_ADDRESS,  # badly written
    21265: Reason.NOT_CAPABLE,  # a short code
    21266: Reason.BAD_ADDRESS,  # To and From are one number
    21408: Reason.VENDOR_POLICY,  # the region is not switched on
    21602: Reason.CONTENT,  # no body
    21605: Reason.CONTENT,  # too long
    21610: Reason.OPTED_OUT,  # the recipient replied STOP
    21612: Reason.SENDER,  # this sender does not reach this recipient
    21614: Reason.NOT_CAPABLE,  # no mobile number
    21617: Reason.CONTENT,  # more than 1,600 characters
    21619: Reason.CONTENT,  # neither body nor media
    21635: Reason.NOT_CAPABLE,  # a landline
    30002: Reason.SENDER,  # the account is suspended
    30004: Reason.BLOCKED,
    30005: Reason.BAD_ADDRESS,  # unknown or out of service
    30006: Reason.NOT_CAPABLE,  # a landline, or a carrier that cannot be reached
    30007: Reason.CONTENT,  # filtered
    30032: Reason.SENDER,  # the toll-free number is not verified
    30034: Reason.SENDER,  # not registered for A2P 10DLC
    30036: Reason.EXPIRED,  # the validity period is over
}
#: "Not now": Twilio did not take it.
NOT_NOW = frozenset(
    {
        20429,  # too many requests
        21611,  # the sender's queue is full
        30001,  # the queue is full
    }
)
#: What only the operator can mend: the account pauses, and its messages stay.
OURS = frozenset(
    {
        20003,  # credentials
        20005,  # the account is not active
        20404,  # no such account
        21212,  # From is no number
        21601,  # From takes no text messages
        21603,  # no From
        21606,  # From is not the account's
        21609,  # the status callback's address
        21659,  # From is no number of Twilio's
        21660,  # From is another account's
        21701,  # no such messaging service
        21703,  # the messaging service has no senders
        21705,  # no messaging service's id
        30002,
    }
)


def reason_of(code: int | None) -> Reason:
    """Why a message did not arrive, as its status tells."""
    return REASONS.get(code or 0, Reason.OTHER)
