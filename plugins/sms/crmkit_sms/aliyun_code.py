"""What Alibaba Cloud's codes mean, as data.

Vendor documentation: https://help.aliyun.com/document_detail/101346.html (answers) and 101347.html (receipts). `isv.`
is what the sender did, and was not taken; `isp.` is the vendor's own trouble, after which nobody says whether it was.
"""

import re

from crmkit import Reason

#: Why a message was refused or did not arrive. Only an address that never works is a bounce; a phone that was switched
#: off has the same code as one that does not exist, so neither is. `sender` and `vendor-policy` are the account's, so
#: another gateway may take it.
REASONS = {
    "isv.MOBILE_NUMBER_ILLEGAL": Reason.BAD_ADDRESS,
    "isv.DOMESTIC_NUMBER_NOT_SUPPORTED": Reason.VENDOR_POLICY,  # the template is one for other countries
    "isv.BLACK_KEY_CONTROL_LIMIT": Reason.CONTENT,  # a word in a value, not the number
    "isv.SMS_CONTENT_ILLEGAL": Reason.CONTENT,
    "isv.TEMPLATE_MISSING_PARAMETERS": Reason.CONTENT,
    "isv.TEMPLATE_PARAMS_ILLEGAL": Reason.CONTENT,
    "isv.INVALID_PARAMETERS": Reason.CONTENT,
    "isv.INVALID_JSON_PARAM": Reason.CONTENT,
    "isv.PARAM_LENGTH_LIMIT": Reason.CONTENT,
    "isv.PARAM_NOT_SUPPORT_URL": Reason.CONTENT,
    "isv.CUSTOMER_REFUSED": Reason.OPTED_OUT,
    "isv.SMS_SIGNATURE_ILLEGAL": Reason.SENDER,
    "isv.SMS_SIGNATURE_SCENE_ILLEGAL": Reason.SENDER,  # a sign for codes only
    "isv.SIGN_STATE_ILLEGAL": Reason.SENDER,
    "isv.SMS_SIGN_ILLEGAL": Reason.SENDER,
    "isv.EXTEND_CODE_ERROR": Reason.SENDER,  # one extend code for two signs
    "isv.SMS_TEST_SIGN_TEMPLATE_LIMIT": Reason.SENDER,  # a sign for trying out
    "isv.SMS_TEST_NUMBER_LIMIT": Reason.SENDER,
    "isv.SMS_TEMPLATE_ILLEGAL": Reason.VENDOR_POLICY,
    # receipts
    "MOBILE_IN_BLACK": Reason.OPTED_OUT,  # who replied R, or is on a carrier's list
    "USER_REJECT": Reason.OPTED_OUT,
    "MBBLACK": Reason.OPTED_OUT,
    "CONTENT_KEYWORD": Reason.CONTENT,
    "CONTENT_ERROR": Reason.CONTENT,  # marketing that does not say how to refuse it
    "SIGNATURE_BLACKLIST": Reason.SENDER,
    "MOBLLE_TERMINAL_ERROR": Reason.MAILBOX_FULL,  # spelt so; no room on the phone or its card
    "MOBILE_TERMINAL_ERROR": Reason.MAILBOX_FULL,
    "SP_NOT_BY_INTER_SMS": Reason.BLOCKED,  # takes nothing from abroad; from at home it does
    "EXPIRED": Reason.EXPIRED,
}
#: What only the operator can mend, and how: the account pauses, and its messages stay or go by the next gateway.
OURS = {
    "InvalidAccessKeyId.NotFound": "check access_key_id",
    "InvalidAccessKeyId.Inactive": "switch the access key on, or take another",
    "InvalidAccessKeyId": "check access_key_id",
    "SignatureDoesNotMatch": "check access_key_secret",
    "IncompleteSignature": "check access_key_secret",
    "InvalidTimeStamp.Expired": "set the clock of this machine",
    "InvalidTimeStamp.Format": "set the clock of this machine",
    "Forbidden.RAM": "give the RAM user the policy AliyunDysmsFullAccess",
    "NoPermission": "give the RAM user the policy AliyunDysmsFullAccess",
    "Forbidden": "give the RAM user the policy AliyunDysmsFullAccess",
    "isp.RAM_PERMISSION_DENY": "give the RAM user the policy AliyunDysmsFullAccess",
    "isv.ACCOUNT_NOT_EXISTS": "check the access key",
    "isv.ACCOUNT_ABNORMAL": "ask Alibaba Cloud what is wrong with the account",
    "isv.SECURITY_FROZEN_ACCOUNT": "ask Alibaba Cloud why the account is frozen",
    "isv.PRODUCT_UN_SUBSCRIPT": "switch the text message service on in the console",
    "isv.PRODUCT_UNSUBSCRIBE": "switch the text message service on in the console",
    "isv.DENY_IP_RANGE": "send from an address in mainland China",
    "isv.OUT_OF_SERVICE": "top up the account",
    "isv.AMOUNT_NOT_ENOUGH": "top up the account",
}
#: So many messages to this number lately: only this one waits.
RECIPIENT_LIMIT = "isv.BUSINESS_LIMIT_CONTROL"
#: The account's own limits, set in the console.
DAY_LIMIT, MONTH_LIMIT = "isv.DAY_LIMIT_CONTROL", "isv.MONTH_LIMIT_CONTROL"
#: After these nobody says whether a message was taken; a number that was used before came with its first try.
DOUBTFUL = re.compile(r"(isp\.|ServiceUnavailable|InternalError|SignatureNonceUsed).*", re.DOTALL)
#: Too many calls a second.
THROTTLED = re.compile(r"Throttling(\..*)?|Forbidden\.Throttling|isv\.QPS_LIMIT.*")


def reason_of(code: str) -> Reason:
    """Why a message was refused or did not arrive."""
    return REASONS.get(code, Reason.OTHER)
