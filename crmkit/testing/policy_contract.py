"""The contract of policies: odd messages, to customers and to staff, and what may not be answered.

```python
from crmkit.testing import PolicyContract


class TestNights(PolicyContract):
    plugin = "./nights.py"
```
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import cycle, product

from crmkit.core.actions import Send
from crmkit.core.events import Event, Noted, OrderPaid, OrderShipped
from crmkit.core.hooks import Outgoing, Verdict
from crmkit.core.message import Reason
from crmkit.flow.crm import CrmView, Reading
from crmkit.testing.handler_contract import none_of
from crmkit.testing.life import PERSONAL
from crmkit.testing.playbook_contract import Lived, PlaybookContract, overheard
from crmkit.testing.secrecy import told
from crmkit.testing.watch import Called, Watch

ACTIONS = ("suppress", "hold", "defer")
_TEMPLATES = ("order-shipped", "offer", "x", "名字-ünï", "a" * 200)
_ADDRESSES = (
    *((None, None), ("email", "ann@quillfeather.example"), ("phone", "+447911123456"), ("order_token", "o-1")),
    *(("email", "دانا@alkhatib.example"), ("carrier_pigeon", "\u202e"), ("phone", "")),
)
_AFTER = (timedelta(0), timedelta(hours=11), timedelta(days=400), timedelta(seconds=1))


class PolicyContract(PlaybookContract):
    """What the policies of a playbook are held to."""

    def outgoing(self, lived: Lived) -> Iterator[Outgoing]:
        """The messages they are asked about; a test file may yield more.

        Args:
            lived: a season, whose customers and orders they are about.
        """
        crmkit = lived.crmkit
        now, ann, order = crmkit.clock.now, crmkit.customer("ann"), crmkit.order("a0")
        nameless = crmkit.customer("nameless")
        with crmkit.store.read() as tx:
            shop = next(iter(crmkit.engine.setup(tx).shops.values()))
        events: list[Event] = [
            OrderPaid(customer=ann, order=order, shop=shop, at=now),
            OrderShipped(customer=nameless, order=crmkit.order("bare"), shop=shop, at=now - timedelta(days=90)),
            Noted(text="", customer=None, at=now),
            Event(),
        ]
        odd = cycle(product(_TEMPLATES, _ADDRESSES, _AFTER))
        for event, purpose, channel, person in product(
            events, ("transactional", "marketing"), (*self.channels, "pigeon"), (None, "Chen")
        ):
            for _ in range(3):
                template, (kind, value), after = next(odd)
                send = Send(template, via=(channel,), context={"x": None})
                yield Outgoing(send, event, template, purpose, channel, kind, value, person, now + after)

    def test_there_are_policies(self) -> None:
        """A contract without any would say nothing."""
        assert self._plugin(self.lived().crmkit).policies, f"{self.plugin} yields no policies"

    def test_no_policy_raises(self) -> None:
        """Whatever the message: to nobody, without an order, over a channel it does not know."""
        none_of([f"{_of(call)} raised {call.error!r}" for call in self._asked() if call.error is not None])

    def test_policies_answer_verdicts(self) -> None:
        """`None`, or a `Verdict` with an action there is and a reason of `Reason`."""
        wrong = []
        for call in self._asked():
            for answer in call.answered:
                if answer is None:
                    continue
                is_verdict = isinstance(answer, Verdict) and answer.action in ACTIONS
                if not is_verdict or not isinstance(answer.reason, Reason):
                    wrong.append(f"{call.name} answers {answer!r}")
        none_of(wrong, f"not None and no Verdict({', '.join(ACTIONS)}) with a Reason")

    def test_what_is_deferred_leaves_later(self) -> None:
        """`until` is an aware time after the one at which it would have left."""
        wrong = []
        for call in self._asked():
            for answer in call.answered:
                if not isinstance(answer, Verdict) or answer.action != "defer":
                    continue
                outgoing = call.given
                assert isinstance(outgoing, Outgoing)
                until: datetime | None = answer.until
                if until is None or until.tzinfo is None:
                    wrong.append(f"{call.name} defers until {until}, which is no aware time")
                elif until <= outgoing.leaves_at:
                    wrong.append(f"{call.name} defers from {outgoing.leaves_at} until {until}")
        none_of(wrong)

    def test_asked_again_a_policy_answers_the_same(self) -> None:
        """With the same message and the same facts."""
        none_of([f"{_of(call)}: {call.again}" for call in self._asked() if call.again is not None])

    def test_policies_read_what_they_are_given_and_nothing_else(self) -> None:
        """No file, no socket, no chance, no clock but `crm.now` and `outgoing.leaves_at`. `lacks["purity"]`."""
        self.needs("purity")
        none_of([f"{_of(call)}: {what}" for call in self._asked() for what in call.did])

    def test_no_policy_tells_whom_it_was_asked_about(self) -> None:
        """Neither logged nor printed, nor in the detail of a verdict, which reports show."""
        self._asked()
        details = [str(one.detail) for call in self._asked() for one in call.answered if isinstance(one, Verdict)]
        none_of(told("\n".join([self._heard, *details]), PERSONAL), "told")

    # --- at work ----------------------------------------------------------------------------------------------------

    _heard = ""

    def _asked(self) -> list[Called]:
        found, self._heard = self.lives.once("asked", self._ask)
        return found

    def _ask(self) -> tuple[list[Called], str]:
        lived = self.lived()
        crmkit = lived.crmkit
        plugin = self._plugin(crmkit)
        assert plugin.policies, f"{self.plugin} yields no policies"
        names = {policy.name for policy in plugin.policies}
        before = [call for call in lived.watch.calls if isinstance(call.given, Outgoing) and call.name in names]
        watch, odd = lived.watch, list(self.outgoing(lived))
        start = len(watch.calls)
        assert isinstance(watch, Watch)
        with overheard() as heard, crmkit.store.read() as tx:
            crm = CrmView(Reading(tx, crmkit.clock.now), plugin.name, plugin.settings)
            for outgoing, policy in product(odd, plugin.policies):
                try:
                    policy.check(outgoing, crm)
                except Exception:  # noted where it is watched
                    continue
        return [*before, *watch.calls[start:]], heard.getvalue()


def _of(call: Called) -> str:
    outgoing = call.given
    assert isinstance(outgoing, Outgoing)
    whom = "staff" if outgoing.staff is not None else "a customer"
    return f"{call.name} on {outgoing.purpose} {outgoing.template[:20]} to {whom} over {outgoing.channel}"
