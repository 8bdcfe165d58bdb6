"""What the doctor finds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one part. `ok`: as it should be; `note`: worth knowing; `bad`: to be mended.

    Attributes:
        facts: what its text says, for programs: times as ISO text, counts.
    """

    part: str
    level: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = {"part": self.part, "level": self.level, "text": self.text}
        return {**told, "facts": dict(self.facts)} if self.facts else told
