"""What one try did to a message: one table of what each answer and each error means.

"The vendor said no" ends a message; "not now" puts it off; "we could not find out" is doubt. Who only this gateway
refuses, or what cannot be expressed there, may go by the next of its chain: nothing of it has left.
"""

from asyncio import CancelledError
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from crmkit.core.errors import AdapterError, AuthError, PluginError, RefusedError, RetryableError, UnsupportedError
from crmkit.core.message import BOUNCES, OWN_REFUSALS, Reason, Receipt, State
from crmkit.core.money import Money
from crmkit.core.quota import PATIENCE

#: A message is tried this often before it fails, and its vendor asked this often what became of it.
TRIES = 10
#: No vendor makes us wait longer than this for another try.
LONGEST_ASKED = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one try did to a message.

    Attributes:
        state, reason, detail: where it is now, and why.
        outcome: the attempt in a word: `accepted`, `rejected`, `deferred`, `refused` (nothing left), `in-doubt`.
        wait: when it is queued again, how long at least; None: it is due at once.
        counts: whether it used up one of the message's tries. What is the gateway's own trouble does not, nor what was
            not handed over.
        strikes: whether this gateway cannot take it, and the next of the chain may.
    """

    state: State
    reason: Reason | None = None
    detail: str | None = None
    outcome: str = "refused"
    wait: timedelta | None = None
    counts: bool = True
    strikes: bool = False

    @property
    def doubts(self) -> bool:
        """Whether something may have left: no other gateway may have the message any more."""
        return self.outcome == "in-doubt"


def verdict_of(
    outcome: Any, *, tries: int, deduplicates: bool, is_down: bool = False, has_next: bool = False
) -> Ruling:
    """What one try did to a message.

    Args:
        outcome: what the gateway returned or raised.
        tries: tries so far, this one included.
        deduplicates: whether sending the same key again cannot double it.
        is_down: whether the gateway's circuit is open.
        has_next: whether another gateway of the chain could take it.
    """
    if isinstance(outcome, Receipt):
        return _of_receipt(outcome, tries, has_next)
    text = str(outcome) if isinstance(outcome, AdapterError) else f"{type(outcome).__name__}: {outcome}"
    if isinstance(outcome, RetryableError):
        if outcome.retry_after is not None:  # the whole account has to wait
            goes_on = has_next and outcome.retry_after > PATIENCE
            return Ruling(State.QUEUED, Reason.RETRY, text, wait=None if goes_on else outcome.retry_after, counts=False)
        if is_down:
            return Ruling(State.QUEUED, Reason.RETRY, text, counts=False)
        return _not_now(tries, text, "refused")
    if isinstance(outcome, AuthError):
        return Ruling(State.QUEUED, Reason.RETRY, text, counts=False)
    if isinstance(outcome, UnsupportedError):
        return _unsupported(text, has_next)
    if isinstance(outcome, RefusedError):
        return Ruling(State.FAILED, Reason.OTHER, text)
    if deduplicates and tries < TRIES:
        return Ruling(State.QUEUED, Reason.RETRY, f"no verdict: {text}", "in-doubt", wait=timedelta(0))
    return Ruling(State.IN_DOUBT, Reason.NO_VERDICT, text, "in-doubt")


def _of_receipt(receipt: Receipt, tries: int, has_next: bool) -> Ruling:
    if receipt.outcome == "accepted":
        return Ruling(State.SENT, None, receipt.detail, "accepted")
    if receipt.outcome == "deferred" and receipt.is_untried:
        return Ruling(
            State.QUEUED, Reason.RETRY, receipt.detail, wait=receipt.retry_after or timedelta(0), counts=False
        )
    if receipt.outcome == "deferred":
        return _not_now(tries, receipt.detail, "deferred", receipt.retry_after)
    if receipt.outcome == "unsupported":
        return _unsupported(receipt.detail, has_next)
    reason = receipt.reason or Reason.OTHER
    if reason in OWN_REFUSALS and has_next:
        return Ruling(State.QUEUED, Reason.RETRY, receipt.detail, "rejected", strikes=True)
    return Ruling(State.BOUNCED if reason in BOUNCES else State.FAILED, reason, receipt.detail, "rejected")


def _unsupported(detail: str | None, has_next: bool) -> Ruling:
    if has_next:
        return Ruling(State.QUEUED, Reason.RETRY, detail, strikes=True)
    return Ruling(State.FAILED, Reason.UNSUPPORTED, detail)


def _not_now(tries: int, detail: str | None, outcome: str, wait: timedelta | None = None) -> Ruling:
    if tries >= TRIES:
        return Ruling(State.FAILED, Reason.TRIES_USED_UP, detail, outcome)
    return Ruling(State.QUEUED, Reason.RETRY, detail, outcome, wait=wait or timedelta(0))


def still_doubted(what: str, detail: str | None) -> dict[str, Any]:
    """The state of a message that is tried no more, and of which an earlier try may have been taken."""
    told = f"{what}: {detail}" if detail else what
    return {
        "state": State.IN_DOUBT,
        "reason": Reason.NO_VERDICT,
        "detail": f"{told}; whether an earlier try was taken is not known",
    }


def checked(outcome: Any, who: str) -> Any:
    """What a gateway returned or raised, fit to be stored: an author's slip harms no other message.

    Args:
        outcome: a receipt, an exception, or whatever it gave instead.
        who: the gateway.

    Returns:
        The receipt or exception, its parts of the types they should have; a PluginError where it is neither.
    """
    if isinstance(outcome, RetryableError):
        outcome.retry_after = _wait(outcome.retry_after)
    if isinstance(outcome, BaseException):
        return outcome
    if not isinstance(outcome, Receipt) or outcome.outcome not in {"accepted", "rejected", "deferred", "unsupported"}:
        what = f"answered with {type(outcome).__name__}, which is no receipt"
        return PluginError(what, who=who, operation="deliver", do="return message.accepted(...) or its kin")
    return replace(
        outcome,
        vendor_id=_text(outcome.vendor_id),
        batch_id=_text(outcome.batch_id),
        reason=_reason(outcome.reason),
        detail=_text(outcome.detail),
        cost=outcome.cost if _is_amount(outcome.cost) else None,
        retry_after=_wait(outcome.retry_after),
        is_untried=outcome.is_untried is True,
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _reason(value: Any) -> Reason | None:
    try:
        return None if value is None else Reason(value)
    except ValueError:
        return Reason.OTHER


def _is_amount(cost: Any) -> bool:
    amount: object = cost.amount if isinstance(cost, Money) else None
    return isinstance(amount, Decimal) and amount.is_finite()


def _wait(asked: Any) -> timedelta | None:
    return min(max(asked, timedelta(0)), LONGEST_ASKED) if isinstance(asked, timedelta) else None


def speaks(outcome: Any) -> bool | None:
    """Whether a gateway's vendor answered (True), or the try came to nothing (False); None says nothing about it."""
    if isinstance(outcome, Receipt) and (outcome.outcome == "unsupported" or outcome.is_untried):
        return None
    if isinstance(outcome, Receipt | RefusedError):
        return True
    if isinstance(outcome, AuthError | UnsupportedError | CancelledError):
        return None
    return isinstance(outcome, RetryableError) and outcome.retry_after is not None
