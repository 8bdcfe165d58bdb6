"""What `config check` tells of care's rules."""

import pytest

from crmkit_care import Settings, check

TEMPLATES = {"order-shipped": ["email", "sms"], "order-delivered": ["email"]}
SHOPS = {"tea": {"placed", "shipped", "delivered"}, "coffee": {"placed", "shipped"}}


def told(**rule: object) -> list[str]:
    return list(check(Settings.model_validate({"rules": [rule]}), SHOPS, TEMPLATES))


def test_a_rule_that_works_everywhere_tells_nothing() -> None:
    assert told(on="order-shipped", send="order-shipped", via=["email"]) == []


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"on": "order-shipped", "send": "order-shiped"}, "did you mean order-shipped?"),
        ({"on": "order-shipped", "send": "order-delivered", "via": ["sms"]}, "is for email, not for sms"),
        ({"on": "order-shipped", "send": "order-shipped", "shops": ["milk"]}, "no shop 'milk' is switched on"),
        ({"on": "order-delivered", "send": "order-delivered"}, "the shop coffee, which does not report delivered"),
    ],
)
def test_what_cannot_work_is_told(rule: dict[str, object], says: str) -> None:
    (finding,) = told(**rule)
    assert "rules[1]" in finding
    assert says in finding


def test_a_rule_for_the_shops_that_report_tells_nothing() -> None:
    assert told(on="order-delivered", send="order-delivered", shops=["tea"]) == []


def test_a_rule_that_is_switched_off_tells_nothing() -> None:
    assert told(on="order-delivered", send="nothing", enabled=False) == []
