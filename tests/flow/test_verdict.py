"""What each answer and each error of a gateway means for a message."""

from datetime import timedelta
from typing import Any

import pytest

from crmkit.core.errors import (
    AdapterError,
    AuthError,
    DoubtError,
    PayloadError,
    RefusedError,
    RetryableError,
    UnsupportedError,
)
from crmkit.core.message import Message, Reason
from crmkit.flow.verdict import TRIES, speaks, verdict_of

MESSAGE = Message(1, "k", "email", "email", "a@example.com", "transactional", "news", "en", "text")
HOUR = timedelta(hours=1)

#: What came: state, reason, attempt; whether it counts, whether the gateway is struck off, whether the vendor spoke.
TABLE: list[tuple[Any, str, str | None, str, bool, bool, bool | None]] = [
    (MESSAGE.accepted("v"), "sent", None, "accepted", True, False, True),
    (MESSAGE.rejected(Reason.CONTENT, ""), "failed", "content", "rejected", True, False, True),
    (MESSAGE.rejected(Reason.BAD_ADDRESS, ""), "bounced", "bad-address", "rejected", True, False, True),
    (MESSAGE.rejected(Reason.NOT_CAPABLE, ""), "bounced", "not-capable", "rejected", True, False, True),
    (MESSAGE.rejected(Reason.SENDER, ""), "queued", "retry", "rejected", True, True, True),
    (MESSAGE.rejected(Reason.FUNDS, ""), "queued", "retry", "rejected", True, True, True),
    (MESSAGE.rejected(Reason.VENDOR_POLICY, ""), "queued", "retry", "rejected", True, True, True),
    (MESSAGE.deferred("later"), "queued", "retry", "deferred", True, False, True),
    (RetryableError("refused"), "queued", "retry", "refused", True, False, False),
    (RetryableError("429", retry_after=HOUR), "queued", "retry", "refused", False, False, True),
    (AuthError("401"), "queued", "retry", "refused", False, False, None),
    (UnsupportedError("no html"), "queued", "retry", "refused", True, True, None),
    (RefusedError("422"), "failed", "other", "refused", True, False, True),
    (PayloadError("not JSON"), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (DoubtError("timeout"), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (AdapterError("something"), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (TimeoutError(), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (ZeroDivisionError("a bug"), "in-doubt", "no-verdict", "in-doubt", True, False, False),
    (None, "in-doubt", "no-verdict", "in-doubt", True, False, False),
]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{type(case[0]).__name__}-{case[2]}")
def test_what_a_try_did(case: tuple[Any, str, str | None, str, bool, bool, bool | None]) -> None:
    # SEMANTICS 23
    outcome, state, reason, attempt, counts, strikes, spoke = case
    ruling = verdict_of(outcome, tries=1, deduplicates=False, has_next=True)
    assert (ruling.state, ruling.reason, ruling.outcome) == (state, reason, attempt)
    assert (ruling.counts, ruling.strikes, ruling.doubts) == (counts, strikes, attempt == "in-doubt")
    assert speaks(outcome) is spoke


@pytest.mark.parametrize("reason", ["sender", "funds", "vendor-policy"])
def test_a_refusal_of_the_last_gateways_own_ends_the_message(reason: str) -> None:
    ruling = verdict_of(MESSAGE.rejected(Reason(reason), ""), tries=1, deduplicates=False)
    assert (ruling.state, ruling.reason) == ("failed", reason)


def test_what_the_last_gateway_cannot_express_fails() -> None:
    ruling = verdict_of(UnsupportedError("no html"), tries=1, deduplicates=False)
    assert (ruling.state, ruling.reason) == ("failed", "unsupported")


def test_an_outage_uses_up_no_tries() -> None:
    ruling = verdict_of(RetryableError("refused"), tries=TRIES, deduplicates=False, is_down=True)
    assert (ruling.state, ruling.counts, ruling.wait) == ("queued", False, None)


@pytest.mark.parametrize("outcome", [RetryableError("refused"), MESSAGE.deferred("later")])
def test_tries_end(outcome: Any) -> None:
    ruling = verdict_of(outcome, tries=TRIES, deduplicates=False)
    assert (ruling.state, ruling.reason) == ("failed", "tries-used-up")


def test_doubt_is_due_again_where_repeats_are_told_until_tries_are_used_up() -> None:
    again = verdict_of(DoubtError("timeout"), tries=TRIES - 1, deduplicates=True, has_next=True)
    assert (again.state, again.doubts, again.strikes) == ("queued", True, False)
    assert verdict_of(DoubtError("timeout"), tries=TRIES, deduplicates=True).state == "in-doubt"
