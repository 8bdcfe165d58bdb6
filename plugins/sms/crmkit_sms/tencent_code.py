"""What Tencent Cloud's codes mean, as data.

Vendor documentation: https://cloud.tencent.com/document/api/382/52075 (answers) and product/382/59178 (receipts).
Answers have a code for the call, or one for each number; the same code may come as either.
"""

import re
from datetime import timedelta

from crmkit import Reason

#: Why a message was refused. `sender` and `vendor-policy` are the account's, so another gateway may take it.
REASONS = {
    "InvalidParameterValue.IncorrectPhoneNumber": Reason.BAD_ADDRESS,
    "FailedOperation.PhoneNumberParseFail": Reason.BAD_ADDRESS,
    "UnsupportedOperation.UnsupportedRegion": Reason.VENDOR_POLICY,
    "UnsupportedOperation.UnsuportedRegion": Reason.VENDOR_POLICY,  # spelt so, once
    "FailedOperation.PhoneNumberInBlacklist": Reason.OPTED_OUT,  # who replied R, or is on a carrier's list
    "FailedOperation.PhoneNumberOnBlacklist": Reason.OPTED_OUT,
    "FailedOperation.ContainSensitiveWord": Reason.CONTENT,
    "InvalidParameter.DirtyWordFound": Reason.CONTENT,
    "InvalidParameterValue.ContentLengthLimit": Reason.CONTENT,
    "InvalidParameterValue.TemplateParameterLengthLimit": Reason.CONTENT,
    "InvalidParameterValue.TemplateParameterFormatError": Reason.CONTENT,
    "InvalidParameterValue.ProhibitedUseUrlInTemplateParameter": Reason.CONTENT,
    "FailedOperation.TemplateParamSetNotMatchApprovedTemplate": Reason.CONTENT,
    "UnsupportedOperation.UnsupportedTemplateVariable": Reason.CONTENT,
    "FailedOperation.MarketingTemplateWithoutUnsubscribe": Reason.CONTENT,
    "FailedOperation.SignatureIncorrectOrUnapproved": Reason.SENDER,
    "FailedOperation.MissingSignature": Reason.SENDER,
    "FailedOperation.TemplateIncorrectOrUnapproved": Reason.VENDOR_POLICY,
    "FailedOperation.TemplateUnapprovedOrNotExist": Reason.VENDOR_POLICY,
    "UnauthorizedOperation.IndividualUserMarketingSmsPermissionDeny": Reason.VENDOR_POLICY,
}
#: What helps where the reason alone does not say it.
HINTS = {
    "InvalidParameterValue.TemplateParameterLengthLimit": (
        "accounts opened or idle since 2024-01-25 take 6 characters for each value: shorten them with a filter"
    ),
    "UnsupportedOperation.UnsupportedTemplateVariable": "have the text approved without values",
    "UnauthorizedOperation.IndividualUserMarketingSmsPermissionDeny": "only companies may send marketing",
}
#: What only the operator can mend, and how: the account pauses, and its messages stay or go by the next gateway.
OURS = {
    "AuthFailure.SignatureExpire": "set the clock of this machine",
    "InternalError.RequestTimeException": "set the clock of this machine",
    "AuthFailure.SecretIdNotFound": "check secret_id",
    "AuthFailure.SignatureFailure": "check secret_key",
    "AuthFailure.UnauthorizedOperation": "give the key's user the policy QcloudSMSFullAccess",
    "InvalidParameterValue.SdkAppIdNotExist": "check app_id",
    "UnauthorizedOperation.SmsSdkAppIdVerifyFail": "check app_id",
    "InvalidParameter.AppidAndBizId": "check app_id",
    "UnauthorizedOperation.SdkAppIdIsDisabled": "ask Tencent Cloud why the application is switched off",
    "UnauthorizedOperation.RequestIpNotInWhitelist": "add this machine's address to the key's list",
    "UnauthorizedOperation.ServiceSuspendDueToArrears": "top up the account",
    "UnauthorizedOperation.SerivceSuspendDueToArrears": "top up the account",  # spelt so, once
    "FailedOperation.InsufficientBalanceInSmsPackage": "buy a package of messages",
}
#: Their namesakes, as far as they are not about one message.
_OURS = re.compile(r"AuthFailure(\..*)?|UnauthorizedOperation(\..*)?")
#: How long a number waits that was written to too often; until tomorrow there, where it is None.
RECIPIENT_LIMITS: dict[str, timedelta | None] = {
    "LimitExceeded.PhoneNumberThirtySecondLimit": timedelta(seconds=30),
    "LimitExceeded.PhoneNumberOneHourLimit": timedelta(hours=1),
    "LimitExceeded.DeliveryFrequencyLimit": timedelta(hours=1),
    "LimitExceeded.PhoneNumberDailyLimit": None,
    "LimitExceeded.PhoneNumberSameContentDailyLimit": None,
    # other countries' day is used up: what goes to the mainland leaves
    "LimitExceeded.DailyLimit": None,
    "LimitExceeded.AppGlobalDailyLimit": None,
    "LimitExceeded.AppCountryOrRegionDailyLimit": None,
}
#: The account's own limits of a day, set in the console.
DAY_LIMITS = frozenset({"LimitExceeded.AppDailyLimit", "LimitExceeded.AppMainlandChinaDailyLimit"})
#: Marketing at night.
TOO_LATE = "FailedOperation.MarketingSendTimeConstraint"
#: Too many calls a second; and codes after which nobody says whether a message was taken.
THROTTLED, DOUBTFUL = re.compile(r"RequestLimitExceeded(\..*)?"), re.compile(r"InternalError(\..*)?")
#: {what a carrier said: why a message did not arrive}; a phone that was off and a number that does not exist are one.
CARRIERS = {
    "EXPIRED": Reason.EXPIRED,
    "BLACK": Reason.OPTED_OUT,
    "MBBLACK": Reason.OPTED_OUT,
    "KEYWORD": Reason.CONTENT,
    "-106": Reason.CONTENT,
}


def mended_by(code: str) -> str | None:
    """What the operator does about a code of the whole account; None where it is none."""
    if code in REASONS:
        return None
    return OURS.get(code, "look into the console" if _OURS.fullmatch(code) else None)
