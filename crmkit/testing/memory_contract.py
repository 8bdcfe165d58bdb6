"""What an adapter is held to of its memory: it says whether it cannot do without, and shows what it keeps there."""

from collections.abc import Iterator
from typing import Any

import pytest

from crmkit.testing.contract import AdapterContract
from crmkit.testing.exchange import Fixture


class MemoryContract(AdapterContract):
    """`remembers` says what is so."""

    async def given(self, adapter: Any, sample: Fixture) -> dict[str, Any]:
        """What came of a fixture; raises what the adapter raises."""
        if sample.given != "connect":
            return await super().given(adapter, sample)
        answers: Iterator[str] = iter(sample.document["connect"])

        async def ask(question: str, **_: Any) -> str:
            answer = next(answers, None)
            if answer is None:
                pytest.fail(f'{sample.path}.json: say in "connect" what is answered to {question!r}')
            return answer

        await adapter.connect(ask)
        return {}

    def test_what_it_says_that_it_remembers_it_keeps(self) -> None:
        """Who cannot do without memory declares `remembers`, and a fixture shows it; others go on where there is none.

        Without a key of the installation nothing can be kept; only of who declares it that is known before.
        """
        is_declared, is_shown = bool(self.make().remembers), False
        for sample in self.samples():
            if sample.given == "webhook":
                continue
            is_said = bool(self.make(sample=sample).remembers)
            is_declared |= is_said
            came, _ = self.play(sample)
            kept = came.pop("kept", None)
            is_shown |= kept is not None
            if kept is not None and not is_said:
                self.has_memory = False
                without, _ = self.play(sample)
                self.has_memory = True
                what = f"{sample.path}: it keeps {', '.join(sorted(kept))}, and where nothing can be kept it comes to"
                do = "write remembers = True, or go on without"
                assert without == came, f"{what} {without} instead of {came}; {do}"
        if is_declared:
            why = "it declares remembers, and no fixture shows what it keeps: one of `connect`, or of a renewal"
            self.needs("memory", is_shown, f"{why}; or leave remembers out")
        if not is_declared and not is_shown:
            pytest.skip(f"{self.adapter.name} remembers nothing")


__all__ = ["MemoryContract"]
