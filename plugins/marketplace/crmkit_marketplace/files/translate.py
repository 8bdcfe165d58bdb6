"""A table of the mapping, compiled: plain functions from a row's cells to the values of a record.

The columns a table needs get fixed places, whatever order a file has them in. A cell is None where the row does not
have the column: its field stays unset ("not said"). An empty cell gives None ("the shop says empty").
"""

from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ValidationError

from crmkit import ConfigError

from . import cells, reads
from .fields import KINDS, FieldType
from .mapping import SOURCES, Column, Table, column_of, normal_spec, wrong
from .reads import UNSET, Cells, Read, shown


class Columns:
    """The columns to be read from a file, in the order their cells are handed over."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.said_by: dict[str, str] = {}
        self.required: set[str] = set()

    def place(self, column: str, where: str, optional: bool) -> int:
        """The place of a column's cell; `where` in the mapping it is named."""
        if column not in self.said_by:
            self.names.append(column)
            self.said_by[column] = where
        if not optional and column not in self.required:
            self.required.add(column)
            self.said_by[column] = where
        return self.names.index(column)


class Translation:
    """How the rows of one table become records.

    Attributes:
        columns: what to read from its files.
        aggregates: fields of an order that other tables say: (field, how, "table.column").
        mapped: the fields the mapping names.
        sources: {field: the columns it is read from}, for errors.
    """

    def __init__(self, name: str, table: Table, zone: tzinfo, columns: Columns | None = None) -> None:
        self.name, self.table, self.kind = name, table, KINDS[name]
        self.zone = zone_of(table.timezone, zone, name)
        self.columns = columns or Columns()
        self.sources: dict[str, list[str]] = {}
        self.aggregates: list[tuple[str, str, str]] = []
        self._plain: list[tuple[str, Read]] = []
        self._grouped: list[tuple[tuple[str, ...], str, Read]] = []
        self._never_empty: set[str] = set()
        specs = table.specs(self.kind)
        for field, spec in specs.items():
            self._add(field, spec)
        if "status" in specs and "vendor_status" not in specs and "vendor_status" in self.kind.fields:
            places = [self.columns.names.index(column) for column in self.sources.get("status", ())]
            self._plain.append(("vendor_status", reads.joined(places, "/")))
        self.mapped = set(specs)

    def reader(self, key: str, spec: Any) -> Read:
        """A function for a key of the table itself: `order`, `customer`, `key`."""
        where = f"{self.name}.{key}"
        return self._read(key, column_of(where, spec), FieldType("text", None, True, False), where)

    def field(self, field: str) -> Read:
        """A function for one field alone, as text."""
        spec = self.table.specs(self.kind)[field]
        return self._read(field, spec, FieldType("text", None, True, True), f"{self.name}.columns.{field}")

    def values(self, row: Cells) -> dict[str, Any]:
        """The values of a row's record.

        Raises:
            CellError: naming the column, the value and what is wrong with it.
        """
        found: dict[str, Any] = {}
        for name, read in self._plain:
            value = read(row)
            if value is not UNSET and (value is not None or name not in self._never_empty):
                found[name] = value
        for path, name, read in self._grouped:
            value = read(row)
            if value is not UNSET and not (value is None and path[-1] in ("extras", "ship_to")):
                group = found
                for part in path:
                    group = group.setdefault(part, {})
                group[name] = value
        if "buyer" in found and not any(value is not None for value in found["buyer"].values()):
            found["buyer"] = None
        return found

    def _add(self, field: str, spec: Column) -> None:
        kind = self.kind.type_of(field)
        assert kind is not None
        where = f"{self.name}.columns.{field}"
        for how in ("sum", "max", "count"):
            if (column := getattr(spec, how)) is not None:
                if self.name != "orders":
                    raise ConfigError(f"{how} is for fields of orders", who="files", operation=where)
                self.aggregates.append((field, how, column))
                return
        read = self._read(field, spec, kind, where)
        *path, name = field.split(".")
        if path:
            self._grouped.append((tuple(path), name, read))
        else:
            self._plain.append((name, read))
            if not kind.nullable:
                self._never_empty.add(name)

    def _read(self, field: str, spec: Column, kind: FieldType, where: str) -> Read:
        given = [source for source in SOURCES if source in spec.model_fields_set]
        if len(given) != 1:
            raise ConfigError(
                "it does not say where the value comes from", who="files", operation=where, do='say column = "COLUMN"'
            )

        def place(column: str, optional: bool = spec.optional) -> int:
            used = self.sources.setdefault(field, [])
            if column not in used:
                used.append(column)
            return self.columns.place(column, where, optional and not kind.required)

        match given[0]:
            case "value":
                return reads.constant(self._choice(spec.value, kind, where))
            case "text":
                holes = reads.HOLE.findall(spec.text or "")
                return reads.template(spec.text or "", {hole: place(hole) for hole in holes})
            case "join":
                return reads.joined([place(column) for column in spec.join or []], spec.with_)
            case "latest":
                parse = self._parse(spec, FieldType("time", None, True, False), where)
                return reads.latest([(column, place(column)) for column in spec.latest or []], parse)
            case "first":
                return reads.first([self._part(part, spec, field, kind, where) for part in spec.first or []])
            case _:
                column = str(spec.column)
                if spec.present is not None:
                    return reads.present(place(column), self._choice(spec.present, kind, where))
                return reads.cell(column, place(column), self._parse(spec, kind, where))

    def _part(self, part: Any, whole: Column, field: str, kind: FieldType, where: str) -> Read:
        spec = column_of(where, normal_spec(where, part))
        return self._read(field, spec.model_copy(update={"optional": spec.optional or whole.optional}), kind, where)

    def _parse(self, spec: Column, kind: FieldType, where: str) -> cells.Parse:
        as_ = spec.as_ or kind.as_
        formats = spec.format or self.table.time_format or ()
        formats = [formats] if isinstance(formats, str) else list(formats)
        zone = zone_of(spec.timezone, self.zone, where)
        parse: cells.Parse
        match as_:
            case "time":
                parse = cells.moment(zone, formats)
            case "day-end":
                parse = cells.day_end(zone, formats)
            case "date":
                parse = cells.day(formats)
            case "amount":
                parse = cells.amount(spec.decimal or self.table.decimal)
            case "integer":
                parse = cells.integer
            case "boolean":
                parse = cells.boolean
            case "list":
                parse = cells.tags
            case _:
                parse = cells.text
        if kind.choices is not None:
            values = spec.values if spec.values is not None else {str(item): str(item) for item in kind.choices}
            return reads.chosen({raw: self._choice(value, kind, where) for raw, value in values.items()}, kind.choices)
        return parse if spec.values is None else reads.translated(spec.values, parse)

    def _choice(self, value: Any, kind: FieldType, where: str) -> Any:
        if kind.choices is None:
            return value
        if value == "":
            return None
        known = [str(item) for item in kind.choices]
        if value not in known:
            raise wrong(where, f"there is no {value!r}", str(value), known)
        return kind.choices(value)

    def aggregate(self, column: str, where: str) -> tuple[int, cells.Parse]:
        """The place of a column of this table that orders take a sum of, and how it is read."""
        parse = cells.amount(self.table.decimal)
        return self.columns.place(column, where, False), parse

    def why(self, error: ValidationError) -> str:
        """A validation error in a line: field, column, value, what is wrong."""
        parts = []
        for item in error.errors(include_url=False, include_context=False)[:3]:
            name = ".".join(str(part) for part in item["loc"])
            message = item["msg"].removeprefix("Value error, ")
            if not name:
                parts.append(message)
                continue
            columns = self.sources.get(name) or self.sources.get(name.removeprefix("buyer."))
            of = f" (column {', '.join(columns)})" if columns else ""
            found = "missing" if item["type"] == "missing" else shown(item["input"])
            parts.append(f"{name}{of} {found}: {message[:1].lower()}{message[1:]}")
        return "; ".join(parts)


def zone_of(name: str | None, otherwise: tzinfo, where: str) -> tzinfo:
    """The zone of that name."""
    if name is None:
        return otherwise
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"there is no timezone {name!r}", who="files", operation=where, do='say it as "Europe/Berlin"'
        ) from error
