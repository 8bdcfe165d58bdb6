"""What a gateway is held to that can be asked what became of a message: "not there" is said where it surely is not."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from crmkit.core.errors import (
    AdapterError,
    DoubtError,
    RetryableError,
)
from crmkit.core.message import Receipt
from crmkit.testing.contract import runs
from crmkit.testing.exchange import Answer, Exchange, Fixture
from crmkit.testing.fault import FAULTS, Fault, Verdict
from crmkit.testing.message_contract import MessageContract, receipts_of
from crmkit.testing.playback import Playback
from crmkit.testing.reading import asked


class LookUpContract(MessageContract):
    """None is "surely not there", and the message is sent again."""

    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
    def test_a_look_up_that_fails_never_says_that_it_is_not_there(self, fault: Fault) -> None:
        """None is "surely not there", and sends again: what cannot be read, or was not answered, is raised."""
        sample = self._log(is_there=True)
        if sample is None:
            pytest.skip(f"{self.adapter.name} cannot be asked what became of a message")
        if fault.verdict is Verdict.TAKEN:
            pytest.skip("it is answered")
        message = self.messages_of(sample)[0]
        receipt, error = asked(self, sample, fault, lambda gateway: gateway.look_up(message))
        said = "not there" if receipt is None else receipt.outcome
        assert error is not None, f"{fault.name} ({fault.told}): asked what became of a message, it says {said}"
        self.names_its_place(error)

    def test_a_look_up_that_is_refused_never_says_that_it_is_not_there(self) -> None:
        """A vendor's refusals, of a reason nobody knows too, within a 200 or not: they say nothing of a message."""
        sample = self._log(is_there=True)
        if sample is None:
            pytest.skip(f"{self.adapter.name} cannot be asked what became of a message")
        silent = [_last_answer(one) for one in self.samples("look_up") if one.document.get("receipt", 0) is None]
        for one in self.samples("message", "messages"):
            answer = _last_answer(one)
            refused = any(r["outcome"] != "accepted" for r in receipts_of(one.document)) or "error" in one.document
            if not refused or answer is None or answer in silent:
                continue
            exchanges = [*sample.exchanges[:-1], replace(sample.exchanges[-1], response=answer)]

            async def run(exchanges: Sequence[Exchange] = exchanges) -> Receipt | None:
                async with self.opened(Playback(exchanges, again=True), sample=sample) as gateway:
                    found: Receipt | None = await gateway.look_up(self.messages_of(sample)[0])
                    return found

            self.patch.setattr("crmkit.adapters.http.READ_PAUSE", 0.0)
            self.patch.setattr("crmkit.adapters.http.LONGEST_PAUSE", timedelta(0))  # nobody waits here
            try:
                said = runs(run)
            except AdapterError:
                continue
            what = f"{one.path}.http: this answer to the question what became of a message is taken for"
            assert said is not None, f"{what} 'not there', and it is sent again"
            assert said.outcome != "accepted", f"{what} {said.outcome!r}"

    def test_a_log_that_lags_is_not_believed_at_once(self) -> None:
        """Right after a try that was lost, that its log does not show the message yet says nothing.

        Who relies on `look_up_after`, or whose log has a message before it answers, says so in `lacks["log-lag"]`.
        """
        empty = self._log(is_there=False)
        if empty is None:
            pytest.skip(f"{self.adapter.name} never says that its vendor does not have a message")
        self.needs("log-lag", True, "")
        sample, message = self.accepted(), self.messages_of(empty)[0]
        lost = replace(sample.exchanges[-1], response=None)

        async def run() -> tuple[AdapterError | None, Receipt | None]:
            playback = _InTurn(sample.exchanges[:-1], lost, empty.exchanges)
            async with self.opened(playback, sample=empty) as gateway:
                try:
                    await self.hand(gateway, [message])
                except AdapterError as error:
                    assert isinstance(error, DoubtError), f"{self.adapter.name}: a lost answer is {error!r}"
                playback.is_lost = True
                try:
                    return None, await gateway.look_up(message)
                except (DoubtError, RetryableError) as error:
                    return error, None

        self.patch.setattr("crmkit.adapters.http.READ_PAUSE", 0.0)
        error, said = runs(run)
        what = f"{self.adapter.name}: right after a try that was lost, its log is believed to be complete"
        assert error is not None or said is not None, f"{what}; raise DoubtError until it surely is"

    def _log(self, *, is_there: bool) -> Fixture | None:
        """A fixture of a look-up that finds the message, or that surely does not; None where there is none."""
        for sample in self.samples("look_up"):
            if isinstance(sample.document.get("receipt"), dict) is is_there and "receipt" in sample.document:
                return sample if sample.exchanges else None
        return None


def _last_answer(sample: Fixture) -> Answer | None:
    return sample.exchanges[-1].response if sample.exchanges else None


class _InTurn(httpx.AsyncBaseTransport):
    """Loses the message it is sent; asked afterwards, answers as a log says.

    Attributes:
        is_lost: whether it is asked now.
    """

    def __init__(self, before: Sequence[Exchange], lost: Exchange, log: Sequence[Exchange]) -> None:
        self._sending = Playback([*before, lost], again=True)
        self._log = Playback(log, again=True)
        self.is_lost = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await (self._log if self.is_lost else self._sending).handle_async_request(request)


__all__ = ["LookUpContract"]
