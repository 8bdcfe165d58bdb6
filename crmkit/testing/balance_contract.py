"""What a gateway is held to that tells what is left on its account: a number it was told, never one it made up."""

import pytest

from crmkit.adapters.gateway import Gateway
from crmkit.testing.exchange import Fixture
from crmkit.testing.fault import FAULTS, Fault, Verdict
from crmkit.testing.message_contract import MessageContract
from crmkit.testing.reading import asked


class BalanceContract(MessageContract):
    """What is left is what the vendor said; where it said nothing that can be read, that is an error."""

    def test_a_balance_is_an_amount_or_a_number_of_messages(self) -> None:
        """As its fixtures show, one of them that something is left."""
        name = self.adapter.name
        if self.adapter.balance is Gateway.balance:
            pytest.skip(f"{name} tells no balance")
        found = [sample.document.get("left") for sample in self.samples("balance")]
        assert any(one is not None for one in found), f"{name} tells what is left, and no fixture `balance` shows it"

    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
    def test_a_balance_that_cannot_be_asked_is_no_number(self, fault: Fault) -> None:
        sample = self._told()
        if sample is None:
            pytest.skip(f"{self.adapter.name} tells no balance")
        if fault.verdict is Verdict.TAKEN:
            pytest.skip("it is answered")
        left, error = asked(self, sample, fault, lambda gateway: gateway.balance())
        assert error is not None, f"{fault.name} ({fault.told}): asked what is left, it says {left!r}"
        self.names_its_place(error)

    def _told(self) -> Fixture | None:
        """A fixture of a vendor that says what is left; None where there is none."""
        for sample in self.samples("balance"):
            if sample.document.get("left") is not None and sample.exchanges:
                return sample
        return None


__all__ = ["BalanceContract"]
