"""Creates and upgrades a database, with Alembic: a linear history for the core, and one for each plugin with tables.

Nothing upgrades behind anyone's back: a database of another version is named, with the command to run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from sqlalchemy import inspect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from crmkit.core.errors import DatabaseError
from crmkit.store import bulk, presence
from crmkit.store.engine import Store

_CORE = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Version:
    """What version a history of a database is at, and what version this program knows."""

    history: str
    current: str | None
    head: str

    @property
    def is_current(self) -> bool:
        """Nothing to do."""
        return self.current == self.head


def _script(folder: Path) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


@lru_cache(maxsize=64)
def _head(folder: Path, changed_ns: int) -> str:
    """The newest version in a folder of migrations; read anew only if files came or went, since every step asks."""
    return _script(folder).get_current_head() or ""


def _version_table(history: str) -> str:
    return "crmkit_version" if history == "core" else f"{history}_version"


def versions(tx: Connection, plugins: Mapping[str, Path] = {}) -> list[Version]:
    """The version of the core and of each plugin with tables."""
    found = []
    for history, folder in {"core": _CORE, **plugins}.items():
        context = MigrationContext.configure(tx, opts={"version_table": _version_table(history)})
        written = folder / "versions"
        head = _head(folder, (written if written.is_dir() else folder).stat().st_mtime_ns)
        found.append(Version(history, context.get_current_revision(), head))
    return found


def absent(tx: Connection, plugins: Mapping[str, Path] = {}) -> list[str]:
    """Plugins that have tables here and are not loaded: their tables are left alone."""
    known = {_version_table(history) for history in ("core", *plugins)}
    names = inspect(tx).get_table_names()
    return sorted(name.removesuffix("_version") for name in names if name.endswith("_version") and name not in known)


def upgrade(url: str, plugins: Mapping[str, Path] = {}) -> list[Version]:
    """Create the database or bring it up to this program's version; the core first, then each plugin.

    Args:
        url: the database's address.
        plugins: {plugin: its folder of migrations}.

    Returns:
        The versions before.

    Raises:
        DatabaseError: it cannot be reached or written, is of a newer version, or workers are at work on it.
    """
    store = Store(url)
    try:
        with store.begin() as tx:
            bulk.lock(tx, "crmkit upgrade")
            before = versions(tx, plugins)
            if not all(version.is_current for version in before):
                presence.be_alone(tx, "db upgrade")
            for version, folder in zip(before, [_CORE, *plugins.values()], strict=True):
                if not version.is_current:
                    _refuse_newer(version, folder, store.where)
                    _run(tx, folder, _version_table(version.history))
        return before
    except OperationalError as error:
        raise _cannot_write(store, error) from error
    finally:
        store.close()


def check(store: Store, plugins: Mapping[str, Path] = {}) -> None:
    """Refuse a database that is not of this program's version.

    Raises:
        DatabaseError: it does not exist yet, or is older or newer; the text names the command to run.
    """
    if store.file is not None and not store.file.exists():
        raise DatabaseError(
            f"{store.where} does not exist yet",
            who="database",
            do="run `crmkit sync`, which creates it, or `db upgrade`",
        )
    with store.read() as tx:
        for version, folder in zip(versions(tx, plugins), [_CORE, *plugins.values()], strict=True):
            if version.is_current:
                continue
            _refuse_newer(version, folder, store.where)
            raise DatabaseError(
                f"{store.where} is of version {version.current or 'none'} ({version.history}),"
                f" this program needs {version.head}",
                who="database",
                do="run `crmkit db upgrade`",
            )


def is_older(store: Store, plugins: Mapping[str, Path] = {}, where: str | None = None) -> bool:
    """Whether a database has to be upgraded before this program can use it.

    Args:
        where: by what name it is refused; by its own, if not given.

    Raises:
        DatabaseError: it is newer than this program knows, or none of ours.
    """
    with store.read() as tx:
        found = versions(tx, plugins)
        if found[0].current is None:
            raise DatabaseError(
                f"{where or store.where} is no database of crmkit", who="database", do="name another file"
            )
        for version, folder in zip(found, [_CORE, *plugins.values()], strict=True):
            _refuse_newer(version, folder, where or store.where)
    return not all(version.is_current for version in found)


def is_empty(store: Store) -> bool:
    """Whether there is no database yet, or one without any table of ours."""
    if store.file is not None and not store.file.exists():
        return True
    with store.read() as tx:
        return versions(tx)[0].current is None


def _refuse_newer(version: Version, folder: Path, where: str) -> None:
    if version.current is None:
        return
    try:
        known = _script(folder).get_revision(version.current)
    except ResolutionError:
        known = None
    except Exception as error:  # Alembic wraps an unknown revision in an error of its own
        if "locate revision" not in str(error):
            raise
        known = None
    if known is None:
        raise DatabaseError(
            f"{where} is of version {version.current} ({version.history}), newer than this program knows"
            f" ({version.head})",
            who="database",
            do="upgrade crmkit",
        )


def _run(tx: Connection, folder: Path, version_table: str) -> None:
    script = _script(folder)
    config = Config()

    def steps(revision: object, _: object) -> object:
        return script._upgrade_revs("head", revision)  # type: ignore[arg-type]

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(
            connection=tx, version_table=version_table, transaction_per_migration=False, transactional_ddl=False
        )
        environment.run_migrations()


def _cannot_write(store: Store, error: OperationalError) -> DatabaseError:
    reason = str(error.orig).strip().splitlines()[0]
    return DatabaseError(
        f"{store.where} cannot be written ({reason})",
        who="database",
        do="check the folder's permissions and free space",
    )
