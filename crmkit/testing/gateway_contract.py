"""What every gateway is held to. A test file inherits it in ten lines:

```python
class TestAcme(GatewayContract):
    adapter = AcmeGateway
    settings = {"api_key": "k-0123456789"}
    fixtures = Path(__file__).parent / "acme"
```

Of its fixtures `accepted` is a message that the vendor takes; it is the one that faults, double sends and receipts are
tried with. `unknown-code` is a refusal for a reason nobody knows (`"code"` beside it says how it is written), and
`unknown-status` a webhook with a status nobody knows; who has no codes or no statuses says so in `lacks`. Of one that
deduplicates `repeated` is the same message sent again.
"""

from typing import Any

import pytest

from crmkit.adapters.gateway import Gateway
from crmkit.core.message import Message, Reason
from crmkit.testing.balance_contract import BalanceContract
from crmkit.testing.look_up_contract import LookUpContract
from crmkit.testing.memory_contract import MemoryContract
from crmkit.testing.message_contract import receipts_of
from crmkit.testing.receipt_contract import ReceiptContract
from crmkit.testing.template_contract import TemplateContract
from crmkit.testing.webhook_contract import WebhookContract
from crmkit.testing.wire_contract import WireContract


class GatewayContract(
    WireContract, LookUpContract, BalanceContract, ReceiptContract, TemplateContract, WebhookContract, MemoryContract
):
    """A gateway keeps what it declares."""

    # --- what is declared -------------------------------------------------------------------------------------------

    def test_what_it_reaches_is_shown(self) -> None:
        """A message to each kind of address it declares is taken."""
        shown = set()
        for sample in self.samples("message", "messages"):
            receipts = sample.document.get("receipts") or [sample.document.get("receipt")]
            for one, receipt in zip(self.messages_of(sample), receipts, strict=False):
                if receipt is not None and receipt["outcome"] == "accepted":
                    shown.add(one.address_kind)
        missing = set(self.adapter.reaches) - shown
        assert not missing, f"{self.adapter.name} reaches {sorted(missing)}, and no fixture shows one taken"
        assert shown <= set(self.adapter.reaches), f"{sorted(shown)} are taken, and `reaches` does not say so"

    def test_what_it_can_do_is_shown(self) -> None:
        """Looking up, taking back, batches and streams, where it has them."""
        kind, name = self.adapter, self.adapter.name
        if kind.look_up is not Gateway.look_up:
            found = [sample.document.get("receipt", "nothing") for sample in self.samples("look_up")]
            missing = f"{name}: no fixture shows that it looks up a message its vendor does not have"
            assert None in found or "not-there" in self.lacks, missing  # a log that may be silent never says so
            assert any(isinstance(one, dict) for one in found), f"{name}: no fixture shows that it finds one"
        if kind.cancel is not Gateway.cancel:
            assert self.samples("cancel"), f"{name} takes messages back, and no fixture shows it"
        for stream in kind.streams():
            shown = [sample for sample in self.samples("stream") if sample.document["stream"] == stream]
            assert shown, f"{name}: no fixture shows what its stream {stream} reads"
        if kind.batch > 1:
            several = [one for one in self.samples("messages") if len(one.document["messages"]) > 1]
            assert several, f"{name} takes batches, and no fixture shows one of several messages"
            mixed = [one for one in several if len({(r or {}).get("outcome") for r in one.document["receipts"]}) > 1]
            assert mixed or "partial" in self.lacks, f"{name}: no fixture shows a batch of which a part is refused"
            for sample in several:
                keys = {runs_sync(self, one) for one in self.messages_of(sample)}
                assert len(keys) == 1, f"{sample.path}: its messages have several batch keys, and never go together"
                assert len(sample.document["messages"]) <= kind.batch, f"{sample.path}: more than fit in a batch"
        if self.make(sample=self.accepted()).deduplicates:
            self._repeat_is_shown()
        if kind.needs_form:
            assert self.to(self.accepted().document.get("message", {})).form, f"{name}: `accepted` has no form"

    def _repeat_is_shown(self) -> None:
        """What a vendor that deduplicates answers to a key it has seen: taken, under the number it had."""
        name = self.adapter.name
        found = next((one for one in self.samples("message", "messages") if one.name == "repeated"), None)
        assert found is not None, f"{name} says that it deduplicates, and no fixture `repeated` shows a key sent again"
        first = receipts_of(self.accepted().document)[0]
        again = receipts_of(found.document)[0]
        same = [(one["outcome"], one.get("vendor_id"), one.get("batch_id")) for one in (first, again)]
        assert same[0] == same[1], f"{found.path}: a key sent again is {again}, and was {first}"

    def test_a_batch_gives_one_receipt_for_each_message(self) -> None:
        if self.adapter.batch < 2:
            pytest.skip(f"{self.adapter.name} takes no batches")
        for sample in self.samples("messages"):
            count = len(sample.document["messages"])
            came, _ = self.play(sample)
            got = [one for one in came["receipts"] if one is not None]
            assert len(got) == count or "error" in came, f"{sample.path}: {len(got)} receipts for {count} messages"

    # --- what is not known ------------------------------------------------------------------------------------------

    def test_a_refusal_for_a_reason_nobody_knows_is_other_and_shows_its_code(self) -> None:
        found = next((one for one in self.samples("message", "messages") if one.name == "unknown-code"), None)
        why = 'no fixture `unknown-code` of a refusal nobody knows, with "code" beside it'
        self.needs("unknown-code", found is not None and "code" in found.document, why)
        assert found is not None
        came, _ = self.play(found)
        refused = [came.get("receipt"), *came.get("receipts", ())]
        rejected = [one for one in refused if one is not None and one["outcome"] == "rejected"]
        assert rejected, f"{found.path}: {came} is no refusal"
        for one in rejected:
            assert one["reason"] == Reason.OTHER, f"{found.path}: the reason is guessed: {one['reason']}"
            assert str(found.document["code"]) in one["detail"], (
                f"{found.path}: {one['detail']!r} does not show the code"
            )

    def test_a_refusal_that_is_known_has_its_reason(self) -> None:
        found = [
            receipt
            for sample in self.samples("message", "messages")
            if sample.exchanges or not self.accepted().exchanges  # the vendor's refusals, not the adapter's own
            for receipt in receipts_of(self.play(sample)[0])
            if receipt["outcome"] == "rejected" and receipt["reason"] != Reason.OTHER
        ]
        why = "no fixture shows a refusal with a reason of ours: bad-address, blocked, content, ..."
        self.needs("reasons", bool(found), why)


def runs_sync(contract: GatewayContract, message: Message) -> Any:
    """The batch key of a message."""
    return contract.make().batch_key(message)


__all__ = ["GatewayContract"]
