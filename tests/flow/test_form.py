"""Approved texts: each gateway of a chain is given its own form of one message, made of what was frozen."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from crmkit.core.actions import Send
from crmkit.core.errors import ConfigError, RetryableError
from crmkit.core.events import OrderPlaced
from crmkit.core.form import Form, signed
from crmkit.core.hooks import on
from crmkit.core.message import Message
from crmkit.core.records import Buyer
from crmkit.flow.template import Template
from crmkit.store import tables as t
from tests.play import HOUR, NOON, Play, Text, buyer, entry, order
from tests.scripted import Scripted, accept, send

APPROVED = """
purpose = "transactional"
[gateways.heron]
template_id = "H-1"
sign_name = "示例商城"
params = { name = "customer.name", no = "order.number" }
[gateways.second]
template_id = "22"
sign_name = "示例"
params = ["order.number", "customer.name | upper"]
colour = "blue"
---
{{ customer.name }}，您的订单{{ order.number }}已发货。
"""


class Heron(Text):
    name = "heron"
    needs_form = True


class Kite(Heron):
    name = "kite"


def play_with(play: Play, *entries: Any, template: str = APPROVED) -> None:
    play.channels = {"sms": entries or [entry(Heron), entry(Kite, "second")]}
    play.template("shipped.en.sms", template)
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("shipped", via=("sms", "email"))]))
    play.take(order("7", Buyer(external_id="ann", phone="+8613800138000", name="小明")))
    play.decide()


class Heard(Scripted):
    """Keeps the messages it was given."""

    def __init__(self, *outcomes: Any, name: str = "heron") -> None:
        super().__init__(*outcomes)
        self.messages: list[Message] = []
        self.account = replace(self.account, name=name)

    async def deliver(self, message: Message) -> Any:
        self.messages.append(message)
        return await super().deliver(message)


async def test_a_gateway_is_given_its_form_and_the_order(play: Play) -> None:
    play_with(play)
    gateway = Heard(accept)
    await send(play, gateway, name="heron")
    (message,) = gateway.messages
    assert message.form == Form("H-1", "示例商城", {"name": "小明", "no": "7"})
    assert (message.order, message.text) == ("7", "小明，您的订单7已发货。")


async def test_failover_makes_the_form_anew_of_what_was_frozen(play: Play) -> None:
    play_with(play)
    play.template("shipped.en.sms", 'purpose = "transactional"\n---\nrewritten since')
    await send(play, Heard(RetryableError("down", retry_after=timedelta(hours=1))), name="heron")
    play.write(lambda tx: tx.execute(t.message.update().values(gateway="second", not_before=NOON)))
    second = Heard(accept, name="second")
    await send(play, second, NOON + HOUR * 2, name="second")
    (message,) = second.messages
    assert message.form == Form("22", "示例", {"number": "7", "2": "小明"}, {"colour": "blue"})
    assert message.text == "小明，您的订单7已发货。"


async def test_a_gateway_that_sends_any_text_is_given_a_form_only_where_there_is_one(play: Play) -> None:
    play_with(play, entry(Text))
    gateway = Heard(accept, name="text")
    await send(play, gateway, name="text")
    assert gateway.messages[0].form is None


def test_what_a_form_lacks_is_missed_when_it_is_decided(play: Play) -> None:
    play_with(play, template=APPROVED.replace('"order.number", ', '"order.note", '))
    row = play.one(t.message)
    assert (row["state"], row["reason"]) == ("held", "missing-variable")
    assert "order.note" in row["detail"]
    assert "gateways.second" in row["detail"]


def test_a_template_without_a_form_goes_by_the_gateway_that_needs_none(play: Play) -> None:
    play_with(play, entry(Heron), entry(Text), template='purpose = "transactional"\n---\nHello.')
    assert play.one(t.message)["gateways"] == ["text"]


def test_a_template_no_gateway_has_a_form_for_takes_the_next_channel(play: Play) -> None:
    play.channels = {"sms": [entry(Heron)], "email": [entry()]}
    play.template("news.en.sms", 'purpose = "transactional"\n---\nHello.')
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("sms", "email"))]))
    play.take(order("7", buyer("ann", phone="+8613800138000")))
    play.decide()
    assert play.one(t.message)["channel"] == "email"


def test_a_template_without_any_way_is_held_and_says_what_is_missing(play: Play) -> None:
    play_with(play, entry(Heron), template='purpose = "transactional"\n---\nHello.')
    row = play.one(t.message)
    assert (row["state"], row["reason"]) == ("held", "no-gateway")
    assert "heron sends approved texts only" in row["detail"]


async def test_a_message_whose_gateway_has_no_form_of_it_any_more_is_held_before_the_wire(play: Play) -> None:
    play_with(play)
    play.channels = {"sms": [entry(Heron), entry(Kite, "renamed")]}
    play.write(lambda tx: tx.execute(t.message.update().values(gateway="renamed", gateways=["renamed"])))
    gateway = Heard(accept, name="renamed")
    await send(play, gateway, name="renamed")
    assert gateway.messages == []
    assert play.one(t.message)["reason"] == "no-gateway"


def test_the_sign_counts_in_segments(play: Play) -> None:
    text = "好" * 66
    play_with(play, template=APPROVED.partition("---\n")[0] + f"---\n{text}")
    assert play.one(t.message)["segments"] == 2  # 66 characters are one part, with the sign they are 72
    assert signed(text, "示例商城") == f"【示例商城】{text}"
    assert signed("【示例】好", "示例") == "【示例】好"


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ('params = "name"', "give a table"),
        ("params = [1]", "as text"),
        ('params = ["order.number |"]', "gateways.heron.params"),
        ('templateid = "x"', "template_id"),
        ("template_id = 7", "give text"),
    ],
)
def test_a_form_that_is_none_is_told_with_its_place(written: str, complaint: str) -> None:
    source = f'---\npurpose = "transactional"\n[gateways.heron]\n{written}\n---\nHello'
    with pytest.raises(ConfigError, match=complaint):
        Template.from_source(source, name="a", locale="en", channel="sms")


class ByDay(Text):
    name = "text"
    sends_marketing = (time(8), time(22), "Asia/Shanghai")


@pytest.mark.parametrize(
    ("now", "leaves"),
    [
        (datetime(2026, 3, 2, 13, 59, tzinfo=UTC), datetime(2026, 3, 2, 13, 59, tzinfo=UTC)),
        (datetime(2026, 3, 2, 14, tzinfo=UTC), datetime(2026, 3, 3, 0, tzinfo=UTC)),
        (datetime(2026, 3, 2, 23, 59, tzinfo=UTC), datetime(2026, 3, 3, 0, tzinfo=UTC)),
    ],
)
def test_marketing_waits_until_its_vendor_takes_it(play: Play, now: datetime, leaves: datetime) -> None:
    play.channels = {"sms": [entry(ByDay)]}
    play.template("offer.en.sms", 'purpose = "marketing"\n---\nTea for less.')
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("offer", via=("sms",))]))
    play.take(order("7", buyer("ann", phone="+8613800138000", marketing_consent=True), at=now, updated_at=now), now=now)
    play.decide(now)
    row = play.one(t.message)
    assert (row["state"], row["not_before"]) == ("queued", leaves)


async def test_the_last_look_keeps_marketing_from_leaving_at_night(play: Play) -> None:
    play.channels = {"sms": [entry(ByDay)]}
    play.template("offer.en.sms", 'purpose = "marketing"\n---\nTea for less.')
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("offer", via=("sms",))]))
    play.take(order("7", buyer("ann", phone="+8613800138000", marketing_consent=True)))
    play.decide()
    gateway = Heard(accept, name="text")
    await send(play, gateway, NOON + 4 * HOUR, name="text")
    assert gateway.asked == []
    row = play.one(t.message)
    assert (row["reason"], row["not_before"]) == ("quiet-hours", datetime(2026, 3, 3, tzinfo=UTC))


def test_news_of_an_order_knows_no_such_hours(play: Play) -> None:
    night = NOON + 4 * HOUR
    play.channels = {"sms": [entry(ByDay)]}
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("sms",))]))
    play.take(order("7", buyer("ann", phone="+8613800138000"), at=night, updated_at=night), now=night)
    play.decide(night)
    assert play.one(t.message)["not_before"] == night
