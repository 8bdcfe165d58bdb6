"""Plugins' commands: what they may read."""

import sys
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from crmkit.cli.call import HOST, Call
from crmkit.core.errors import PluginError
from crmkit.core.hooks import Crm

if TYPE_CHECKING:
    from crmkit.host.host import Host
    from crmkit.host.plugins import Loaded

P = ParamSpec("P")
R = TypeVar("R")


def with_crm(function: Callable[Concatenate[Crm, P], R]) -> Callable[P, R]:
    """Give a plugin's command a `Crm` as its first argument: it reads as handlers do, and never writes.

    ```python
    @click.command()
    @with_crm
    def points(crm):
        for row in crm.select(Points):
            click.echo(f"{row.customer_id} {row.count}")
    ```

    Raises:
        PluginError: the command is no loaded plugin's.
        DatabaseError: there is no database yet, or it is of another version.
    """

    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        from crmkit.flow.crm import CrmView, Reading

        context = click.get_current_context()
        call = Call.of(context)
        host = context.find_root().meta.get(HOST) or call.host
        call.__dict__["host"] = host  # as it was opened to find the command: a plugin is imported once
        loaded = _owner(host, function.__module__)
        settings = {one.name: one.settings for one in host.playbooks}
        with call.reading() as tx:
            crm = CrmView(Reading(tx, call.now), loaded.name, settings.get(loaded.slug))
            return function(crm, *args, **kwargs)

    return update_wrapper(command, function)


def _owner(host: "Host", module: str) -> "Loaded":
    """The plugin a module is of."""
    for loaded in host.plugins.loaded():
        name: Any = getattr(loaded.module, "__name__", "")
        if module == name or module.startswith(f"{name}.") or sys.modules.get(module) is loaded.module:
            return loaded
    what = f"the command of {module} is no loaded plugin's"
    raise PluginError(what, who="command", do="yield it from crmkit_commands")
