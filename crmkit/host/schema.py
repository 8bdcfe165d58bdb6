"""JSON Schema of the configuration, for editors; and the configuration as it is in force, without its secrets."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from crmkit.host.catalogue import PLAY
from crmkit.host.config import FAMILIES, Config
from crmkit.host.document import Place
from crmkit.host.host import Host
from crmkit.host.sections import (
    AccountSection,
    CrmSection,
    EntrySection,
    PluginsSection,
    PolicySection,
    StaffSection,
    StagingSection,
    WebSection,
)

HIDDEN = "**********"


def schema(host: Host) -> dict[str, Any]:
    """A JSON Schema of this configuration: the core's sections, and those of the adapters and playbooks it uses."""
    made = _Schema()
    properties: dict[str, Any] = {
        "crm": made.of(CrmSection),
        "plugins": made.of(PluginsSection),
        "policy": made.of(PolicySection),
        "staging": made.of(StagingSection),
        "web": made.of(WebSection),
        "staff": {"type": "array", "items": made.of(StaffSection)},
    }
    catalogue = host.plugins.catalogue
    for section, family in FAMILIES.items():
        used = {shop.adapter.name: shop.adapter.Settings for shop in host.shops.values() if f"{shop.kind}s" == section}
        table = made.shared(AccountSection, used, catalogue.slugs(family))
        properties[section] = {"type": "object", "additionalProperties": table}
    channels = {}
    for channel in catalogue.channels():
        settings = {entry.adapter.name: entry.adapter.Settings for entry in host.channels.get(channel, ())}
        channels[channel] = {
            "type": "array",
            "items": made.shared(EntrySection, settings, catalogue.slugs(channel)),
        }
    properties["channels"] = {"type": "object", "properties": channels, "additionalProperties": False}
    for loaded in host.plugins.loaded():
        if loaded.family == PLAY and loaded.settings is not None:
            properties[loaded.slug] = made.of(loaded.settings)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "crmkit.toml",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": made.definitions,
    }


class _Schema:
    """Schemas of models, their nested definitions gathered in one place."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def of(self, model: type[BaseModel]) -> dict[str, Any]:
        found = model.model_json_schema(mode="validation", ref_template=f"#/$defs/{model.__qualname__}.{{model}}")
        for name, definition in found.pop("$defs", {}).items():
            self.definitions[f"{model.__qualname__}.{name}"] = definition
        return found

    def shared(
        self, core: type[BaseModel], adapters: Mapping[str, type[BaseModel]], installed: list[str]
    ) -> dict[str, Any]:
        """A table that the core and an adapter read together: which adapter, is said by `use`."""
        table = self.of(core)
        table.pop("additionalProperties", None)
        table["properties"]["use"] = {"type": "string", "examples": installed}
        cases = []
        for slug, settings in sorted(adapters.items()):
            own = self.of(settings)
            own.pop("additionalProperties", None)
            cases.append({"if": {"properties": {"use": {"const": slug}}}, "then": own})
        if cases:
            table["allOf"] = cases
        return table


def in_force(host: Host) -> dict[str, Any]:
    """Every section with its defaults filled in. What was given by reference is shown as the reference."""
    config = host.config
    shown: dict[str, Any] = {"crm": _dump(config.crm), "plugins": {"use": list(config.use)}}
    at_database: Place = ("crm", "database")
    if "key" in shown["crm"]:
        shown["crm"]["key"] = config.references.written.get(("crm", "key"), HIDDEN)
    shown["crm"]["database"] = config.references.written.get(at_database, _without_password(config.database))
    for account in config.accounts:
        entry = host.shops.get(account.name)
        own = _masked(config, account.at, entry.settings if entry else None, account.rest)
        shown.setdefault(f"{account.kind}s", {})[account.name] = {**_dump(account.core), **own}
    made = {entry.name: entry for entries in host.channels.values() for entry in entries}
    for one in config.entries:
        gateway = made.get(one.name)
        own = _masked(config, one.at, gateway.settings if gateway else None, one.rest)
        table = {**_dump(one.core), "name": one.name, **own}
        shown.setdefault("channels", {}).setdefault(one.channel, []).append(table)
    shown["policy"] = _dump(config.policy)
    if config.staging is not None:
        shown["staging"] = _dump(config.staging)
    if config.web.url is not None:
        shown["web"] = _dump(config.web)
    if config.staff:
        shown["staff"] = [_dump(person) for person in config.staff]
    for plugin in host.playbooks:
        if isinstance(plugin.settings, BaseModel):
            shown[plugin.name] = _masked(config, (plugin.name,), plugin.settings, {})
    return shown


def _dump(model: BaseModel) -> dict[str, Any]:
    values = model.model_dump(exclude_none=True)
    return {name: _hours(value) if name == "quiet_hours" else value for name, value in values.items()}


def _hours(value: Any) -> str:
    begin, end = value
    return f"{begin:%H:%M}-{end:%H:%M}"


def _masked(config: Config, at: Place, settings: BaseModel | None, rest: Mapping[str, Any]) -> dict[str, Any]:
    """An adapter's settings: secrets masked, references as written; as written where the adapter is not there."""
    if settings is None:
        return {key: HIDDEN if isinstance(value, str) and value else value for key, value in rest.items()}
    values = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    for place, written in config.references.written.items():
        if place[: len(at)] == at:
            _put(values, place[len(at) :], written)
    return values


def _put(values: Any, place: Place, written: str) -> None:
    """Put a value where it stood in the file, if that is still there."""
    *way, last = place
    try:
        for part in way:
            values = values[part]
        if isinstance(values, dict) or isinstance(values[last], str):
            values[last] = written
    except (KeyError, IndexError, TypeError):
        return


def _without_password(address: str) -> str:
    scheme, there, rest = address.partition("://")
    before, at, after = rest.rpartition("@")
    user, colon, _ = before.partition(":")
    return f"{scheme}{there}{user}{':***' if colon else ''}{at}{after}"


def to_toml(values: Mapping[str, Any], write: Callable[[str], None]) -> None:
    """Write nested tables as TOML."""
    _table(values, "", write)


def _table(values: Mapping[str, Any], name: str, write: Callable[[str], None]) -> None:
    for key, value in values.items():
        if value is not None and not isinstance(value, dict) and not _is_tables(value):
            write(f"{_key(key)} = {_value(value)}")
    for key, value in values.items():
        inner = f"{name}.{_key(key)}" if name else _key(key)
        if isinstance(value, dict):
            if not value or any(not isinstance(item, dict) and not _is_tables(item) for item in value.values()):
                write(f"\n[{inner}]")
            _table(value, inner, write)
        elif _is_tables(value):
            for table in value:
                write(f"\n[[{inner}]]")
                _table(table, inner, write)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items() if v is not None)} }}"
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return quoted(str(value))


def quoted(text: str) -> str:
    """A text as a TOML string."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    escaped = "".join(escapes.get(c, c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}") for c in text)
    return f'"{escaped}"'
