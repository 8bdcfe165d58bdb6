"""What the service says of a text it did not take, by its `sub_code`, as data. What is not here is `other`.

The service is that of Alibaba's text messages, and has its codes; those about tokens are the platform's own. None but
an address that never works is a bounce; `sender` and `vendor-policy` are the account's, so another gateway may take it.
"""

from datetime import datetime, timedelta

from crmkit import Reason

from .signing import CHINA

REASONS = {
    "SMS_SIGNATURE_ILLEGAL": Reason.SENDER,
    "SMS_SIGNATURE_SCENE_ILLEGAL": Reason.SENDER,
    "SIGN_STATE_ILLEGAL": Reason.SENDER,
    "SMS_SIGN_ILLEGAL": Reason.SENDER,
    "EXTEND_CODE_ERROR": Reason.SENDER,
    "SMS_TEST_SIGN_TEMPLATE_LIMIT": Reason.SENDER,
    "SMS_TEST_NUMBER_LIMIT": Reason.SENDER,
    "SMS_TEMPLATE_ILLEGAL": Reason.VENDOR_POLICY,
    "DOMESTIC_NUMBER_NOT_SUPPORTED": Reason.VENDOR_POLICY,
    "TEMPLATE_MISSING_PARAMETERS": Reason.CONTENT,
    "TEMPLATE_PARAMS_ILLEGAL": Reason.CONTENT,
    "INVALID_PARAMETERS": Reason.CONTENT,
    "INVALID_JSON_PARAM": Reason.CONTENT,
    "PARAM_LENGTH_LIMIT": Reason.CONTENT,
    "PARAM_NOT_SUPPORT_URL": Reason.CONTENT,
    "BLACK_KEY_CONTROL_LIMIT": Reason.CONTENT,
    "SMS_CONTENT_ILLEGAL": Reason.CONTENT,
    "MOBILE_NUMBER_ILLEGAL": Reason.BAD_ADDRESS,
    "OAID_INVALID": Reason.BAD_ADDRESS,
    "INVALID_OAID": Reason.BAD_ADDRESS,
    "OAID_ILLEGAL": Reason.BAD_ADDRESS,
    "OAID_NOT_MATCH": Reason.OTHER,  # the token of another order: it is good there
    "CUSTOMER_REFUSED": Reason.OPTED_OUT,
    "MOBILE_IN_BLACK": Reason.OPTED_OUT,
    "BLACK_LIST": Reason.BLOCKED,
}
#: So many texts to this receiver lately: only this one waits.
RECIPIENT_LIMIT = "BUSINESS_LIMIT_CONTROL"
#: How long it waits, by the word the service has for it; a day is its last 24 hours.
_WAITS = {"分钟": timedelta(minutes=1), "小时": timedelta(hours=1), "天": timedelta(hours=6)}
#: The account's own limits, set in the console: all its messages wait.
DAY_LIMIT, MONTH_LIMIT = "DAY_LIMIT_CONTROL", "MONTH_LIMIT_CONTROL"
#: What only the operator can mend, and how: the account pauses, and its messages stay.
OURS = {
    "OUT_OF_SERVICE": "top up its text messages",
    "AMOUNT_NOT_ENOUGH": "top up its text messages",
    "PRODUCT_UN_SUBSCRIPT": "switch its text messages on",
    "PRODUCT_UNSUBSCRIBE": "switch its text messages on",
    "ACCOUNT_NOT_EXISTS": "switch its text messages on",
    "ACCOUNT_ABNORMAL": "ask what is wrong with the account",
    "SECURITY_FROZEN_ACCOUNT": "ask why the account is frozen",
    "DENY_IP_RANGE": "send from an address in mainland China",
}


def name_of(sub_code: str) -> str:
    """A code without who is to blame: `isv.oaid-invalid` is `OAID_INVALID`."""
    return sub_code.rpartition(".")[2].upper().replace("-", "_")


def reason_of(sub_code: str) -> Reason:
    """Why a message was refused."""
    return REASONS.get(name_of(sub_code), Reason.OTHER)


def wait_of(words: str) -> timedelta:
    """How long a receiver waits who was texted too often, by the service's words."""
    return next((wait for word, wait in _WAITS.items() if word in words), timedelta(hours=1))


def lasts(limit: str, now: datetime) -> timedelta:
    """How long a limit of the account lasts: to the end of the day there, or of the month.

    Args:
        limit: `DAY_LIMIT` or `MONTH_LIMIT`.
        now: aware.
    """
    there = now.astimezone(CHINA)
    midnight = there.replace(hour=0, minute=0, second=0, microsecond=0)
    if limit == DAY_LIMIT:
        return midnight + timedelta(days=1) - there
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1) - there
