"""Why a text message was refused, by the service's `sub_code`, as data. What is not here is `other`, with its code.

The service is that of Alibaba's text messages, and has its codes; those about tokens are the platform's own. None but
an address that never works is a bounce; `sender` and `funds` are the account's.
"""

from crmkit import Reason

REASONS = {
    "SMS_SIGNATURE_ILLEGAL": Reason.SENDER,
    "SMS_SIGNATURE_SCENE_ILLEGAL": Reason.SENDER,
    "SMS_SIGN_ILLEGAL": Reason.SENDER,
    "EXTEND_CODE_ERROR": Reason.SENDER,
    "SMS_TEMPLATE_ILLEGAL": Reason.CONTENT,
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
    "OAID_NOT_MATCH": Reason.BAD_ADDRESS,
    "MOBILE_IN_BLACK": Reason.BLOCKED,
    "BLACK_LIST": Reason.BLOCKED,
    "AMOUNT_NOT_ENOUGH": Reason.FUNDS,
}
#: "Not now": the receiver, or the shop, was texted too often; it was not taken.
NOT_NOW = frozenset({"BUSINESS_LIMIT_CONTROL", "DAY_LIMIT_CONTROL"})
#: What only the operator can mend: the account pauses, and its messages stay.
OURS = frozenset(
    {"OUT_OF_SERVICE", "PRODUCT_UN_SUBSCRIPT", "PRODUCT_UNSUBSCRIBE", "ACCOUNT_NOT_EXISTS", "ACCOUNT_ABNORMAL"}
)


def name_of(sub_code: str) -> str:
    """A code without who is to blame: `isv.oaid-invalid` is `OAID_INVALID`."""
    return sub_code.rpartition(".")[2].upper().replace("-", "_")


def reason_of(sub_code: str) -> Reason:
    """Why a message was refused."""
    return REASONS.get(name_of(sub_code), Reason.OTHER)
