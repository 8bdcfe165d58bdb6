"""What is given on the command line, as several commands take it: the number of a record, a count, a file, a name."""

from pathlib import Path
from typing import Any

import click

from crmkit.core.errors import ConfigError

#: The largest number of a record: both databases count them in 64 bits.
_LARGEST = 2**63 - 1
#: A list of so many, or a run of so many messages, is as good as all.
MANY = 1_000_000_000


class RecordNumber(click.IntRange):
    """The number of a message, a webhook, a run: what no record can be numbered by is refused by name."""

    def __init__(self) -> None:
        super().__init__(1, _LARGEST)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number: int = click.INT.convert(value, param, ctx)
        if not 0 < number <= _LARGEST:
            self.fail(f"nothing has the number {number}: they go from 1 to {_LARGEST}", param, ctx)
        return number


class FilePath(click.Path):
    """A file to read or to write; a name that is empty is none."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("the name of the file is empty", param, ctx)
        return super().convert(value, param, ctx)


def check(given: list[str], known: list[str], option: str, kind: str) -> None:
    """Refuse what is not known.

    Raises:
        ConfigError: one of these is not among them.
    """
    from crmkit.host.document import nearest

    for name in given:
        if name not in known:
            raise ConfigError(f"there is no {kind} {name!r}", who=option, do=nearest(name, known))


NUMBER = RecordNumber()
#: How many a list shows; 0 is all of them where a list says so.
COUNT = click.IntRange(0, MANY)
FILE = FilePath()
