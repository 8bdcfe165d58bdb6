"""Reads a shop on Taobao or Tmall over the Taobao Open Platform (TOP), and texts its buyers by order token.

In the order the data flows:

- `settings`: the sections of crmkit.toml
- `signing`: how requests, and calls of the platform, show whose they are
- `fault`: what the platform says is wrong, in a body with HTTP 200
- `api`: calls, and the token they are made with
- `listing`: lists that lose nothing while they change
- `shape`: what the platform answers
- `mapping`: from that to records
- `hint`: what changed, as the platform tells it by itself
- `trade`: trades with their refunds, by id
- `source`: the source
- `reason`: why a text message was refused
- `gateway`: text messages to the receiver of an order, an adapter of its own
"""

from collections.abc import Iterable

from crmkit import Source, hookimpl

from .source import TaobaoSource


@hookimpl
def crmkit_sources() -> Iterable[type[Source]]:
    """This package's source."""
    yield TaobaoSource


__all__ = ["TaobaoSource", "crmkit_sources"]
