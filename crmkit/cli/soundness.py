"""What of a plugin's package is not as it should be: what it says of itself, what it brings, and its tests."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from crmkit.cli.package import Package
from crmkit.cli.proof import CONTRACTS, Held, Proof, prove
from crmkit.cli.worker import GROUP as ENGINES
from crmkit.cli.worker import NAME as ENGINE
from crmkit.cli.worker import Engine
from crmkit.core.errors import CrmkitError, PluginError
from crmkit.host.catalogue import PLAY, SOURCES

if TYPE_CHECKING:
    from crmkit.host.plugins import Loaded, Plugins

#: What a setting is called that holds a secret.
_TELLING = ("secret", "password", "passwd", "passphrase", "private_key", "api_key", "token")
#: What `plugins new` marks with what is its author's to write.
FILL_IN = "FILL IN"
#: A table of settings in a README (one of keys may be of anything), and the first cell of each of its rows.
_SETTINGS = re.compile(r"^\| *settings? *\|.*\n\|[-:| ]+\n((?:\|.*\n?)+)", re.IGNORECASE | re.MULTILINE)
_FIRST = re.compile(r"^\| *`([^`]+)` *\|", re.MULTILINE)
#: What is done with a package's own tests.
Doing = Literal["run", "collect", "leave"]
#: Seconds they may take.
PATIENCE = 1800


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: of which plugin, or of the package; what it is, and what to do.

    A note need not be mended.
    """

    part: str
    text: str
    is_note: bool = False


def findings(package: Package, plugins: "Plugins", tests: Doing = "run") -> Iterator[Finding]:
    """Everything that is not as it should be; of its tests nothing where they are left."""
    if package.dist is not None:
        yield from _metadata(package)
    engines = [one for one in package.dist.entry_points if one.group == ENGINES] if package.dist is not None else []
    if not package.names and not engines:
        yield Finding(package.label, "no entry point in the group crmkit; add [project.entry-points.crmkit]")
    for engine in engines:
        yield from _engine(engine, package)
    every = []
    for name in package.names:
        try:
            family, _, slug = name.partition(".")
            loaded = plugins.load_file(package.file) if package.file else plugins.load(family, slug)
            yield from _plugin(loaded, plugins, package)
            every.append(loaded)
        except CrmkitError as error:
            yield Finding(name, str(error))
    yield from _unfinished(package, every)
    if package.dist is not None:
        yield from _readme(package, every)
    if tests != "leave":
        yield from _tests(package, every, runs_tests=tests == "run")


# --- what it says of itself -------------------------------------------------------------------------------------------


def _metadata(package: Package) -> Iterator[Finding]:
    from crmkit.host.requirement import is_bounded, unmet

    dist = package.dist
    assert dist is not None
    facts: Any = dist.metadata
    if not str(facts.get("Description") or facts.get_payload() or "").strip():
        yield Finding(package.label, 'has no README; write one, and readme = "README.md" in pyproject.toml')
    if not (facts.get("License-Expression") or facts.get("License")):
        yield Finding(package.label, 'has no licence; write license = "..." in pyproject.toml')
    if not facts.get("Requires-Python"):
        yield Finding(package.label, 'does not say for which Python; write requires-python = ">=3.11"')
    requires = [one for one in dist.requires or () if "extra ==" not in one]
    if not any(one.startswith("crmkit") for one in requires):
        yield Finding(package.label, "does not require crmkit")
    for one in requires:
        if not is_bounded(one):
            yield Finding(package.label, f"requires {one} of any version; say from which one on")
    for one in unmet(dist):
        yield Finding(package.label, f"requires {one}")
    for point in dist.entry_points:
        if point.group == "crmkit" and not all(point.name.partition(".")[::2]):
            yield Finding(package.label, f"the entry point {point.name!r} is not named FAMILY.SLUG")


# --- what it brings ---------------------------------------------------------------------------------------------------


def _engine(point: EntryPoint, package: Package) -> Iterator[Finding]:
    if point.name != ENGINE:
        text = f"the entry point {point.name!r} in the group {ENGINES} is asked for by nobody; call it {ENGINE!r}"
        yield Finding(package.label, text)
        return
    try:
        engine = point.load()
    except Exception as error:  # another's code
        yield Finding(package.label, f"its engine cannot be loaded: {type(error).__name__}: {error}")
        return
    asked = [name for name in vars(Engine) if not name.startswith("_")]
    lacking = [name for name in asked if not callable(getattr(engine, name, None))]
    if lacking:
        yield Finding(package.label, f"its engine has no {', '.join(lacking)}")


