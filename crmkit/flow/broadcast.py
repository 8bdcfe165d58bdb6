"""One message to many: what is checked before an audience is frozen, and what each member's turn asks for."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crmkit.core.actions import Action, Broadcast, Send
from crmkit.core.broadcast import Audience, customer_column
from crmkit.core.errors import PluginError
from crmkit.core.events import Event
from crmkit.flow import key
from crmkit.flow.context import plain
from crmkit.flow.setup import Plugin, Setup
from crmkit.store import tables as t
from crmkit.store.broadcasts import Frozen

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class ToMember(Send):
    """What a member of a broadcast is sent: its broadcast, and whether chance holds this one out."""

    broadcast: int = 0
    is_held_out: bool = False


def frozen(setup: Setup, plugin: Plugin, event: Event, action: Broadcast, cause: Mapping[str, Any]) -> Frozen:
    """A broadcast as it is to be stored, checked.

    Raises:
        PluginError: it names a shop or a table there is not, or says something that means nothing.
    """

    def refuse(what: str, do: str = "") -> PluginError:
        return PluginError(what, who=plugin.name, operation="broadcast", do=do)

    audience = action.audience
    if not isinstance(audience, Audience):
        raise refuse(f"audience={audience!r} is no Audience")
    for name in ("shops", "stages", "countries", "locales", "customers"):
        if isinstance(getattr(audience, name), str):
            raise refuse(f"{name}={getattr(audience, name)!r} is no list")
    by_name = {shop.name: number for number, shop in setup.shops.items()}
    unknown = sorted(set(audience.shops) - set(by_name))
    if unknown:
        raise refuse(f"no shop {unknown[0]!r} is switched on", f"known are {', '.join(sorted(by_name))}")
    if not 0 <= action.hold_out < 1:
        raise refuse(f"hold_out={action.hold_out!r} is no share", "give a number from 0 to less than 1")
    moments = (audience.ordered_since, audience.not_ordered_since, action.not_before)
    if any(moment is not None and moment.tzinfo is None for moment in moments):
        raise refuse("a time without a zone")
    if audience.table is not None:
        table, column = getattr(audience.table, "__table__", None), customer_column(audience.table)
        if table is None or table in t.CORE or column is None or column not in table.c:
            raise refuse(
                f"{audience.table.__name__} is no table of the plugin's own that names its column of customers",
                'write __customer__ = "profile_id" into its model',
            )
        strange = sorted(set(audience.where) - set(table.c.keys()))
        if strange:
            raise refuse(f"{audience.table.__name__} has no column {strange[0]}")
    elif audience.where:
        raise refuse("where= without table=")
    own = action.key if action.key is not None else f"{key.of_cause(event)}:{action.template}"
    return Frozen(
        row={
            "key": f"{plugin.name}:{own}",
            "plugin": plugin.name,
            "template": action.template,
            "via": list(action.via),
            "context": plain(action.context),
            "not_before": action.not_before,
            "hold_out": round(action.hold_out * _MILLION),
            "interaction_id": cause["id"],
        },
        audience=audience,
        shops=[by_name[name] for name in audience.shops],
        cause=cause,
    )


def sends(event: Event, broadcast: Mapping[str, Any]) -> Sequence[Action]:
    """What a member's turn asks for."""
    if event.customer is None:
        return ()
    told = f"{broadcast['key']}\n{event.customer.key}".encode("utf-8", "surrogatepass")
    chance = int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big") % _MILLION
    send = ToMember(
        broadcast["template"],
        via=tuple(broadcast["via"]),
        key=f"broadcast:{broadcast['key']}",
        context=broadcast["context"] or {},
        not_before=broadcast["not_before"],
        broadcast=broadcast["id"],
        is_held_out=chance < broadcast["hold_out"],
    )
    return (send,)
