"""Reads a shop on WooCommerce (3.5 and newer) over its REST API v3, and takes its webhooks.

In the order the data flows:

- `settings`: the section of crmkit.toml
- `signing`: how requests show whose they are
- `api`: calls, and lists that lose nothing while they change
- `shape`: what the shop answers
- `mapping`: from that to records
- `tracking`: where parcels are found
- `customers`: registered customers
- `orders`: an order with what belongs to it
- `webhook`: who sent one, and what it says
- `source`: the source
"""

from collections.abc import Iterable

from crmkit import Source, hookimpl

from .source import WooCommerceSource


@hookimpl
def crmkit_sources() -> Iterable[type[Source]]:
    """This package's source."""
    yield WooCommerceSource


__all__ = ["WooCommerceSource", "crmkit_sources"]
