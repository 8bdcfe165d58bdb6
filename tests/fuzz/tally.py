"""How long something is fuzzed, and how often it was: bounded in number and in time, and counted."""

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings

#: Examples of each test at most, and seconds it begins new ones in.
EXAMPLES = int(os.environ.get("CRMKIT_FUZZ_EXAMPLES", "400"))
SECONDS = float(os.environ.get("CRMKIT_FUZZ_SECONDS", "30"))

#: {what was fuzzed: how many examples ran}
RAN: Counter[str] = Counter()

#: {what forms came to: how often}
REACHED: Counter[str] = Counter()

T = TypeVar("T", bound=Callable[..., Any])


def fuzzed(share: float = 1.0) -> Callable[[T], T]:
    """Run a property on so many examples; `share` is for those that are slow."""
    chosen = settings(
        max_examples=max(10, int(EXAMPLES * share)),
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=True,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    return chosen


class Clock:
    """Counts examples of one thing, and says when its time is over, which begins with the first."""

    def __init__(self, what: str) -> None:
        self.what, self._until = what, 0.0

    def goes(self) -> bool:
        """Whether another example may run; it is counted."""
        now = time.monotonic()
        self._until = self._until or now + SECONDS
        if now > self._until:
            return False
        RAN[self.what] += 1
        return True
