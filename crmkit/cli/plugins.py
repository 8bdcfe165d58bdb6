"""`crmkit plugins`: what is installed and how it does, one plugin in detail, what handlers make of an interaction."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output
from crmkit.cli.call import Call, plural, with_call
from crmkit.cli.given import NUMBER
from crmkit.core.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from crmkit.host.host import Host
    from crmkit.host.plugins import Loaded

#: What can be written anew; `scaffold` knows how.
KINDS = ("sms", "email", "source", "playbook")
#: Characters of a default in a table; JSON has all of it.
_LONGEST = 40


@click.group()
def plugins() -> None:
    """List what is installed; show, write, check and trace plugins."""


@plugins.command("list")
@output.json_option
@with_call
def list_(call: Call, as_json: bool) -> None:
    """List installed plugins: version, what they can do, whether the configuration uses them, how they do.

    Needs no configuration and no database. Each plugin is imported, one by one, to see what it can do; with
    --no-plugins only the adapters that are in use. Exit code 1 if one is broken.
    """
    from crmkit.cli.inventory import rows_of

    rows = rows_of(call, call.open_host(strict=False) if call.config_path.exists() else None)
    if as_json:
        output.lines(rows)
    else:
        cells = [
            (row["name"], row["distribution"], row["version"], row["state"], "; ".join(row["can"])) for row in rows
        ]
        output.table(cells, ("plugin", "from", "version", "state", "what it can do"))
        for row in rows:
            for text in row["health"]:
                output.say(f"{row['name']}: {text}")
        for row in rows:
            for text in filter(None, (row["error"], *row["warnings"])):
                output.warn(text)
    if any(row["error"] for row in rows):
        click.get_current_context().exit(1)


@plugins.command()
@click.argument("name")
@click.option("--schema", is_flag=True, help="Print a JSON Schema of its settings, and nothing else.")
@output.json_option
@with_call
def show(call: Call, name: str, schema: bool, as_json: bool) -> None:
    """Show what a plugin registers, and its settings. NAME is a slug, or family.slug."""
    from crmkit.host.plugins import Plugins

    host = call.open_host(strict=False) if call.config_path.exists() else None
    loaded = _meant(host.plugins if host else Plugins(), name)
    if schema:
        output.document(_schema(loaded))
        return
    found = _facts(loaded, host)
    if as_json:
        output.document(found)
    else:
        _print(found)
    if found["error"]:
        output.warn(f"error: {found['error']}")
        click.get_current_context().exit(1)


@plugins.command()
@click.argument("interaction", type=NUMBER)
@output.json_option
@with_call
def trace(call: Call, interaction: int, as_json: bool) -> None:
    """Say which handlers an interaction meets, in which order, what they ask for, their queries and their time.

    The interaction is decided once more, as of `--now`, else of the moment it was decided or recorded, in a transaction
    that is rolled back: nothing is written. The messages and interactions that come of it are compared with those that
    were recorded, and what is not compared is named; tables of plugins' own are as they are today, and a plugin that is
    not loaded is left out. Exit code 1 if a handler fails.
    """
    from crmkit.cli import retrace

    done = retrace.traced(call, interaction)
    if as_json:
        output.document(retrace.facts_of(done))
    else:
        retrace.say(call, done)
    if done.failed:
        click.get_current_context().exit(1)


@plugins.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.option(
    "--into",
    metavar="DIR",
    default=".",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that the package's own folder goes into.",
)
def new(kind: str, name: str, into: Path) -> None:
    """Write a new plugin NAME as a whole package: code, tests, fixtures, README.

    It talks to a made-up vendor, so that its tests pass from the start; what to fill in is marked. NAME is what a shop
    will write in its configuration.
    """
    from crmkit.cli import scaffold

    folder = scaffold.write(kind, name, into)
    output.say(f"{folder} was written: the plugin {scaffold.KINDS[kind].family}.{name}")
    output.say(f"next: cd {folder} && pip install -e . --group dev && pytest && mypy && ruff check")
    output.say("then: look for FILL IN; `crmkit plugins check .` says what is missing")


@plugins.command()
@click.argument("package")
@click.option("--no-tests", is_flag=True, help="Collect its tests, and do not run them.")
@output.json_option
def check(package: str, no_tests: bool, as_json: bool) -> None:
    """Say what of a plugin's package is not as it should be, and run its tests.

    PACKAGE is an installed distribution, a plugin, the folder of one's source, or a .py file. Looked at are what it
    says of itself, its hooks, settings, docstrings, templates and migrations, and whether its tests hold all that it
    brings to the contracts of crmkit.testing; without running them they are collected only. What is said to be a note
    need not be mended. Exit code 1 if something is.
    """
    from crmkit.cli.package import package_of
    from crmkit.cli.soundness import findings
    from crmkit.host.plugins import Plugins

    found = []
    for one in findings(package_of(package), Plugins(), "collect" if no_tests else "run"):
        if not one.is_note:
            found.append(one)
        if as_json:
            output.lines([{"part": one.part, "text": one.text, "is_note": one.is_note}])
        else:
            output.say(f"{'note: ' if one.is_note else ''}{one.part}: {one.text}")
    if not as_json:
        output.say(f"{plural(len(found), 'thing')} to mend" if found else "all is well")
    if found:
        click.get_current_context().exit(1)


# --- one plugin -------------------------------------------------------------------------------------------------------


def _meant(plugins: Any, name: str) -> "Loaded":
    """The plugin of this name, loaded.

    Raises:
        ConfigError: there is none, or several.
        PluginError: it is broken.
    """
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


def _models(loaded: "Loaded") -> list[Any]:
    """The models of its settings: a playbook's section, or each adapter's."""
    if loaded.settings:
        return [loaded.settings]
    return [*(one.Settings for one in loaded.sources()), *(one.Settings for one in loaded.gateways())]


def _schema(loaded: "Loaded") -> Any:
    found = [model.model_json_schema(mode="validation") for model in _models(loaded)]
    return found[0] if len(found) == 1 else {"anyOf": found} if found else {"type": "object", "maxProperties": 0}


def _facts(loaded: "Loaded", host: "Host | None") -> dict[str, Any]:
    """Everything a plugin registers; `error` says what of it is broken."""
    from crmkit.cli import capability
    from crmkit.cli.setting import settings_of

    plugin = next((one for one in host.playbooks if one.name in {loaded.name, loaded.slug}), None) if host else None
    found: dict[str, Any] = {
        "plugin": loaded.name,
        "from": loaded.origin,
        "about": capability.about(loaded),
        "hooks": loaded.hook_names,
        "import_seconds": round(loaded.seconds, 3),
        "sources": [],
        "gateways": [],
        **{key: [] for key in capability.DECIDES},
        "templates": capability.templates(loaded.templates),
        "settings": [],
        "error": None,
    }
    try:
        found["settings"] = [row for model in _models(loaded) for row in settings_of(model)]
        found["sources"] = [capability.source(one) for one in loaded.sources()]
        found["gateways"] = [capability.gateway(one) for one in loaded.gateways()]
        settings = plugin.settings if plugin else capability.defaults(loaded)
        if settings is not None or loaded.settings is None:
            found |= capability.playbook(loaded, settings)
    except PluginError as error:
        found["error"] = str(error)
    return found


def _print(found: dict[str, Any]) -> None:
    adapters = [("source", one) for one in found["sources"]] + [("gateway", one) for one in found["gateways"]]
    shown = {key: found[key] for key in found if key not in {"settings", "sources", "gateways", "error"}}
    output.facts((key.replace("_", " "), value if value != [] else None) for key, value in shown.items())
    for kind, facts in adapters:
        output.heading(f"{kind} {facts['name']}")
        output.facts((key.replace("_", " "), value if value != [] else None) for key, value in list(facts.items())[1:])
    if found["settings"]:
        output.heading("settings")
        rows = [(one["key"], one["type"], _short(one["default"]), one["description"]) for one in found["settings"]]
        output.table(rows, ("key", "type", "default", ""))


def _short(value: Any) -> str:
    """A default, as far as it is worth its place in a table."""
    text = output.cell(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
