"""Settings as a table: every key, those within others too, with its type, its default and what its author says."""

import inspect
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from crmkit.core.duration import write_duration

_ABOVE = re.compile(r"\s*#: ?(.*)")
_FIELD = re.compile(r"\s+(\w+)\s*:(?!:)")
_BESIDE = re.compile(r"#: ?(.*)$")
#: In a docstring: the heading of what each field is, a line that begins with names, and the end of its text.
_ATTRIBUTES = re.compile(r"^Attributes:\n((?:(?:[ \t].*)?(?:\n|$))+)", re.MULTILINE)
_NAMED = re.compile(r"^    (\w+(?:, \w+)*): ?(.*)$")
#: Where a model holds itself, it ends.
_DEEPEST = 6


def settings_of(model: type[BaseModel]) -> list[dict[str, Any]]:
    """One row for each key: `key` (`rules[].on` within a list, `states.*` within a table of any keys), `type`,
    `default` (`required` where there is none), `description`.
    """
    return [row for row, _ in _every(model)]


def open_keys(model: type[BaseModel]) -> frozenset[str]:
    """Keys that may be shown, as their author says in JSON Schema's word: `json_schema_extra={"writeOnly": False}`."""
    extras = {row["key"]: field.json_schema_extra for row, field in _every(model)}
    return frozenset(key for key, one in extras.items() if isinstance(one, dict) and one.get("writeOnly") is False)


def _every(model: type[BaseModel]) -> Iterator[tuple[dict[str, Any], FieldInfo]]:
    schema = model.model_json_schema(mode="validation")
    return _rows(model, schema, schema.get("$defs", {}), "")


def _rows(
    model: type[BaseModel], schema: Mapping[str, Any], known: Mapping[str, Any], at: str
) -> Iterator[tuple[dict[str, Any], FieldInfo]]:
    said = _said(model)
    for name, field in model.model_fields.items():
        key = field.alias or name
        found = schema.get("properties", {}).get(key, {})
        inner = [one for one in _models(field.annotation) if at.count(".") < _DEEPEST]
        way, kind = _kind(found, known)
        is_secret = _is_secret(field)
        row = {
            "key": f"{at}{key}",
            "type": "secret" if is_secret else kind,
            "default": "required" if field.is_required() else None if is_secret or inner else _default(field, found),
            "description": field.description or said.get(name) or next(filter(None, map(_first_line, inner)), None),
        }
        yield row, field
        for one in inner:
            yield from _rows(one, known.get(one.__name__, {}), known, f"{at}{key}{way}.")


def _default(field: FieldInfo, found: Mapping[str, Any]) -> Any:
    """What holds where nothing is written, as it would be written."""
    return write_duration(field.default) if isinstance(field.default, timedelta) else found.get("default")


def _is_secret(field: FieldInfo) -> bool:
    return any(one is SecretStr or (isinstance(one, type) and issubclass(one, SecretStr)) for one in _parts(field))


def _parts(field: FieldInfo) -> Iterator[Any]:
    left = [field.annotation]
    while left:
        one = left.pop()
        yield one
        left.extend(get_args(one))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models within an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return list(dict.fromkeys(model for one in get_args(annotation) for model in _models(one)))


def _kind(found: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[str, str]:
    """What stands between a key and those within it, and the type in words."""
    choices = found.get("anyOf") or found.get("oneOf") or found.get("allOf") or [found]
    told: dict[str, None] = {}
    way = ""
    for one in choices:
        if "$ref" in one:
            one = {"type": "table", **known.get(one["$ref"].rpartition("/")[2], {})}
        kind = one.get("type")
        if kind == "null":
            continue
        if "enum" in one or "const" in one:
            told[" or ".join(f'"{value}"' for value in one.get("enum", [one.get("const")]))] = None
        elif kind == "array":
            inner, item = _kind(one.get("items") or {}, known)
            way = f"[]{inner}"
            told[f"list of {item}" if item else "list"] = None
        elif kind == "object":
            more = one.get("additionalProperties")
            if isinstance(more, dict) and "properties" not in one:
                way = f".*{_kind(more, known)[0]}"
            told["table"] = None
        elif kind:
            told[str(kind)] = None
    return way, " or ".join(told)


def _first_line(model: type[BaseModel]) -> str | None:
    """What a model says of itself."""
    return (vars(model).get("__doc__") or "").strip().partition("\n")[0].strip() or None


@lru_cache(maxsize=256)
def _said(model: type[BaseModel]) -> dict[str, str]:
    """{field: the `#:` comment above or beside it, or what its class says under `Attributes:`}, as written in the class
    and those it derives from.
    """
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if cls is BaseModel or not issubclass(cls, BaseModel):
            continue
        found |= _attributes(inspect.cleandoc(vars(cls).get("__doc__") or ""))
        try:
            lines = inspect.getsource(cls).splitlines()
        except (OSError, TypeError):
            continue
        above: list[str] = []
        for line in lines:
            if comment := _ABOVE.match(line):
                above.append(comment[1].strip())
                continue
            if field := _FIELD.match(line):
                beside = _BESIDE.search(line)
                text = " ".join([*above, *([beside[1].strip()] if beside else [])])
                if text and field[1] in cls.__annotations__:
                    found[field[1]] = text
            above = []
    return found


def _attributes(text: str) -> dict[str, str]:
    """{field: what a docstring says of it under `Attributes:`}; one line may name several."""
    found: dict[str, str] = {}
    names: list[str] = []
    section = _ATTRIBUTES.search(text)
    for line in section[1].splitlines() if section else ():
        if begun := _NAMED.match(line):
            names = begun[1].split(", ")
            found |= dict.fromkeys(names, begun[2].strip())
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