def _plugin(loaded: "Loaded", plugins: "Plugins", package: Package) -> Iterator[Finding]:
    from crmkit.cli import capability
    from crmkit.flow.render import Templates

    def found(text: str) -> Finding:
        return Finding(loaded.name, text)

    models: list[Any] = [loaded.settings] if loaded.settings else []
    described: list[tuple[str, Any]] = [("its module", loaded.module)]
    if loaded.family in SOURCES:
        source = plugins.source(loaded.family, loaded.slug)
        models, described = [source.Settings], [*described, (source.__name__, source)]
    elif loaded.family != PLAY:
        gateway = plugins.gateway(loaded.family, loaded.slug)
        models, described = [gateway.Settings], [*described, (gateway.__name__, gateway)]
    try:
        settings = capability.defaults(loaded)
        if settings is not None or loaded.settings is None:
            capability.playbook(loaded, settings)
            described += {one.name: one.function for one in loaded.handlers(settings)}.items()
    except PluginError as error:
        yield found(str(error))
    for name, thing in described:
        own = thing.__doc__ if not isinstance(thing, type) else vars(thing).get("__doc__")
        if not (own or "").strip():
            yield found(f"{name} has no docstring")
    for model in models:
        yield from _settings(loaded, model, package)
    if loaded.folder is not None and hasattr(loaded.module, "__path__") and not _is_typed(loaded):
        yield found("has no py.typed; add the empty file, so that types are checked")
    if loaded.templates is not None:
        for wrong in Templates([loaded.templates], None).check():
            yield found(str(wrong))
    folder = loaded.migrations()
    if folder is not None:
        yield from _migrations(loaded, folder)


def _is_typed(loaded: "Loaded") -> bool:
    """Whether its package says that it has types, or one that this is within."""
    assert loaded.folder is not None
    depth = str(getattr(loaded.module, "__name__", "")).count(".")
    return any((place / "py.typed").is_file() for place in [loaded.folder, *loaded.folder.parents][: depth + 1])


def _settings(loaded: "Loaded", model: Any, package: Package) -> Iterator[Finding]:
    from crmkit.cli.setting import open_keys, settings_of

    facts: Any = package.dist.metadata if package.dist else None
    text = str(facts.get_payload() or facts.get("Description")) if facts is not None else ""
    shown = open_keys(model)
    for row in settings_of(model):
        key = row["key"].rpartition(".")[2]
        if not row["description"] and f"`{row['key']}`" not in text and f"`{key}`" not in text:
            yield Finding(loaded.name, f"the setting {row['key']} is not described; write `#: what it is` above it")
        sounds = any(key == word or key.endswith((f"_{word}", word)) for word in _TELLING)
        if sounds and row["key"] not in shown and row["type"] in {"string", "string or list of string"}:
            do = 'make it a SecretStr, or say json_schema_extra={"writeOnly": False} if it is none'
            yield Finding(loaded.name, f"the setting {row['key']} sounds like a secret and is shown; {do}")


def _migrations(loaded: "Loaded", folder: Path) -> Iterator[Finding]:
    """Whether they are one line, and bring an empty database to where the models are."""
    import sqlalchemy as sa
    from sqlmodel import SQLModel

    from crmkit.store import migrate
    from crmkit.store.engine import Store
    from crmkit.store.tables import table_of

    with TemporaryDirectory(prefix="crmkit-") as place:
        url = f"sqlite:///{place}/crm.db"
        try:
            migrate.upgrade(url, {loaded.slug: folder})
        except Exception as error:  # a plugin's code, and what Alembic says of it
            told = str(error).strip().splitlines() or [type(error).__name__]
            yield Finding(loaded.name, f"its migrations do not upgrade an empty database: {told[0]}")
            return
        tables = loaded.tables()
        store = Store(url)
        try:
            with store.read() as tx:
                known = sa.inspect(tx)
                models: tuple[type[SQLModel], ...] = tables.models if tables else ()
                for table in map(table_of, models):
                    if not known.has_table(table.name):
                        yield Finding(loaded.name, f"no migration makes its table {table.name}")
                        continue
                    there = {column["name"] for column in known.get_columns(table.name)}
                    for column in sorted(set(table.columns.keys()) ^ there):
                        where = "model" if column in there else "migrations"
                        yield Finding(loaded.name, f"its table {table.name}: the column {column} is not in its {where}")
        finally:
            store.close()


def _unfinished(package: Package, every: "list[Loaded]") -> Iterator[Finding]:
    """Where it is still marked to be filled in, as `plugins new` marks it."""
    seen: set[Path] = set()
    for loaded in every:
        own = getattr(loaded.module, "__file__", None)
        is_package = loaded.folder is not None and hasattr(loaded.module, "__path__")
        for file in sorted(loaded.folder.rglob("*.py")) if loaded.folder and is_package else [Path(own or "")]:
            if file in seen or not file.is_file():
                continue
            seen.add(file)
            lines = file.read_text("utf-8", "replace").splitlines()
            found = [str(number) for number, line in enumerate(lines, 1) if FILL_IN in line]
            if found:
                what = f"{FILL_IN} is still written in {file.name}, line {', '.join(found)}"
                yield Finding(loaded.name, what, is_note=True)


