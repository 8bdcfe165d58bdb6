"""A gateway to the fake vendor, which is a plugin."""

from collections.abc import Iterator

from crmkit import Buyer, Gateway, hookimpl
from tests.testing.test_adapter import BirdGateway

BUYER = Buyer(external_id="ann", phone="+447911123456")
CONFIG = """
[[channels.sms]]
use = "bird"
token = "t"

[[care.rules]]
on = "order-paid"
send = "order-paid"
via = ["sms"]
"""


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield BirdGateway
