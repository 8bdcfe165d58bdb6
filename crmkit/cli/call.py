"""What every command is given: the configuration, the clock, the database. Errors become a line and an exit code."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, update_wrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar
from zoneinfo import ZoneInfo

import click

from crmkit.core.errors import CrmkitError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crmkit.flow.setup import Setup
    from crmkit.host.host import Host
    from crmkit.store.engine import Store

#: Where the host is kept that a plugin's command was found with.
HOST = "crmkit.host"
P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Call:
    """One call of the program: what was said before the command."""

    config_path: Path
    given_now: datetime | None
    no_plugins: bool
    only_plugins: list[str] | None

    @classmethod
    def of(cls, ctx: click.Context) -> "Call":
        """The call a command belongs to."""
        params = ctx.find_root().params
        only = params.get("only_plugins")
        return cls(
            config_path=Path(params["config"]),
            given_now=read_now(params.get("now")),
            no_plugins=bool(params.get("no_plugins")),
            only_plugins=None if only is None else [name.strip() for name in only.split(",") if name.strip()],
        )

    @property
    def now(self) -> datetime:
        """The run's clock: the one given, else the wall clock."""
        return self.given_now or datetime.now(UTC)

    @cached_property
    def host(self) -> "Host":
        """The configuration with its plugins.

        Raises:
            ConfigError: it is wrong.
        """
        host = self.open_host()
        for one in host.broken:
            click.echo(f"warning: {one.error}; {one.needed_by} is skipped", err=True)
        return host

    def open_host(self, *, strict: bool = True) -> "Host":
        """The configuration, opened anew."""
        from crmkit.host.host import Host

        return Host.open(self.config_path, no_plugins=self.no_plugins, only_plugins=self.only_plugins, strict=strict)

    @cached_property
    def zone(self) -> ZoneInfo:
        """The zone times are shown in."""
        return ZoneInfo(self.host.config.crm.timezone)

    @contextmanager
    def open_store(self) -> "Iterator[Store]":
        """The configured database, whatever its state."""
        store = self.host.store()
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def rehearsing(self) -> "Iterator[Store]":
        """A database for a dry run: the configured one, or where there is none yet, an empty one that goes again."""
        from crmkit.store import migrate
        from crmkit.store.engine import Store

        with self.open_store() as store:
            if not migrate.is_empty(store):
                yield store
                return
        with TemporaryDirectory(prefix="crmkit-") as folder:
            address = f"sqlite:///{folder}/plan.db"
            migrate.upgrade(address, self.host.migrations)
            store = Store(address)
            try:
                yield store
            finally:
                store.close()

    @contextmanager
    def reading(self) -> "Iterator[Connection]":
        """A read transaction on a database of this program's version.

        Raises:
            DatabaseError: there is none, or it is of another version.
        """
        from crmkit.store import migrate

        with self.open_store() as store:
            migrate.check(store, self.host.migrations)
            with store.read() as tx:
                yield tx

    @contextmanager
    def writing(self) -> "Iterator[Connection]":
        """A write transaction; the database is created if there is none.

        Raises:
            DatabaseError: it cannot be written, or is of another version.
        """
        from crmkit.engine.local import Local

        with self.open_store() as store:
            Local(self.host, store).prepare()
            with store.begin() as tx:
                yield tx

    def setup(self, tx: "Connection") -> "Setup":
        """What the steps are set up with, for the shops this database knows."""
        from crmkit.engine.accounts import setup_of

        return setup_of(self.host, tx)


def read_now(written: str | None) -> datetime | None:
    """The clock given by `--now`.

    Raises:
        click.BadParameter: it is no time, or has no zone.
    """
    return None if written is None else read_time(written, "--now")


def read_time(written: str, option: str, zone: ZoneInfo | None = None) -> datetime:
    """A time given by an option; one without a zone is read in `zone`, or refused.

    Raises:
        click.BadParameter: it is no time, or has no zone.
    """
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise click.BadParameter(
            f"{written!r} is no time; write it like 2026-05-07T09:00+08:00", param_hint=option
        ) from None
    if moment.tzinfo is None:
        if zone is None:
            raise click.BadParameter(
                f"{written!r} has no zone; write it like 2026-05-07T09:00+08:00", param_hint=option
            )
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(UTC)


def with_call(function: Callable[Concatenate[Call, P], R]) -> Callable[P, R]:
    """Give a command its `Call` as the first argument."""

    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(Call.of(click.get_current_context()), *args, **kwargs)

    return update_wrapper(command, function)


def fail(ctx_code: int) -> None:
    """End the command with an exit code other than 0."""
    click.get_current_context().exit(ctx_code)


def told(error: Exception) -> tuple[str, int]:
    """An error in words, and its exit code. Values that were being stored are never part of it."""
    if isinstance(error, CrmkitError):
        return str(error), error.exit_code
    database = sys.modules.get("sqlalchemy.exc")
    if database is not None and isinstance(error, database.DBAPIError):
        reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        if isinstance(error, database.OperationalError) and not reason.startswith("no such "):
            place = getattr(error, "place", None)
            do = getattr(error, "remedy", None) or "check that it can be reached and written, and that there is space"
            return f"database{'' if place is None else f' {place}'}: {reason}; {do}", 2
        return f"database: {type(error).__name__}: {reason}; run again with --debug to see where", 1
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path and its permissions", 1
    text = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    return f"unexpected {what}; run again with --debug to see where", 1


def of(name: str, error: object) -> str:
    """An error of an account, which is named once."""
    text = str(error)
    return text if text.startswith((f"{name} ", f"{name}: ")) else f"{name}: {text}"


def plugin_command(ctx: click.Context, name: str) -> click.Command | None:
    """A command that a playbook brings; None if there is none of that name, or no configuration to look in."""
    try:
        call = Call.of(ctx)
        if not call.config_path.exists():
            return None
        host = call.open_host(strict=False)
        ctx.find_root().meta[HOST] = host
        return host.commands().get(name)
    except CrmkitError:
        return None


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 order`, `2 orders`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
