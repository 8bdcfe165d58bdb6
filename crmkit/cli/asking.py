"""Whether what a command is about to do is wanted: the person at the terminal is asked."""

import sys

import click

from crmkit.core.errors import ConfigError


def must_be_wanted(question: str, who: str, about: str = "") -> None:
    """Ask, and end the command with exit code 1 where the answer is no.

    Args:
        who: the command, by its name.
        about: what it would do, where that was not said before.

    Raises:
        ConfigError: nobody can be asked.
    """
    if not is_terminal():
        what = f"{about}, and nobody can be asked here" if about else "nobody can be asked here"
        raise ConfigError(what, who=who, do="add --yes")
    if not click.confirm(question, err=True):
        click.echo("nothing was changed", err=True)
        click.get_current_context().exit(1)


def is_terminal() -> bool:
    return sys.stdin.isatty()
