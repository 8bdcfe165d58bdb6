"""The files of a table as they lie in the folder: found by name or pattern, oldest first, with a fingerprint."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from crmkit import ConfigError

from .tabular import Layout, Tabular
from .translate import Columns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Export:
    """One file, as it was when the stream began.

    Attributes:
        name: its path in the folder, by which errors and places call it.
        written_at: when it was last changed; what is read from it was seen then.
    """

    path: Path
    name: str
    size: int
    mtime_ns: int

    @property
    def written_at(self) -> datetime:
        """When it was last changed."""
        return _EPOCH + timedelta(microseconds=self.mtime_ns // 1000)


def patterns_of(pattern: str | list[str] | None) -> list[str]:
    """The names and patterns a table's files go by; none where nothing is said."""
    return [pattern] if isinstance(pattern, str) else pattern or []


def find(folder: Path, table: str, pattern: str | list[str] | None, *, optional: bool, shop: str) -> list[Export]:
    """The files of a table, oldest first. `orders.csv` also finds `orders.csv.gz`; the plain one is preferred.

    Raises:
        ConfigError: there is no such folder or file.
    """
    patterns = patterns_of(pattern)
    if not patterns:
        raise ConfigError(
            "the mapping names no file", who=shop, operation=table, do=f'say file = "..." in {shop}.{table}'
        )
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", who=shop, do=f"correct {shop}.path")  # whichever table it is
    found: dict[Path, Export] = {}
    for item in patterns:
        if Path(item).is_absolute() or ".." in Path(item).parts:
            raise ConfigError(
                f"{item!r} is outside the folder",
                who=shop,
                operation=table,
                do=f"set {shop}.path to its folder",
            )
        for path in sorted({*folder.glob(item), *folder.glob(f"{item}.gz")}):
            if (path.suffix == ".gz" and path.with_suffix("") in found) or not path.is_file():
                continue
            stat = path.stat()
            name = path.relative_to(folder).as_posix()
            found[path] = Export(path, name, stat.st_size, stat.st_mtime_ns)
    if not found and not optional:
        there = sorted(path.name for path in folder.iterdir() if path.is_file())
        near = difflib.get_close_matches(patterns[0], there, 1)
        raise ConfigError(
            f"no file {' or '.join(patterns)} in {folder}, which holds {', '.join(there[:20]) or 'no files'}",
            who=shop,
            operation=table,
            do=f"did you mean {near[0]!r}?" if near else f"put it there, or correct {shop}.{table}.file",
        )
    return sorted(found.values(), key=lambda export: (export.mtime_ns, export.name))


def fingerprint(exports: Iterable[Export], mapping: str) -> str:
    """What changes when one of the files, or how they are read, changes."""
    said = [[export.name, export.size, export.mtime_ns] for export in exports]
    return hashlib.blake2b(json.dumps([said, mapping]).encode(), digest_size=12).hexdigest()


def newest(exports: Sequence[Export]) -> datetime | None:
    """When the newest of the files was changed."""
    return max((export.written_at for export in exports), default=None)


def check_header(table: Tabular, columns: Columns, shop: str) -> None:
    """See that a file has the columns the mapping names.

    Raises:
        ConfigError: naming the file, the column, the nearest name and the columns there are.
    """
    if table.header is None:
        return
    for column in columns.names:
        if table.header.count(column) == 1 or (column not in table.header and column not in columns.required):
            continue
        where = f"{shop}.{columns.said_by[column]}"
        there = ", ".join(table.header)
        if column in table.header:
            what = f"two columns are called {column!r}"
            do = f"rename one of them, or name another in {where}"
        else:
            near = difflib.get_close_matches(column, table.header, 1, 0.5)
            what = f"there is no column {column!r}, which {where} names; the columns are {there}"
            do = f"did you mean {near[0]!r}?" if near else f"correct {where}"
        raise ConfigError(what, who=table.name, operation="read", do=do)


def layout_of(table: object) -> Layout:
    """How a table's files are written, as far as the mapping says."""
    return Layout(*(getattr(table, key) for key in ("format", "encoding", "separator", "sheet", "header")))
