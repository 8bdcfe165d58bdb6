"""The mapping of a shop's exports: which file holds what, and which column is which field. Presets are such mappings.

A shop writes only what its preset does not say: tables and columns are merged, a column spec that names a source of its
own replaces the preset's, and `false` leaves a table or a field of the preset out.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from crmkit import ConfigError, SourceSettings

from .fields import KINDS, Kind

#: The keys of a column spec that say where its value comes from; exactly one is given.
SOURCES = ("column", "latest", "first", "join", "text", "value", "sum", "max", "count")
As = Literal["text", "amount", "time", "day-end", "date", "integer", "boolean", "list"]


class Column(BaseModel):
    """Where a field's value comes from, and how it is written there."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    column: str | None = Field(None, description="the column")
    latest: list[str] | None = Field(None, description="the latest of the times in these columns")
    first: list[Any] | None = Field(None, description="the first of these columns (or specs) that says something")
    join: list[str] | None = Field(None, description="the columns that are not empty, put together")
    text: str | None = Field(None, description='columns put into a text: "{first} {last}"; empty if one of them is')
    value: Any = Field(None, description="always this")
    sum: str | None = Field(None, description='the sum of a column of the order\'s "lines.Price" or "payments.Amount"')
    max: str | None = Field(None, description='the greatest of a column of the order\'s "parcels.Of"')
    count: str | None = Field(None, description='how many rows the order has in "parcels"')
    as_: As | None = Field(None, alias="as", description="how to read it, where not as its field says: day-end, ...")
    with_: str = Field(" ", alias="with", description="what `join` puts between")
    decimal: Literal[".", ","] | None = Field(None, description="the mark before the decimals")
    format: str | list[str] | None = Field(None, description='how times are written: "%d/%m/%Y", "epoch", "epoch-ms"')
    timezone: str | None = Field(None, description="the zone of times that name none")
    values: dict[str, Any] | None = Field(None, description='what the values mean: { "Enviado" = "shipped" }')
    present: Any = Field(None, description="the value if the column is not empty")
    optional: bool = Field(False, description="the column may be missing from the file")


class Table(BaseModel):
    """A table of the exports: its files, how they are written, and its columns."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    file: str | list[str] | None = Field(None, description="file name or pattern, or several; `.gz` is found too")
    format: Literal["csv", "jsonl", "xlsx"] | None = Field(None, description="by the file's ending if unset")
    encoding: str | None = Field(None, description="UTF-8 or GB18030 are found out if unset")
    separator: str | None = Field(None, description='"," ";" "tab" "|"; found out if unset')
    sheet: str | None = Field(None, description="the sheet of an XLSX file; the first if unset")
    header: int = Field(1, ge=1, description="the line that holds the column names")
    timezone: str | None = Field(None, description="the zone of times that name none; the shop's if unset")
    decimal: Literal[".", ","] | None = Field(None, description="the mark before the decimals of amounts")
    time_format: str | list[str] | None = Field(None, description="how times are written, if not ISO 8601")
    optional: bool = Field(False, description="the file may be missing")
    optional_columns: bool = Field(False, description="the columns of this section may be missing from the file")
    columns: dict[str, Any] = Field(default_factory=dict, description="field = column, or what `Column` describes")

    def specs(self, kind: Kind) -> dict[str, Column]:
        """The columns by field, groups written out: `buyer.email`."""
        columns = _flat(self.columns, kind)
        return {name: column_of(f"{kind.word}s.columns.{name}", spec) for name, spec in columns.items()}


class OrderTable(Table):
    """Orders, one a row; with `rows_of = "orders"` in `lines`, one a line."""

    customer: Any = Field(None, description="the column that joins an order to its customer")


class CustomerTable(Table):
    """Customers, joined to orders by `key`, and unless `list = false` a list of their own."""

    key: Any = Field(None, description="the column orders are joined by; the id if unset")
    list: bool = Field(True, description="false: customers are only joined to their orders")


class ChildTable(Table):
    """What belongs to an order."""

    order: Any = Field(None, description="the column that joins to the order")


class LineTable(ChildTable):
    """Lines of orders."""

    rows_of: Literal["orders"] | None = Field(None, description='"orders": each row of the order file is a line')


TABLES: dict[str, type[Table]] = {
    "customers": CustomerTable,
    "orders": OrderTable,
    "lines": LineTable,
    "parcels": ChildTable,
    "payments": ChildTable,
    "refunds": ChildTable,
    "returns": ChildTable,
    "reviews": ChildTable,
}


Report = Literal[
    "placed", "paid", "shipped", "delivered", "completed", "cancelled",
    "parcels", "payments", "refunds", "returns", "reviews", "customers",
]  # fmt: skip


class FilesSettings(SourceSettings):
    """What a shop's section says: where its exports lie, and how they are mapped."""

    preset: str | None = Field(None, description="a mapping that is shipped, to begin with")
    path: str = Field(".", description="the folder of the exports, relative to crmkit.toml")
    timezone: str | None = Field(None, description="the zone of times that name none, in a preset")
    currency: str | None = Field(None, description="the currency of amounts that come without one, in a preset")
    reports: list[Report] | None = Field(None, description="what the shop reports; found out from the columns if unset")
    customers: CustomerTable | None = None
    orders: OrderTable | None = None
    lines: LineTable | None = None
    parcels: ChildTable | None = None
    payments: ChildTable | None = None
    refunds: ChildTable | None = None
    returns: ChildTable | None = None
    reviews: ChildTable | None = None

    @model_validator(mode="before")
    @classmethod
    def _on_its_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        own = _normal(given, set(cls.model_fields))
        name = given.get("preset")
        return _merged({} if name is None else _normal(load_preset(str(name)), set(cls.model_fields)), own)

    def tables(self) -> dict[str, Table]:
        """The tables the mapping has, by name."""
        found = {name: getattr(self, name) for name in TABLES}
        return {name: table for name, table in found.items() if table is not None}


