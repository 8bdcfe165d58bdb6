"""What is given on the command line, as several commands take it: the number of a record, a count."""

from typing import Any

import click

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


NUMBER = RecordNumber()
