"""Reads a shop's exports from a folder: CSV, JSON lines, XLSX, plain or `.gz`.

What is where is said by a mapping in the shop's section of crmkit.toml, by a preset (`presets/*.toml`), or by both. In
the order the data flows:

- `mapping`: the section of crmkit.toml, on top of its preset
- `fields`: what a mapping may fill, read off the records
- `translate`: a table of the mapping, compiled
- `reads`: from a row's cells to one value
- `cells`: from one cell's text to a value
- `plan`: the whole mapping, compiled, and the files it finds
- `exports`: the files of a table, with their fingerprint
- `tabular`: files of rows; `csv_table`, `json_table`, `xlsx_table` read them
- `lookup`: joined rows and ids already seen, on disk
- `run`: one run of a stream: its pages and its cursor
- `rows`: tables whose rows are records by themselves
- `orders`: orders with what is joined to them
- `source`: the source
"""

from collections.abc import Iterable

from crmkit import Source, hookimpl

from .source import FilesSource


@hookimpl
def crmkit_sources() -> Iterable[type[Source]]:
    """This package's source."""
    yield FilesSource


__all__ = ["FilesSource", "crmkit_sources"]
