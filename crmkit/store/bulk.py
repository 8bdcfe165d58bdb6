"""Rows in batches: a constant number of statements per batch, never one per row.

Values are bound once per column by SQLAlchemy's own types and handed to the driver's `executemany`, which reaches most
of the driver's speed where per-object or per-row statements reach a few hundredths of it. Rows are read the same way:
as the driver has them, then column by column. And a list of values to look for is one parameter, however long it is:
one statement, which is built and compiled once.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import sqlalchemy as sa
from pydantic_core import from_json
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.types import TypeEngine

from crmkit.core.columns import Json, UtcTime

#: A row as it is read: column values by name.
Row = Mapping[str, Any]
Binder = Callable[[Any], Any]


Reader = Callable[[Any], Any]


# --- reading ----------------------------------------------------------------------------------------------------------


def rows(tx: Connection, statement: sa.Select[Any], given: Mapping[str, Any] | None = None) -> list[Row]:
    """The rows a statement finds; `given` are values of its parameters."""
    return _read(tx, statement, given, _shape(statement, tx.dialect))


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a statement's rows are made of: names, and how what the driver gives is read (None: as it is)."""

    names: tuple[str, ...]
    readers: tuple[Reader | None, ...]


def _shape(statement: sa.Select[Any], dialect: Dialect) -> _Shape:
    columns = statement.selected_columns
    return _Shape(tuple(columns.keys()), tuple(_reader(column.type, dialect) for column in columns))


def _read(tx: Connection, statement: sa.Select[Any], given: Mapping[str, Any] | None, shape: _Shape) -> list[Row]:
    result = tx.execute(statement, given)
    found = cast("list[tuple[Any, ...]]", result.cursor.fetchall())
    result.close()
    if not found:
        return []
    columns = [
        column if read is None else [None if value is None else read(value) for value in column]
        for column, read in zip(zip(*found, strict=True), shape.readers, strict=True)
    ]
    return [dict(zip(shape.names, row, strict=True)) for row in zip(*columns, strict=True)]


@lru_cache(maxsize=512)
def _reader(kind: TypeEngine[Any], dialect: Dialect) -> Reader | None:
    """How a value that is not None is read; None: as the driver gives it."""
    if isinstance(kind, UtcTime) and dialect.name == "sqlite":
        return _utc_moment
    if isinstance(kind, Json) and dialect.name == "sqlite":
        return _document
    return cast("Reader | None", kind.dialect_impl(dialect).result_processor(dialect, None))


def _utc_moment(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def _document(text: str) -> Any:
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)  # which also takes half of a surrogate pair


# --- writing ----------------------------------------------------------------------------------------------------------


def _binder(column: sa.Column[Any], dialect: Dialect) -> Binder | None:
    """How a value that is not None is handed to the driver; None: as it is."""
    if isinstance(column.type, UtcTime) and dialect.name == "sqlite":
        return _utc_text  # what SQLAlchemy's own chain of processors gives, at a third of the cost
    return column.type.dialect_impl(dialect).bind_processor(dialect)


def _utc_text(moment: datetime) -> str:
    if moment.tzinfo is not UTC:
        if moment.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {moment.isoformat()}")
        moment = moment.astimezone(UTC)
    return moment.isoformat(" ", "microseconds")[:26]


@lru_cache(maxsize=512)
def _binders(table: sa.Table, dialect: Dialect) -> dict[str, Binder | None]:
    return {column.name: _binder(column, dialect) for column in table.columns}


@lru_cache(maxsize=512)
def _defaults(table: sa.Table) -> dict[str, Any]:
    def default(column: sa.Column[Any]) -> Any:
        given = column.default
        return given.arg if given is not None and given.is_scalar else None  # type: ignore[attr-defined]

    return {column.name: default(column) for column in table.columns}


def _mark(dialect: Dialect) -> str:
    return "?" if dialect.paramstyle == "qmark" else "%s"


@lru_cache(maxsize=512)
def _names(table: sa.Table, dialect: Dialect) -> dict[str, str]:
    quote = dialect.identifier_preparer.quote
    return {column.name: quote(column.name) for column in table.columns}


