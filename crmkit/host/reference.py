"""Secrets by reference: `env:NAME` is an environment variable, `file:PATH` a file beside the configuration.

A reference may stand wherever a string stands in an adapter's or a plugin's section, and in `[crm] database`.
"""

import os
import re
from pathlib import Path
from typing import Any

from crmkit.host.document import Document, Place, Problem

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class References:
    """Looks references up, and remembers where they stood.

    Attributes:
        written: {place: the reference as written}.
        problems: references that lead nowhere.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self.written: dict[Place, str] = {}
        self.problems: list[Problem] = []

    def resolve(self, value: Any, at: Place) -> Any:
        """`value` with every reference in it replaced by what it leads to."""
        if isinstance(value, dict):
            return {key: self.resolve(item, (*at, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item, (*at, number)) for number, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        if value.startswith("env:"):
            return self._variable(value, at)
        if value.startswith("file:"):
            return self._file(value, at)
        return value

    def file(self, value: str) -> Path:
        """The file that `file:PATH` means."""
        return self._document.folder / Path(value.removeprefix("file:")).expanduser()

    def _variable(self, value: str, at: Place) -> str:
        self.written[at] = value
        name = value.removeprefix("env:")
        if not _NAME.fullmatch(name):
            return self._lost(at, value, "is no name of an environment variable", "write env:NAME")
        found = os.environ.get(name)
        if not found:
            state = "is empty" if found == "" else "is not set"
            return self._lost(at, value, f"the environment variable {name} {state}", f"set {name}")
        return found

    def _file(self, value: str, at: Place) -> str:
        self.written[at] = value
        path = self.file(value)
        try:
            found = path.read_text("utf-8").strip()
        except FileNotFoundError:
            return self._lost(at, value, f"there is no file {path}", "write the secret into it")
        except (OSError, UnicodeDecodeError) as error:
            return self._lost(at, value, f"{path} cannot be read ({error})", "check the file")
        return found or self._lost(at, value, f"{path} is empty", "write the secret into it")

    def _lost(self, at: Place, value: str, what: str, do: str) -> str:
        self.problems.append(self._document.problem(at, f"{value}: {what}", do))
        return value
