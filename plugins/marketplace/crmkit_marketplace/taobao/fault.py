"""What the platform says is wrong: in a body, with HTTP 200. https://open.taobao.com/docs/doc.htm?docId=114&docType=1.

A code below 100, but 15, 40 and 41, is the platform's own: the call came to no service. 15 and 50 are a service's, and
`sub_code` says more: `isp.` is its own trouble, which passes; `isv.` is ours, and would be again.
"""

import json
import re
from datetime import timedelta
from typing import Any

import httpx

from crmkit import AdapterError, AuthError, DoubtError, RefusedError, RetryableError

#: Limits of calls: the request was not looked at.
LIMITED = frozenset({4, 5, 6, 7, 8})
#: The seller's token is missing, or ended.
SESSION = frozenset({26, 27})
#: The application is not known, or its secret is another.
APPLICATION = frozenset({24, 25, 28, 29})
#: The application, or the seller, may not use this.
PERMISSION = frozenset({11, 12, 13, 42})
#: The request's time is not the platform's.
CLOCK = frozenset({30, 31})
_IS_ERROR = re.compile(rb'\s*\{\s*"error_response"')
_BAN = re.compile(r"last for (\d{1,7}) more seconds")
_SESSION = re.compile(r"session[-_]?key|session-expired|session-invalid", re.IGNORECASE)
_WORD = re.compile(r"[\w.:-]{1,80}")


def fault(who: str, operation: str, response: httpx.Response, *, sends: bool) -> AdapterError | None:
    """The error an answer is; None where it is none.

    Args:
        who: the account.
        operation: what it was doing.
        sends: whether what was called has an effect that must not be doubled: what a service did before it failed is
            then in doubt, and who may not call it is a pause, not a refusal of every message by itself.
    """
    if not _IS_ERROR.match(response.content):
        return None
    told = _told(response)
    at: dict[str, Any] = {"who": who, "operation": operation}
    if told is None:
        return (DoubtError if sends else RetryableError)("an error that cannot be read", **at)
    code, sub = told["code"], told["sub_code"]
    what = f"(code {code}{f' {sub}' if sub else ''})"
    if code in LIMITED:
        ban = _BAN.search(told["sub_msg"])
        wait = timedelta(seconds=min(int(ban[1]), 86_400)) if ban else None
        return RetryableError(f"too many calls of this application {what}", retry_after=wait, **at)
    if code in SESSION or _SESSION.search(sub):
        return AuthError(
            f"the seller's authorization ended {what}", do=f"run crmkit connect {who}, or set a fresh session", **at
        )
    if code in APPLICATION:
        return AuthError(f"the application is not known or signs wrongly {what}", do="check app_key, app_secret", **at)
    if code in CLOCK:
        do = "set the clock of this machine: the platform takes ten minutes of difference"
        return AuthError(f"the request's time is not the platform's {what}", do=do, **at)
    if code in PERMISSION or "permission" in sub:
        do = "apply for its permission package in the console of the open platform, and connect the shop again"
        if sends:
            return AuthError(f"the application may not use this {what}", do=do, **at)
        return _refused(f"the application may not use this {what}", do, told, at)
    if code == 10 or sub.startswith("isp."):
        if sends:
            return DoubtError(f"the service failed, and may have taken it {what}", **at)
        return RetryableError(f"the service is not available {what}", **at)
    return _refused(f"refused {what}", "", told, at)


def sub_code(error: RefusedError) -> str:
    """What a service said its refusal is; "" where it said nothing."""
    try:
        return str(json.loads(error.body)["sub_code"])
    except (ValueError, KeyError, TypeError):
        return ""


def sub_words(error: RefusedError) -> str:
    """A refusal in the service's own words, which may quote what it was sent."""
    try:
        told = json.loads(error.body)
        return str(told["sub_msg"] or told["msg"])
    except (ValueError, KeyError, TypeError):
        return ""


def is_missing(error: RefusedError) -> bool:
    """Whether there is no such thing."""
    return says_missing(sub_code(error))


def says_missing(code: str) -> bool:
    """Whether a code says there is no such thing."""
    return bool(re.search(r"not-?exist|not-?found|isnot-exist", code.lower().replace("_", "-")))


def word(value: Any) -> str:
    """A code as it may be shown; "" where it is none."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def _refused(what: str, do: str, told: dict[str, Any], at: dict[str, Any]) -> RefusedError:
    return RefusedError(what, do=do, status=200, body=json.dumps(told, ensure_ascii=False), **at)


def _told(response: httpx.Response) -> dict[str, Any] | None:
    """The error's code, and its words; of these only a code is ever shown as it is."""
    try:
        said = json.loads(response.content)["error_response"]
        words = {name: str(said.get(name) or "")[:500] for name in ("msg", "sub_code", "sub_msg")}
        return {"code": int(said["code"]), **words, "sub_code": word(words["sub_code"])}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