def _bound(
    table: sa.Table, dialect: Dialect, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[Any, ...]]:
    """The rows as the driver takes them: column by column, since a column has one way to be bound."""
    binders, defaults = _binders(table, dialect), _defaults(table)
    bound = []
    for name in columns:
        bind, default = binders[name], defaults[name]
        values = [row.get(name, default) for row in rows]
        if bind is not None:
            values = [None if value is None else bind(value) for value in values]
        bound.append(values)
    return list(zip(*bound, strict=True))


def _said(table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns any of the rows gives, and those with a default: the others stay NULL by themselves."""
    given = set().union(*rows)
    return [name for name, default in _defaults(table).items() if name in given or default is not None]


def insert(
    tx: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, skip_known: Sequence[str] = ()
) -> None:
    """Insert rows; a column a row leaves out takes the model's default.

    Args:
        skip_known: columns of a unique key; rows whose key is there already are left alone.
    """
    if not rows:
        return
    names, columns = _names(table, tx.dialect), _said(table, rows)
    marks = ", ".join([_mark(tx.dialect)] * len(columns))
    into = ", ".join(names[column] for column in columns)
    tail = f" ON CONFLICT ({', '.join(names[c] for c in skip_known)}) DO NOTHING" if skip_known else ""
    statement = f"INSERT INTO {table.name} ({into}) VALUES ({marks}){tail}"
    tx.exec_driver_sql(statement, _bound(table, tx.dialect, columns, rows))


def insert_at_once(
    tx: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, skip_known: Sequence[str] = ()
) -> set[int]:
    """`insert` of a few rows by one statement that holds them all; the numbers of those that were inserted.

    A driver lets go of the interpreter with every row of an `executemany`, and gets it back only when whoever took it
    is done; where an event loop is busy beside the database, that is what takes long.
    """
    if not rows:
        return set()
    names, columns = _names(table, tx.dialect), _said(table, rows)
    marks = f"({', '.join([_mark(tx.dialect)] * len(columns))})"
    into = ", ".join(names[column] for column in columns)
    tail = f" ON CONFLICT ({', '.join(names[c] for c in skip_known)}) DO NOTHING" if skip_known else ""
    statement = f"INSERT INTO {table.name} ({into}) VALUES {', '.join([marks] * len(rows))}{tail} RETURNING id"
    values = tuple(value for row in _bound(table, tx.dialect, columns, rows) for value in row)
    return set(tx.exec_driver_sql(statement, values).scalars())


def update(
    tx: Connection, table: sa.Table, key: Sequence[str], columns: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Set `columns` of the rows told by `key`; every row gives all of both."""
    if not rows or not columns:
        return
    names, mark = _names(table, tx.dialect), _mark(tx.dialect)
    sets = ", ".join(f"{names[column]} = {mark}" for column in columns)
    where = " AND ".join(f"{names[column]} = {mark}" for column in key)
    statement = f"UPDATE {table.name} SET {sets} WHERE {where}"
    tx.exec_driver_sql(statement, _bound(table, tx.dialect, [*columns, *key], rows))


def upsert(tx: Connection, table: sa.Table, key: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or overwrite those whose `key` is there already."""
    if not rows:
        return
    names = _names(table, tx.dialect)
    columns = [column.name for column in table.columns]
    into = ", ".join(names[column] for column in columns)
    marks = ", ".join([_mark(tx.dialect)] * len(columns))
    sets = ", ".join(f"{names[c]} = excluded.{names[c]}" for c in columns if c not in key)
    conflict = ", ".join(names[column] for column in key)
    action = f"UPDATE SET {sets}" if sets else "NOTHING"
    statement = f"INSERT INTO {table.name} ({into}) VALUES ({marks}) ON CONFLICT ({conflict}) DO {action}"
    tx.exec_driver_sql(statement, _bound(table, tx.dialect, columns, rows))


def delete(tx: Connection, table: sa.Table, key: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Delete the rows told by `key`."""
    if not rows:
        return
    names, mark = _names(table, tx.dialect), _mark(tx.dialect)
    where = " AND ".join(f"{names[column]} = {mark}" for column in key)
    tx.exec_driver_sql(f"DELETE FROM {table.name} WHERE {where}", _bound(table, tx.dialect, key, rows))


# --- looking for a list of values -------------------------------------------------------------------------------------


def one_of(tx: Connection, column: sa.ColumnElement[Any], values: Iterable[Any]) -> sa.ColumnElement[bool]:
    """The condition that `column` is one of `values` (numbers or text): one parameter, however many they are."""
    return _one_of(column, tx.dialect, sa.literal(_listed(values, tx.dialect), _list_type(column, tx.dialect)))


def _one_of(column: sa.ColumnElement[Any], dialect: Dialect, listed: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    if dialect.name == "sqlite":
        return column.in_(sa.select(sa.func.json_each(listed).table_valued("value").c.value))
    return column == sa.any_(listed)


def _list_type(column: sa.ColumnElement[Any], dialect: Dialect) -> TypeEngine[Any]:
    return sa.String() if dialect.name == "sqlite" else ARRAY(column.type)


def _listed(values: Iterable[Any], dialect: Dialect) -> Any:
    return json.dumps(list(values)) if dialect.name == "sqlite" else list(values)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A select of some columns where one is among a list, with its rows' shape."""

    statement: sa.Select[Any]
    shape: _Shape


@lru_cache(maxsize=512)
def _prepared(
    chosen: tuple[sa.ColumnElement[Any] | sa.Table, ...], column: sa.ColumnElement[Any], dialect: Dialect
) -> _Prepared:
    listed: sa.BindParameter[Any] = sa.bindparam("listed", type_=_list_type(column, dialect))
    statement = sa.select(*chosen).where(_one_of(column, dialect, listed))
    return _Prepared(statement, _shape(statement, dialect))


def select_in(
    tx: Connection,
    columns: sa.Table | Sequence[sa.ColumnElement[Any]],
    column: sa.ColumnElement[Any],
    values: Iterable[Any],
    *where: sa.ColumnElement[bool],
) -> list[Row]:
    """Rows whose `column` (of the tables themselves: not made for the occasion) is one of `values`, and for which
    `where` holds.
    """
    wanted = list(dict.fromkeys(values))
    if not wanted:
        return []
    chosen = (columns,) if isinstance(columns, sa.Table) else tuple(columns)
    prepared = _prepared(chosen, column, tx.dialect)
    statement = prepared.statement.where(*where) if where else prepared.statement
    return _read(tx, statement, {"listed": _listed(wanted, tx.dialect)}, prepared.shape)


# --- numbers and locks ------------------------------------------------------------------------------------------------


def next_ids(tx: Connection, table: sa.Table, count: int) -> list[int]:
    """`count` fresh numbers for `table`, ascending, in one statement.

    SQLite has one writer, who may simply count on; on PostgreSQL the table's sequence hands them out.
    """
    if count <= 0:
        return []
    if tx.dialect.name == "sqlite":
        last = tx.exec_driver_sql(f"SELECT max(id) FROM {table.name}").scalar() or 0
        return list(range(last + 1, last + 1 + count))
    drawn = tx.exec_driver_sql(f"SELECT nextval('{table.name}_id_seq') FROM generate_series(1, %s)", (count,))
    return sorted(drawn.scalars())


def lock_number(name: str) -> int:
    """A stable 63-bit number for a lock's name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


#: The lock of who takes records in, or changes who is who: one at a time.
INGEST = "crmkit ingest"


def lock(tx: Connection, name: str) -> None:
    """Wait until nobody else holds this name, and hold it to the end of the transaction.

    SQLite has one writer anyway; PostgreSQL takes an advisory lock.
    """
    if tx.dialect.name != "sqlite":
        tx.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (lock_number(name),))


def lock_all(tx: Connection, names: Iterable[str]) -> None:
    """Hold all these names to the end of the transaction: one statement, always in one order."""
    numbers = sorted({lock_number(name) for name in names})
    if numbers and tx.dialect.name != "sqlite":
        tx.exec_driver_sql("SELECT pg_advisory_xact_lock(n) FROM unnest(%s::bigint[]) AS n", (numbers,))


def take_free(tx: Connection, names: Iterable[str]) -> set[str]:
    """Hold those of these names that nobody else holds, to the end of the transaction; waits for none. One statement.

    On SQLite, which has one writer, that is all of them.
    """
    numbers = {lock_number(name): name for name in names}
    if not numbers or tx.dialect.name == "sqlite":
        return set(numbers.values())
    taken = tx.exec_driver_sql(
        "SELECT n FROM unnest(%s::bigint[]) AS n WHERE pg_try_advisory_xact_lock(n)", (sorted(numbers),)
    )
    return {numbers[number] for number in taken.scalars()}
