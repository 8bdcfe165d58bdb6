"""Where the lines of the log go under a service: to standard error, one to a line, as JSON or for a person to read.

What libraries say comes through the same form without their words, which may quote what was in hand: from warnings up,
who said it and where, and of an exception its class and where it was raised.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import update_wrapper
from typing import Any, ParamSpec, TypeVar

import click

from crmkit.cli import output
from crmkit.core.errors import CrmkitError
from crmkit.core.log import ENDED, Line, place_of, told_of

P = ParamSpec("P")
R = TypeVar("R")

LEVELS = ("debug", "info", "warning", "error")
#: The line of what a library said.
FOREIGN = "library"


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """What is said of a record, in the order in which it is shown."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "logger": record.name}
    facts: dict[str, Any] | None = getattr(record, "facts", None)
    if facts is not None:
        return {**head, "line": getattr(record, "line", FOREIGN), **facts}
    found = {**head, "line": FOREIGN, "said_at": f"{record.filename}:{record.lineno} ({record.funcName})"}
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        found |= {"error": type(error).__name__, "place": place_of(error)}
    return found


class AsJson(logging.Formatter):
    """One JSON object to a line."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        return json.dumps(facts_of(record), ensure_ascii=False, separators=(",", ":"), default=str)


class AsText(logging.Formatter):
    """For a person to read."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        said = facts_of(record)
        head = " ".join(str(said.pop(name)) for name in ("at", "level", "logger", "line"))
        return " ".join([head, *(f"{name}={value}" for name, value in said.items())])


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what standard error is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _: Any) -> None:
        pass


@contextmanager
def logging_to_stderr(form: str | None, level: str | None) -> Iterator[None]:
    """Say meanwhile what the service does.

    Args:
        form: `json` or `text`; where None, text on a terminal and JSON elsewhere.
        level: the least that is said; where None, `info` as JSON, and `warning` for a person, who is told in words.
    """
    is_text = (form or ("text" if sys.stderr.isatty() else "json")) == "text"
    handler, root, ours = _Stderr(), logging.getLogger(), logging.getLogger("crmkit")
    handler.setFormatter(AsText() if is_text else AsJson())
    before = root.level, ours.level, logging.raiseExceptions
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    ours.setLevel((level or ("warning" if is_text else "info")).upper())
    logging.captureWarnings(True)
    logging.raiseExceptions = False
    try:
        yield
    finally:
        root.removeHandler(handler)
        logging.captureWarnings(False)
        root.level, _, logging.raiseExceptions = before
        ours.setLevel(before[1])


def is_json() -> bool:
    """Whether standard error is for programs to read: JSON, and nothing else."""
    handlers = logging.getLogger().handlers
    return any(isinstance(one, _Stderr) and isinstance(one.formatter, AsJson) for one in handlers)


def say(words: str, line: Line, **facts: Any) -> None:
    """Tell a person in words, or a program in a line."""
    if is_json():
        line.say(**facts)
    else:
        output.warn(words)


def with_log(function: Callable[P, R]) -> Callable[P, R]:
    """Give a command that serves `--log` and `--log-level`."""

    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        form, level = kwargs.pop("log_form"), kwargs.pop("log_level")
        with logging_to_stderr(form, level):  # type: ignore[arg-type]
            try:
                return function(*args, **kwargs)
            except (CrmkitError, click.exceptions.Exit, click.ClickException, click.Abort):
                raise
            except Exception as error:
                if not is_json() and (
                    sys.stderr.isatty() or click.get_current_context().find_root().params.get("debug")
                ):
                    raise  # somebody is there to read it
                ENDED.say(**told_of(error))  # its text may quote what was in hand
                raise click.exceptions.Exit(1) from None

    wrapped = update_wrapper(command, function)
    level = click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        envvar="CRMKIT_LOG_LEVEL",
        help="The least that is said in the log; info as JSON, warning as text.",
    )
    form = click.option(
        "--log",
        "log_form",
        type=click.Choice(("json", "text")),
        envvar="CRMKIT_LOG",
        help="How the log is written, to standard error; text on a terminal, else JSON.",
    )
    return form(level(wrapped))
