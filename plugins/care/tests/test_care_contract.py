"""Care keeps the contract of handlers, with a rule for every event and both languages."""

from crmkit.testing import HandlerContract


class TestCare(HandlerContract):
    plugin = "care"
    locales = ("en", "zh-CN")
    config = """
[care.late]
team = "shipping"

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
