"""Reads a shop on Vendure (2.0 and newer) over its Admin API, and takes the webhooks of a small plugin of one's own.

In the order the data flows:

- `settings`: the section of crmkit.toml
- `api`: questions in GraphQL, and lists that lose nothing while they change
- `query`: what is asked for
- `shape`: what the shop answers
- `mapping`: from that to records
- `source`: the source
"""

from collections.abc import Iterable

from crmkit import Source, hookimpl

from .source import VendureSource


@hookimpl
def crmkit_sources() -> Iterable[type[Source]]:
    """This package's source."""
    yield VendureSource


__all__ = ["VendureSource", "crmkit_sources"]
