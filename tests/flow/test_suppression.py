"""What another system knows of addresses that nothing should go to any more."""

from typing import Any

import pytest

from crmkit.core.actions import Send
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Address, SuppressionRecord
from crmkit.flow.forget import forget
from crmkit.store import tables as t
from tests.play import HOUR, NOON, Play, order


def bounced(address: str = "Ann@Example.com", **fields: Any) -> SuppressionRecord:
    said = {"channel": "email", "reason": "bad-address", "since": NOON - HOUR, **fields}
    return SuppressionRecord(address=Address(kind="email", value=address), **said)


def test_nothing_goes_to_an_address_that_bounced_elsewhere(play: Play) -> None:
    play.plugin("p", on(OrderPlaced)(lambda event, crm: [Send("news")]))
    tally = play.take(bounced(), order("1"))
    play.decide()
    assert dict(tally.records["suppression"]) == {"created": 1, "unchanged": 0}
    message = play.one(t.message)
    assert (message["state"], message["reason"]) == ("suppressed", "opted-out")
    assert "bad-address (shop:1)" in message["detail"]


def test_it_holds_for_its_channel_only(play: Play) -> None:
    play.plugin("p", on(OrderPlaced)(lambda event, crm: [Send("news")]))
    play.take(bounced(channel="sms"), order("1"))
    play.decide()
    assert play.one(t.message)["state"] == "queued"


def test_what_is_known_is_no_news(play: Play) -> None:
    play.take(bounced(), bounced("ann@example.com", since=NOON - 2 * HOUR))
    tally = play.take(bounced(since=NOON))
    assert dict(tally.records["suppression"]) == {"created": 0, "unchanged": 1}
    assert play.one(t.suppression)["since"] == NOON - 2 * HOUR


# SEMANTICS 4
@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("is_together", [False, True])
def test_the_earliest_is_kept_in_whatever_order_they_come(play: Play, is_turned: bool, is_together: bool) -> None:
    told = [
        bounced(since=NOON),
        bounced(reason="not-capable", since=NOON - 2 * HOUR),
        bounced(reason="other", since=NOON - 2 * HOUR),
        bounced(since=NOON - HOUR),
    ]
    told = told[::-1] if is_turned else told
    for page in [told] if is_together else [[one] for one in told]:
        play.take(*page)
    kept = play.one(t.suppression)
    assert (kept["since"], kept["reason"]) == (NOON - 2 * HOUR, "not-capable")


# SEMANTICS 12
def test_nothing_is_kept_of_who_was_forgotten(play: Play) -> None:
    play.take(order("1"))
    play.write(lambda tx: forget(tx, 1, now=NOON))
    tally = play.take(bounced())
    assert dict(tally.records["suppression"]) == {"unchanged": 1}
    assert play.rows(t.suppression) == []
