"""crmkit.toml as it is written: its values, the line of each key, and problems that name both.

`tomllib` keeps no positions, so a small scanner reads the text a second time; what it does not know the line of is
told by the line of the table around it.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from crmkit.core.errors import ConfigError

#: Where a value is: section, keys, and numbers for the entries of lists.
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the configuration: where, what was found, what would be right. A warning stops nothing."""

    what: str
    do: str = ""
    key: str = ""
    file: str = ""
    line: int | None = None
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = ": ".join(part for part in (f"{self.file}:{self.line}" if self.line else self.file, self.key) if part)
        text = f"{place}: {self.what}" if place else self.what
        return f"{text}; {self.do}" if self.do else text


class Misconfigured(ConfigError):
    """Everything that is wrong with a configuration, together; its text has a line for each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.what, who=first.file, operation=first.key, do=first.do)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


@dataclass(frozen=True)
class Document:
    """A configuration file that could be read."""

    path: Path
    text: str
    values: dict[str, Any]
    lines: dict[Place, int]

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read and parse it.

        Raises:
            Misconfigured: it is not there, cannot be read, or is not TOML; with the line.
        """
        try:
            text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except FileNotFoundError:
            raise Misconfigured(
                [Problem("does not exist", "run `crmkit init`, or name another with --config FILE", file=str(path))]
            ) from None
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise Misconfigured([Problem("is not UTF-8", "save it as UTF-8", file=str(path), line=line)]) from None
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise Misconfigured([Problem(what, "check the path and its permissions", file=str(path))]) from None
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"line (\d+)", str(error))
            line = int(found[1]) if found else text.count("\n") + 1
            raise Misconfigured(
                [Problem(f"is not TOML: {error}", "correct that line", file=str(path), line=line)]
            ) from None
        return cls(path, text, values, key_lines(text))

    @property
    def folder(self) -> Path:
        """Relative paths in the configuration are relative to it."""
        return self.path.parent.absolute()

    def problem(self, at: Place, what: str, do: str = "", *, level: Literal["error", "warning"] = "error") -> Problem:
        """A problem with the value at a place."""
        line = next((self.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self.lines), None)
        return Problem(what, do, write_key(at), str(self.path), line, level)

    def problems_of(
        self,
        error: ValidationError,
        at: Place,
        model: type[BaseModel],
        *,
        references: Iterable[Place] = (),
        also: Iterable[str] = (),
    ) -> list[Problem]:
        """What pydantic found, in the words of whoever wrote the file; a secret's value is never among them.

        Args:
            at: where the validated table is.
            model: what it was validated as.
            references: places whose value was looked up elsewhere, and so is not shown.
            also: keys of the same table that are read by somebody else.
        """
        found = []
        for one in error.errors(include_url=False, include_context=False):
            loc: Place = one["loc"]
            place = at + loc
            if one["type"] == "extra_forbidden":
                known = [*field_names(_model_at(model, loc[:-1])), *(also if len(loc) == 1 else ())]
                found.append(self.problem(place, "unknown key", nearest(str(loc[-1]), known)))
            elif one["type"] == "missing":
                found.append(self.problem(place, "is missing", "add it"))
            else:
                said = one["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
                shown = _shown(one["input"])
                if place in references or _is_secret(model, loc):
                    shown = "a value that is not shown"
                do = said[:1].lower() + said[1:]
                found.append(self.problem(place, f"found {shown}", do) if shown and loc else self.problem(place, do))
        return found


def write_key(at: Place) -> str:
    """A place as it is written: `channels.email[1].host`, entries counted from 1."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """Advice on a name nobody knows: the nearest one, or all there are."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6) or get_close_matches(
        name.lower().replace("-", "_"), names, n=1, cutoff=0.6
    )
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known are: {', '.join(names)}" if names else "nothing is known there"


def field_names(model: type[BaseModel] | None) -> list[str]:
    """What a model's keys are called in the file."""
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _shown(value: Any) -> str:
    """A value short and as TOML writes it; nothing for tables, which may hold anything."""
    if isinstance(value, bool | int | float | str):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 80 else f"{text[:77]}..."
    if isinstance(value, date | time):
        return value.isoformat()
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else ""


def _annotation(model: type[BaseModel], loc: Place) -> Any:
    """The type declared for the value at `loc`, as far as it can be followed."""
    declared: Any = model
    for part in loc:
        if isinstance(part, int):
            continue
        owner = next(iter(_models(declared)), None)
        if owner is None:
            continue
        fields = {field.alias or name: field for name, field in owner.model_fields.items()}
        if part in fields:
            declared = fields[part].annotation
    return declared


def _models(declared: Any) -> Iterable[type[BaseModel]]:
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        yield declared
    for argument in getattr(declared, "__args__", ()):
        yield from _models(argument)


def _model_at(model: type[BaseModel], loc: Place) -> type[BaseModel] | None:
    return next(iter(_models(_annotation(model, loc))), None)


def _is_secret(model: type[BaseModel], loc: Place) -> bool:
    return "Secret" in str(_annotation(model, loc)) if loc else False


# --- lines ------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|\n|[\[\]{}=]|[^\n"\'#\[\]{}=]+|.',
    re.DOTALL,
)


def key_lines(text: str) -> dict[Place, int]:
    """The line of each table and key of a TOML text (which parses); what stands in inline tables has their line."""
    lines: dict[Place, int] = {}
    table: Place = ()
    counts: dict[Place, int] = {}
    statement: list[str] = []
    line = began = 1
    depth = 0
    for token in [*_TOKEN.findall(text), "\n"]:
        if token == "\n" and depth == 0:
            written = "".join(statement).strip()
            if written.startswith("["):
                table = _header(written, counts)
                for length in range(1, len(table) + 1):
                    lines.setdefault(table[:length], began)
            elif written:
                key = table + _path(f"{_before_value(statement)} = 0")
                for length in range(len(table) + 1, len(key) + 1):
                    lines.setdefault(key[:length], began)
            statement, began = [], line + 1
        elif not token.startswith("#"):
            statement.append(token)
            if "=" in statement:
                depth += (token in "[{") - (token in "]}")
        line += token.count("\n")
    return lines


def _before_value(statement: Sequence[str]) -> str:
    return "".join(statement[: statement.index("=")]) if "=" in statement else "".join(statement)


def _header(written: str, counts: dict[Place, int]) -> Place:
    """The place a `[table]` or `[[entry]]` header opens; entries are counted."""
    place: Place = ()
    is_entry = written.startswith("[[")
    parts = _path(written[1:-1] if is_entry else written)
    for position, part in enumerate(parts):
        place = (*place, part)
        if is_entry and position == len(parts) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def _path(written: str) -> tuple[str, ...]:
    try:
        value: Any = tomllib.loads(written)
    except tomllib.TOMLDecodeError:  # a scanner that went astray costs a line number, nothing more
        return ()
    path: list[str] = []
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        path.append(key)
    return tuple(path)
