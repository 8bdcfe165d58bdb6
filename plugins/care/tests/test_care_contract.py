"""Care keeps the contract of handlers, with a rule for every event and both languages."""

from datetime import UTC, datetime

from crmkit import SilenceEnded, SilenceNoticed
from crmkit.testing import HandlerContract

THEN = datetime(2018, 5, 7, 12, tzinfo=UTC)


class TestCare(HandlerContract):
    plugin = "care"
    locales = ("en", "zh-CN")
    events = (SilenceNoticed(what="the till", since=THEN), SilenceEnded(what="the till", since=THEN, until=THEN))
    config = """
[care.late]
team = "shipping"

[care.silence]
to = "shipping"

[care.digest]
to = "shipping"
always = true

[[care.rules]]
on = "order-placed"
send = "order-placed"

[[care.rules]]
on = "order-paid"
send = "order-paid"

[[care.rules]]
on = "parcel-shipped"
send = "order-shipped"
combine = "60m"

[[care.rules]]
on = "order-delivered"
send = "order-delivered"
delay = "2d"

[[care.rules]]
on = "order-refunded"
send = "order-refunded"

[[staff]]
name = "Chen"
teams = ["shipping"]
email = "chen@shop.example"
"""
