"""Golden files: what a test should come to, in a file beside it, rewritten by `pytest --update`."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

#: The folder beside a test module in which its golden files lie.
FOLDER = "golden"
#: So many lines of a difference are shown.
SHOWN = 60

Fate = Literal["same", "written"]


class Golden:
    """Compares with golden files: `golden("six-weeks.txt", journey.story())`.

    Args:
        folder: where they lie.
        command: what rewrites them, as it is shown.
        is_updating: whether they are rewritten instead.

    Attributes:
        used: {file: what became of it}.
    """

    def __init__(self, folder: Path, command: str, *, is_updating: bool = False) -> None:
        self.folder, self.command, self.is_updating = folder, command, is_updating
        self.used: dict[Path, Fate] = {}

    def __call__(self, name: str, value: Any) -> None:
        """Compare a value with the golden file of this name.

        Args:
            name: its name with its ending; `/` makes folders.
            value: text as it is; bytes; anything else as JSON (pydantic models, dataclasses, times, lists, mappings).

        Raises:
            AssertionError: they differ, or there is no such file; the text says what to run.
        """
        path = self.folder / name
        if path in self.used:
            raise AssertionError(f"golden: {name} is compared twice in one test; give each its own name")
        found = value if isinstance(value, bytes) else as_text(value).encode()
        known = path.read_bytes() if path.is_file() else None
        self.used[path] = "same"
        if known == found:
            return
        if self.is_updating:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found)
            self.used[path] = "written"
            return
        shown = _shown(path)
        if known is None:
            raise AssertionError(f"golden: there is no {shown} yet; write it with: {self.command}")
        what = f"golden: {shown} says otherwise; if it is outdated: {self.command}"
        raise AssertionError(f"{what}\n{_apart(known, found)}")


def as_text(value: Any) -> str:
    """A value as its golden file holds it: text ends with one newline, anything else is JSON that people can read."""
    if isinstance(value, str):
        return value if value.endswith("\n") else f"{value}\n"
    return f"{json.dumps(value, indent=2, ensure_ascii=False, default=_plain)}\n"


def is_on_a_build_machine() -> bool:
    """Whether this runs where nobody looks at what is rewritten."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _apart(known: bytes, found: bytes) -> str:
    try:
        before, after = known.decode().splitlines(), found.decode().splitlines()
    except UnicodeDecodeError:
        return f"{len(known)} bytes in the file, {len(found)} now"
    lines = list(unified_diff(before, after, "the golden file", "now", lineterm=""))
    more = [f"... and {len(lines) - SHOWN} lines more"] if len(lines) > SHOWN else []
    return "\n".join([*lines[:SHOWN], *more]) or "they differ in how their lines end"


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