def presets() -> list[str]:
    """The names of the presets that are shipped."""
    folder = files("crmkit_marketplace").joinpath("presets")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_preset(name: str) -> dict[str, Any]:
    """A preset that is shipped."""
    if name not in presets():
        raise wrong("preset", f"there is no preset {name!r}", name, presets())
    return tomllib.loads(files("crmkit_marketplace").joinpath("presets", f"{name}.toml").read_text("utf-8"))


def wrong(where: str, what: str, found: str, known: Iterable[str]) -> ConfigError:
    """A `ConfigError` about a name in the mapping, with the nearest of the names it could have been."""
    names = list(known)
    near = difflib.get_close_matches(found, names, 1, 0.5)
    do = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(what, who="files", operation=where, do=f"{do}known: {', '.join(names)}")


def _normal(given: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """A mapping with every name checked, every column spec a table, and `optional_columns` written into them."""
    result = dict(given)
    for name in given:
        if name not in known:
            raise wrong("mapping", f"unknown key {name!r}", name, sorted(known))
    for name, model in TABLES.items():
        table = given.get(name)
        if isinstance(table, Mapping):
            result[name] = _normal_table(name, dict(table), model)
    return result


def _normal_table(name: str, table: dict[str, Any], model: type[Table]) -> dict[str, Any]:
    for key in table:
        if key not in model.model_fields:
            hint = " (fields belong into its `columns`)" if KINDS[name].type_of(key) else ""
            raise wrong(name, f"unknown key {key!r}{hint}", key, model.model_fields)
    columns = table.get("columns")
    if isinstance(columns, Mapping):
        optional = {"optional": True} if table.get("optional_columns") else {}
        where = f"{name}.columns"
        table["columns"] = {
            field: spec if spec is False else optional | normal_spec(f"{where}.{field}", spec)
            for field, spec in _flat(columns, KINDS[name]).items()
        }
        for field in table["columns"]:
            if KINDS[name].type_of(field) is None:
                if field == "order_external_id":
                    raise ConfigError(
                        "the order is not said here", who="files", operation=where, do=f'say {name}.order = "COLUMN"'
                    )
                known = [*KINDS[name].fields, *(f"{group}.ANY" for group in KINDS[name].free)]
                raise wrong(where, f"there is no field {field!r}", field, known)
    for key in ("order", "customer", "key"):
        if key in table:
            table[key] = normal_spec(f"{name}.{key}", table[key])
    return table


def normal_spec(where: str, spec: Any) -> dict[str, Any]:
    """A column spec as a table, its names checked."""
    if isinstance(spec, str):
        return {"column": spec}
    if not isinstance(spec, Mapping):
        raise ConfigError(
            f"{spec!r} is no column", who="files", operation=where, do='say "COLUMN" or { column = "COLUMN", ... }'
        )
    known = [info.alias or name for name, info in Column.model_fields.items()]
    for key in spec:
        if key not in known:
            raise wrong(where, f"unknown key {key!r}", key, known)
    if sum(source in spec for source in SOURCES) > 1:
        raise ConfigError(
            f"it names several of {', '.join(SOURCES)}", who="files", operation=where, do="keep the one that is meant"
        )
    return dict(spec)


def column_of(where: str, spec: Any) -> Column:
    """A column spec of the mapping, read; `where` it stands, for errors."""
    try:
        return Column.model_validate(spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        what = f"{key} = {first['input']!r}: {first['msg']}"
        raise ConfigError(what, who="files", operation=where, do=f"correct {where}") from error


def _flat(columns: Mapping[str, Any], kind: Kind, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, spec in columns.items():
        path = prefix + name
        if path in kind.groups and isinstance(spec, Mapping):
            flat |= _flat(spec, kind, f"{path}.")
        else:
            flat[path] = spec
    return flat


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `base`, table by table; `false` takes a table away."""
    result = dict(base)
    for key, value in own.items():
        if key in TABLES and value is False:
            result.pop(key, None)
        elif key in TABLES and isinstance(value, Mapping):
            under = result.get(key, {})
            columns = _over(under.get("columns", {}), value.get("columns", {}))
            result[key] = {**under, **value, "columns": columns}
        else:
            result[key] = value
    return result


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Column specs over column specs; one that names a source of its own replaces, `false` takes away."""
    result = dict(base)
    for field, spec in own.items():
        if spec is False:
            result.pop(field, None)
        elif any(source in spec for source in SOURCES) or field not in result:
            result[field] = spec
        else:
            values = {**(result[field].get("values") or {}), **(spec.get("values") or {})}
            result[field] = {**result[field], **spec, **({"values": values} if values else {})}
    return result
