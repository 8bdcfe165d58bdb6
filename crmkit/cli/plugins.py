"""`crmkit plugins`: what is installed, and one plugin in detail."""

from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.core.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from crmkit.host.host import Host
    from crmkit.host.plugins import Loaded


@click.group()
def plugins() -> None:
    """List what is installed, show one plugin."""


@plugins.command("list")
@output.json_option
@with_call
def list_(call: Call, as_json: bool) -> None:
    """List installed plugins, and which of them the configuration uses. Needs no configuration."""
    from crmkit.host.catalogue import Catalogue

    host = call.open_host(strict=False) if call.config_path.exists() else None
    catalogue = host.plugins.catalogue if host else Catalogue()
    broken = {one.name: str(one.error) for one in host.broken} if host else {}
    used = {one.name for one in host.plugins.loaded()} if host else set()
    rows: list[dict[str, Any]] = [
        {
            "name": found.name,
            "distribution": found.distribution,
            "version": found.version,
            "state": "broken" if found.name in broken else "used" if found.name in used else "",
            "error": broken.get(found.name),
        }
        for found in catalogue.every()
    ]
    installed = {row["name"] for row in rows}
    files = {one.name: one.origin for one in host.plugins.loaded()} if host else {}
    files |= {name: "" for name in broken if name not in files}
    rows += [
        {
            "name": name,
            "distribution": origin,
            "version": "",
            "state": "broken" if name in broken else "used",
            "error": broken.get(name),
        }
        for name, origin in files.items()
        if name not in installed
    ]
    if as_json:
        output.lines(rows)
        return
    output.table(
        [(row["name"], row["distribution"], row["version"], row["state"]) for row in rows],
        ("plugin", "from", "version", "state"),
    )
    for row in rows:
        if row["error"]:
            output.warn(row["error"])
    if any(row["error"] for row in rows):
        click.get_current_context().exit(1)


@plugins.command()
@click.argument("name")
@output.json_option
@with_call
def show(call: Call, name: str, as_json: bool) -> None:
    """Show what a plugin registers, and its settings. NAME is a slug, or family.slug."""
    from crmkit.host.plugins import Plugins

    host = call.open_host(strict=False) if call.config_path.exists() else None
    found = _facts(_meant(host.plugins if host else Plugins(), name), host)
    if as_json:
        output.document(found)
        return
    settings = found.pop("settings")
    output.facts((key, value if value != [] else None) for key, value in found.items())
    if settings:
        output.heading("settings")
        rows = [(one["key"], one["type"], one["default"], one["description"]) for one in settings]
        output.table(rows, ("key", "type", "default", ""))


def _meant(plugins: Any, name: str) -> "Loaded":
    """The plugin of this name, loaded."""
    for loaded in plugins.loaded():
        if name in {loaded.name, loaded.slug}:
            return loaded  # type: ignore[no-any-return]
    catalogue = plugins.catalogue
    family, dot, slug = name.partition(".")
    if not dot:
        families = catalogue.families().get(name, [])
        if not families:
            from crmkit.host.document import nearest

            raise ConfigError(f'no plugin "{name}" is installed', who="plugins", do=nearest(name, catalogue.families()))
        if len(families) > 1:
            choices = " or ".join(f"{one}.{name}" for one in families)
            raise ConfigError(f'"{name}" is installed more than once', who="plugins", do=f"say {choices}")
        family, slug = families[0], name
    return plugins.load(family, slug)  # type: ignore[no-any-return]


def _facts(loaded: "Loaded", host: "Host | None") -> dict[str, Any]:
    """Everything a plugin registers."""
    plugin = next((one for one in host.playbooks if one.name in {loaded.name, loaded.slug}), None) if host else None
    try:
        adapters: list[Any] = [*loaded.sources(), *loaded.gateways()]
        handlers = plugin.handlers if plugin else () if loaded.settings else loaded.handlers(None)
        commands = sorted(loaded.commands())
    except PluginError as error:
        click.echo(f"error: {error}", err=True)
        adapters, handlers, commands = [], (), []
    settings = [loaded.settings] if loaded.settings else [adapter.Settings for adapter in adapters]
    templates = sorted({path.name.split(".")[0] for path in loaded.templates.iterdir()}) if loaded.templates else []
    return {
        "plugin": loaded.name,
        "from": loaded.origin,
        "about": (loaded.module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " "),
        "hooks": loaded.hook_names,
        "sources": [f"{one.name} (reports {', '.join(sorted(one.reports))})" for one in loaded.sources()],
        "gateways": [f"{one.name} (reaches {', '.join(one.reaches)})" for one in loaded.gateways()],
        "handlers": [f"{one.name} on {one.event.name}" for one in handlers],
        "templates": templates,
        "commands": commands,
        "settings": [row for model in settings for row in _fields(model)],
    }


def _fields(model: Any) -> list[dict[str, Any]]:
    """The settings of a model, as JSON Schema has them."""
    found = model.model_json_schema(mode="validation")
    rows = []
    for key, field in found.get("properties", {}).items():
        kinds = [one.get("type") or one.get("$ref", "").rpartition("/")[2] for one in field.get("anyOf", [field])]
        kind = " or ".join(one for one in kinds if one and one != "null")
        secret = "password" in str(field)
        rows.append(
            {
                "key": key,
                "type": "secret" if secret else kind,
                "default": "required" if key in found.get("required", ()) else field.get("default"),
                "description": field.get("description"),
            }
        )
    return rows
