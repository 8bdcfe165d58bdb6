"""Public: what the tests of crmkit and of its plugins are written with. Nothing here is imported by a shop.

- `plugin`: the pytest plugin: the network guard and every fixture
- `network`: the guard that fails a test which would leave this machine
- `database`: a PostgreSQL of one's own, and copies of a migrated template
- `copy`: a copied database that is to send, and not only to plan
- `stores`: databases for installations, lent to one test after the other
- `clock`: a clock that stands still until a test moves it
- `stand_in`: shops and gateways that say and take what a test lets them
- `installation`: crmkit with chosen plugins, in this process
- `journey`: what happens over weeks, and exactly what is told
- `story`: a journey as text
- `golden`: files beside a test that it is compared with
- `life`: a season at a shop: everything the core tells of, happening to all kinds of people
- `watch`: notes what handlers and policies are given, answer and do
- `playbook_contract`: what every playbook is held to
- `handler_contract`, `policy_contract`: what handlers are held to, and policies
- `adapter`: adapters as the host makes them, whose calls go where a test says
- `recorder`: writes what an adapter said to its real vendor as a fixture
- `scrub`: takes secrets and persons out of it
- `fault`: the ways in which a vendor, or the way to it, fails; and what each must come to
- `ledger`: what a fake vendor was asked and what it took, and what in a database is not so by it
- `vendor`: a fake vendor on 127.0.0.1 that fails as it is told to
- `resolver`: name servers that fail
- `exchange`: fixtures of adapters: what is sent and answered, beside what was given and what is expected
- `outcome`: what a fixture comes to, in a few words
- `echo`: what an answer repeats of the request it is given to
- `playback`: vendors that answer as fixtures say
- `reading`: what contracts read with: a fixture's stream, a vendor that fails
- `secrecy`: whether something was told that must not be, in whatever spelling
- `crowd`: a vendor that is handed several messages at once
- `dump`: what a database holds, in forms that can be compared
- `errand`: one message on its way through the real steps
- `contract`: what every adapter is held to
- `webhook_contract`: what the webhooks of every adapter are held to
- `memory_contract`: what an adapter is held to of what it remembers
- `template_contract`: what a gateway that has something to say of templates is held to
- `message_contract`: how contracts give messages to a gateway
- `wire_contract`: what a gateway is held to on the wire
- `look_up_contract`: what one is held to that can be asked what became of a message
- `balance_contract`: what one is held to that tells what is left on its account
- `receipt_contract`: what its receipts are held to
- `gateway_contract`: what every gateway is held to
- `fake_shop`: a vendor of orders that changes while it is read
- `reader`: an installation that reads one account
- `shop_contract`: what a source is held to while the shop it reads changes
- `source_contract`: what every source is held to

Names are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "crmkit.testing.adapter": "make_adapter transport_to",
    "crmkit.testing.clock": "Clock NOON",
    "crmkit.testing.exchange": "Answer Exchange Fixture Sent",
    "crmkit.testing.fake_shop": "CursorExpired FakeShop Kept Listed",
    "crmkit.testing.fault": "FAULTS Fault",
    "crmkit.testing.gateway_contract": "GatewayContract",
    "crmkit.testing.golden": "Golden",
    "crmkit.testing.handler_contract": "HandlerContract",
    "crmkit.testing.installation": "Installation",
    "crmkit.testing.journey": "Journey Told a_buyer",
    "crmkit.testing.ledger": "Ledger violations",
    "crmkit.testing.life": "Life",
    "crmkit.testing.policy_contract": "PolicyContract",
    "crmkit.testing.source_contract": "SourceContract",
    "crmkit.testing.recorder": "Recorder",
    "crmkit.testing.scrub": "Scrubber",
    "crmkit.testing.vendor": "Vendor",
    "crmkit.testing.watch": "Watch",
}
_MODULE = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    module = _MODULE.get(name)
    if module is None:
        raise AttributeError(f"module 'crmkit.testing' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from crmkit.testing.adapter import make_adapter as make_adapter
    from crmkit.testing.adapter import transport_to as transport_to
    from crmkit.testing.clock import NOON as NOON
    from crmkit.testing.clock import Clock as Clock
    from crmkit.testing.exchange import Answer as Answer
    from crmkit.testing.exchange import Exchange as Exchange
    from crmkit.testing.exchange import Fixture as Fixture
    from crmkit.testing.exchange import Sent as Sent
    from crmkit.testing.fake_shop import CursorExpired as CursorExpired
    from crmkit.testing.fake_shop import FakeShop as FakeShop
    from crmkit.testing.fake_shop import Kept as Kept
    from crmkit.testing.fake_shop import Listed as Listed
    from crmkit.testing.fault import FAULTS as FAULTS
    from crmkit.testing.fault import Fault as Fault
    from crmkit.testing.gateway_contract import GatewayContract as GatewayContract
    from crmkit.testing.golden import Golden as Golden
    from crmkit.testing.handler_contract import HandlerContract as HandlerContract
    from crmkit.testing.installation import Installation as Installation
    from crmkit.testing.journey import Journey as Journey
    from crmkit.testing.journey import Told as Told
    from crmkit.testing.journey import a_buyer as a_buyer
    from crmkit.testing.ledger import Ledger as Ledger
    from crmkit.testing.ledger import violations as violations
    from crmkit.testing.life import Life as Life
    from crmkit.testing.policy_contract import PolicyContract as PolicyContract
    from crmkit.testing.recorder import Recorder as Recorder
    from crmkit.testing.scrub import Scrubber as Scrubber
    from crmkit.testing.source_contract import SourceContract as SourceContract
    from crmkit.testing.vendor import Vendor as Vendor
    from crmkit.testing.watch import Watch as Watch
