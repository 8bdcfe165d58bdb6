"""Tables for people, JSON for programs. Data goes to stdout; what is said about it to stderr."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click

from crmkit.cli.given import COUNT

if TYPE_CHECKING:
    from rich.console import Console

_F = TypeVar("_F", bound=Callable[..., Any])
_R = TypeVar("_R")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
#: A table that is not printed on a terminal is as wide as its content.
_WIDE = 10_000


def document(value: Any) -> None:
    """Print one JSON document."""
    click.echo(written(value))


def written(value: Any) -> str:
    """One JSON document, as it is printed."""
    return _json(value, indent=2)


def lines(rows: Iterable[Any]) -> None:
    """Print JSON lines: one document for each row."""
    for row in rows:
        click.echo(line(row))


def line(row: Any) -> str:
    """One row as one line of JSON."""
    return _json(row)


def limit_option(default: int = 50) -> Callable[[_F], _F]:
    """`--limit N` of a list that ends with the newest: `last` keeps to it."""
    return click.option(
        "--limit",
        type=COUNT,
        default=default,
        show_default=True,
        metavar="N",
        help="The last so many; 0: all.",
    )


def last(read: Callable[[int | None], Sequence[_R]], limit: int) -> Sequence[_R]:
    """The last `limit` rows (0: all). Where there are more, it is said so.

    Args:
        read: gives the last so many (None: all), oldest first.
    """
    if not limit:
        return read(None)
    rows = read(limit + 1)
    if len(rows) > limit:
        warn(f"only the last {limit:,} shown; `--limit 0` shows all")
    return rows[-limit:]


def _json(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=plain)
    return text.translate({code: f"\\u{code:04x}" for code in range(127, 160)})


#: How text begins that a spreadsheet takes for a formula.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def sheet(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print CSV that a spreadsheet takes as text: what would be a formula there begins with a `'`."""
    import csv
    import io

    for row in (columns, *rows):
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="", quoting=csv.QUOTE_ALL)
        writer.writerow([f"'{text}" if text.startswith(_FORMULA) else text for text in row])
        click.echo(written.getvalue())


def plain(value: Any) -> Any:
    """What JSON has no type for: times as ISO text, sets and tuples as lists, the rest as text."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def console(*, err: bool = False) -> "Console":
    """A console that keeps to a terminal's width, and cuts nothing off elsewhere."""
    from rich.console import Console

    made = Console(stderr=err, highlight=False)
    if not made.is_terminal:
        made = Console(stderr=err, highlight=False, width=_WIDE)
    return made


def table(
    rows: Sequence[Sequence[Any]],
    columns: Sequence[str],
    *,
    title: str | None = None,
    zone: ZoneInfo | None = None,
    numbers: Sequence[str] = (),
) -> None:
    """Print a table.

    Args:
        rows: cells by row; times are shown in `zone`, None as nothing.
        columns: their names.
        numbers: columns that count something: set to the right, thousands apart.
    """
    from rich import box
    from rich.table import Table

    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        right = column in numbers
        shown.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        cells = [
            f"{value:,}" if column in numbers and isinstance(value, int) else cell(value, zone)
            for column, value in zip(columns, row, strict=True)
        ]
        shown.add_row(*map(_escaped, cells))
    _print(shown)


def facts(pairs: Iterable[tuple[str, Any]], *, zone: ZoneInfo | None = None, title: str | None = None) -> None:
    """Print names and values, one pair a line; what is None is left out."""
    from rich.table import Table

    shown = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False, show_edge=False)
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "":
            shown.add_row(name, _escaped(cell(value, zone)))
    _print(shown)


def _print(shown: Any) -> None:
    """Print a table without the blanks its columns end in."""
    on = console()
    with on.capture() as captured:
        on.print(shown)
    for one in captured.get().splitlines():
        click.echo(one.rstrip())


def heading(text: str) -> None:
    """Print the name of what follows."""
    console().print(f"\n[bold]{_escaped(text)}[/bold]")


def say(text: str) -> None:
    """Print a sentence."""
    click.echo(harmless(text))


def warn(text: str) -> None:
    """Say on stderr what the reader should know of."""
    click.echo(harmless(text), err=True)


def cell(value: Any, zone: ZoneInfo | None = None) -> str:
    """One value as a person reads it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment(value, zone)
    if isinstance(value, list | tuple | set | frozenset):
        return harmless(", ".join(map(str, value)))
    return harmless(str(value))


#: What moves a terminal instead of standing on it; line ends and tabs stay.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def harmless(text: str) -> str:
    """`text` with control characters written out: what customers and vendors say does nothing to a terminal."""
    return text.translate(_CONTROLS)


def moment(at: datetime | None, zone: ZoneInfo | None = None) -> str:
    """A time to the minute, in a zone that is named."""
    if at is None:
        return ""
    local = at.astimezone(zone) if zone is not None else at
    return local.strftime("%Y-%m-%d %H:%M %Z").strip()


def money(minor: int | None, currency: str | None) -> str:
    """An amount of minor units."""
    from crmkit.core.money import Money

    amount = Money.of_minor(minor, currency)
    return "" if amount is None else f"{amount.amount} {amount.currency}"


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
