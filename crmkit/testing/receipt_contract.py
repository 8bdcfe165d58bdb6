"""What the receipts of a gateway are held to, however and in whatever order they come."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from crmkit.adapters.gateway import Gateway
from crmkit.core.message import Message, Receipt
from crmkit.core.records import ReceiptRecord
from crmkit.store.engine import Store
from crmkit.testing.contract import NOW, runs
from crmkit.testing.database import Migrate, MigratedTemplates
from crmkit.testing.errand import Errand
from crmkit.testing.exchange import Fixture
from crmkit.testing.message_contract import MessageContract
from crmkit.testing.playback import Playback


class ReceiptContract(MessageContract):
    """Messages end where their vendor says they did."""

    def _receipt_samples(self) -> list[Fixture]:
        """Fixtures that expect receipts, by webhook or stream."""
        every = self.samples("webhook", "stream")
        return [one for one in every if any(r.get("record") == "receipt" for r in one.document.get("records", ()))]

    def _of_the_accepted(self) -> dict[str, list[ReceiptRecord]]:
        """{state: receipts about the message of `accepted`}."""
        document, message = self.accepted().document, self.to(self.accepted_changes())
        taken = document.get("receipt") or document["receipts"][0]
        found: dict[str, list[ReceiptRecord]] = {}
        for sample in self._receipt_samples():
            for one in self.play(sample)[0].get("records", ()):
                if one.get("record") != "receipt":
                    continue
                receipt = ReceiptRecord.model_validate({key: v for key, v in one.items() if key != "record"})
                by_batch = (receipt.batch_id, receipt.recipient) == (taken.get("batch_id"), message.address)
                by_id = receipt.vendor_id is not None and receipt.vendor_id == taken.get("vendor_id")
                if receipt.key == message.key or by_id or (receipt.batch_id is not None and by_batch):
                    found.setdefault(receipt.state, []).append(receipt)
        return found

    @pytest.fixture
    def errands(self, migrate: Migrate, migrated_templates: MigratedTemplates) -> Iterator[Any]:
        """Makes errands, each in a database of its own."""
        opened: list[Store] = []

        def make(gateway: Gateway) -> Errand:
            folder = self.folder / f"errand-{len(opened)}"
            folder.mkdir()
            opened.append(Store(migrated_templates.sqlite(migrate, folder / "crm.db")))
            return Errand(opened[-1], gateway, self.to(self.accepted_changes()), NOW, folder)

        yield make
        for store in opened:
            with closing(store):
                pass

    def test_a_status_nobody_knows_moves_no_message(self) -> None:
        """It is refused with the vendor's own word, or says nothing; the call itself is kept, and can be replayed."""
        if not self._receipt_samples():
            pytest.skip(f"{self.adapter.name} gets no receipts")
        found = next((one for one in self.samples("webhook", "stream") if one.name == "unknown-status"), None)
        self.needs("unknown-status", found is not None, "no fixture `unknown-status` with a status nobody knows")
        assert found is not None
        came, _ = self.play(found)
        receipts = [one for one in came.get("records", ()) if one.get("record") == "receipt"]
        assert receipts == [], f"{found.path}: an unknown status is taken for {receipts}"

    def test_receipts_come_to_the_same_however_they_come(self, errands: Any) -> None:
        """Late, before the answer, twice, the last first: the message ends where its vendor says it did."""
        if not self._receipt_samples():
            pytest.skip(f"{self.adapter.name} gets no receipts")
        states = self._of_the_accepted()
        ends = [state for state in ("delivered", "bounced", "failed") if state in states]
        why = "no receipt of an end (delivered, bounced, failed) is about the message of `accepted`; give it that id"
        assert ends, f"{self.adapter.name}: {why}"

        async def end(
            state: str, *, before: Sequence[ReceiptRecord], after: Sequence[ReceiptRecord]
        ) -> tuple[str, int]:
            playback = Playback(self.accepted().exchanges, again=True)
            async with self.opened(playback, sample=self.accepted()) as gateway:
                errand = errands(gateway)
                early = _Early(gateway, lambda: errand.hear(before))
                early.watch()
                await errand.deliver()
                if not before:
                    assert errand.row["state"] == "sent", f"{self.adapter.name}: delivered, it is {errand.row['state']}"
                for receipt in after:
                    errand.hear([receipt])
                return str(errand.row["state"]), errand.receipts

        for state in ends:
            last, sent = states[state][0], states.get("sent", [])[:1]
            ways = {
                "late": ([], [*sent, last]),
                "twice": ([], [*sent, last, last, *sent]),
                "the last first": ([], [last, *sent]),
                "before the answer": ([last], sent),
            }
            for way, (before, after) in ways.items():
                came, count = runs(lambda s=state, b=before, a=after: end(s, before=b, after=a))  # type: ignore[misc]
                assert came == state, f"{self.adapter.name}: receipts {way}: it is {came} instead of {state}"
                assert count == 1 + len(sent), (
                    f"{self.adapter.name}: receipts {way}: {count} of {1 + len(sent)} are kept"
                )

    def test_receipts_that_differ_have_ids_that_differ(self) -> None:
        """A second status with the id of the first would be taken for a repeat, and lost."""
        if not self._receipt_samples():
            pytest.skip(f"{self.adapter.name} gets no receipts")
        found: dict[str, tuple[Any, str]] = {}
        for sample in self._receipt_samples():
            came, _ = self.play(sample)
            for one in came.get("records", ()):
                if one.get("record") == "receipt":
                    record = ReceiptRecord.model_validate({key: value for key, value in one.items() if key != "record"})
                    what = (record.vendor_id or record.key, record.recipient, record.state)
                    known, where = found.setdefault(record.ref, (what, sample.name))
                    assert known == what, f"{sample.name} and {where}: two receipts with the id {record.ref}"


class _Early:
    """Lets something happen between the vendor's answer and its being stored."""

    def __init__(self, gateway: Any, then: Any) -> None:
        self._gateway, self._then = gateway, then

    def watch(self) -> None:
        """Do it after each delivery."""
        deliver, deliver_many = self._gateway.deliver, self._gateway.deliver_many

        async def one(message: Message) -> Receipt:
            receipt: Receipt = await deliver(message)
            await asyncio.to_thread(self._then)
            return receipt

        async def many(messages: Sequence[Message]) -> AsyncIterator[Receipt]:
            async for receipt in deliver_many(messages):
                await asyncio.to_thread(self._then)
                yield receipt

        self._gateway.deliver, self._gateway.deliver_many = one, many


__all__ = ["ReceiptContract"]