def _readme(package: Package, every: "list[Loaded]") -> Iterator[Finding]:
    """Settings that its README lists in a table, and that are gone."""
    from crmkit.cli.setting import settings_of
    from crmkit.host.document import field_names
    from crmkit.host.sections import AccountSection, EntrySection

    facts: Any = package.dist.metadata if package.dist else None
    text = str(facts.get_payload() or facts.get("Description") or "")
    models: list[Any] = [one.settings for one in every if one.settings is not None]
    classes: list[Any] = [cls for one in every for cls in (*one.sources(), *one.gateways())]
    models += [cls.Settings for cls in classes]
    known = {row["key"] for model in models for row in settings_of(model)}
    known |= {key.rpartition(".")[2] for key in known} | {*field_names(AccountSection), *field_names(EntrySection)}
    for table in _SETTINGS.findall(text):
        for key in _FIRST.findall(table):
            if key not in known:
                yield Finding(package.label, f"its README describes the setting {key}, which there is not")


# --- its tests --------------------------------------------------------------------------------------------------------


def _tests(package: Package, every: "list[Loaded]", *, runs_tests: bool) -> Iterator[Finding]:
    place, at = _place(package)
    if place is None or at is None:
        yield _without_tests(package)
        return
    proof = prove(place, at, runs_tests=runs_tests, patience=PATIENCE)
    if package.file is None:  # what is for one shop owes nobody a contract
        yield from _held(every, proof)
    for test, text in proof.failed:
        yield Finding(package.label, f"its tests: {test} fails: {text}" if test else f"its tests: {text}")


def _without_tests(package: Package) -> Finding:
    """That nothing is tried: of an installed wheel nothing can be, and a file of one's own need have no tests."""
    if package.file is not None:
        what = f"no tests were run: there is neither test_{package.file.name} nor a folder tests beside it"
        return Finding(package.label, f"{what}; docs/plugins.md shows how one is written", is_note=True)
    where = package.folder / "tests" if package.folder else "its source"
    what = f"its tests are not here ({where}), and nothing says which contracts it keeps"
    return Finding(package.label, f"{what}; check the folder of its source", is_note=package.folder is None)


def _place(package: Package) -> tuple[Path | None, Path | None]:
    """Where its tests lie, and where they are run; None where there are none."""
    if package.file is not None:
        at, name = package.file.parent, f"test_{package.file.name}"
        found = [one for one in (at / name, at / "tests" / name, at / "tests") if one.exists()]
        return (found[0], at) if found else (None, None)
    folder = package.folder / "tests" if package.folder else None
    return (folder, package.folder) if folder is not None and folder.is_dir() else (None, None)


def _held(every: "list[Loaded]", proof: Proof) -> Iterator[Finding]:
    """Whether each thing a package brings is held to its contract, and to all of it."""
    asked: set[tuple[str, str]] = set()
    for loaded in every:
        try:
            owed = list(_owed(loaded))
        except PluginError as error:  # one of its hooks raises
            yield Finding(loaded.name, str(error))
            continue
        for contract, what, names in owed:
            if (contract, what) in asked:  # one module may stand behind several entry points
                continue
            asked.add((contract, what))
            held = [one for one in proof.held if one.contract == contract and _is_of(one, names)]
            at_work = [one for one in held if one.other]
            if not held:
                named = "adapter" if contract in {"GatewayContract", "SourceContract"} else "plugin"
                do = f"write a test class that inherits it and says `{named} = {what}`"
                yield Finding(loaded.name, f"no test holds {what} to {contract} of crmkit.testing; {do}")
            elif not at_work:
                why = "left out" if any(one.left_out for one in held) else "skipped"
                yield Finding(loaded.name, f"{held[0].test} holds {what} to {contract}, and all of it is {why}")
            for one in at_work:
                if one.left_out:
                    yield Finding(loaded.name, f"{one.test}: {one.left_out} of its tests are left out (deselected)")
                if one.replaced:
                    do = "say in `lacks` what does not apply, and why"
                    what_is = f"{one.test} has {', '.join(one.replaced)} of its own in place of the contract's"
                    yield Finding(loaded.name, f"{what_is}; {do}", is_note=True)


def _owed(loaded: "Loaded") -> Iterator[tuple[str, str, frozenset[str]]]:
    """(contract, what is to be held to it, the names it goes by) of everything a plugin yields."""
    hooks = set(loaded.hook_names)
    for hook, classes in (("crmkit_gateways", loaded.gateways), ("crmkit_sources", loaded.sources)):
        for cls in classes() if hook in hooks else ():
            yield CONTRACTS[hook], cls.__name__, frozenset({f"{cls.__module__}.{cls.__qualname__}"})
    for hook in ("crmkit_handlers", "crmkit_policies"):
        if hook in hooks:
            module = str(getattr(loaded.module, "__name__", ""))
            yield CONTRACTS[hook], f'"{loaded.slug}"', frozenset({loaded.slug, module})


def _is_of(one: Held, names: frozenset[str]) -> bool:
    """Whether a class of tests names this one; a playbook may be named by its file."""
    return one.of in names or (one.of.endswith(".py") and Path(one.of).stem in names)


__all__ = ["Doing", "Finding", "findings"]
