"""What a plugin can do, in words and as data: what it registers, and what its classes declare."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmkit.core.errors import PluginError

if TYPE_CHECKING:
    from crmkit.adapters.adapter import Adapter
    from crmkit.adapters.gateway import Gateway
    from crmkit.adapters.source import Source
    from crmkit.core.hooks import Handler
    from crmkit.host.plugins import Loaded

#: A plugin whose import takes longer than this is named, in seconds.
SLOW = 0.5
#: What a plugin decides with, as `playbook` names it, and one of each.
DECIDES = {
    "handlers": "handler",
    "schedules": "schedule",
    "policies": "policy",
    "tables": "table",
    "pages": "page",
    "commands": "command",
}


def gateway(cls: "type[Gateway]") -> dict[str, Any]:
    """What a gateway declares."""
    from crmkit.adapters.gateway import Gateway

    return {
        "name": cls.name,
        "channel": cls.channel,
        "reaches": list(cls.reaches),
        "batch": cls.batch,
        "deduplicates": cls.deduplicates,
        "exclusive": cls.exclusive,
        "looks_up": cls.look_up is not Gateway.look_up,
        "tells_balance": cls.balance is not Gateway.balance,
        "webhooks": takes_webhooks(cls),
        "streams": cls.streams(),
        "needs_form": bool(getattr(cls, "needs_form", False)),
    }


def source(cls: "type[Source]") -> dict[str, Any]:
    """What a source declares. An instance may report more or less: `reports` may depend on its settings."""
    from crmkit.adapters.source import Source
    from crmkit.core.duration import write_duration

    declared: object = cls.reports
    return {
        "name": cls.name,
        "reports": "as set up" if isinstance(declared, property) else sorted(cls.reports),
        "streams": cls.streams(),
        "rescans": write_duration(cls.rescans) if cls.rescans else None,
        "reads_by_id": cls.read is not Source.read,
        "says_what_may_be_said": cls.may_say is not Source.may_say,
        "webhooks": takes_webhooks(cls),
    }


def takes_webhooks(cls: "type[Adapter]") -> bool:
    """Whether an adapter can tell its vendor's calls from others', and read them."""
    from crmkit.adapters.adapter import Adapter

    return (cls.verifies is not None or cls.verify is not Adapter.verify) and cls.records is not Adapter.records


def playbook(loaded: "Loaded", settings: Any) -> dict[str, Any]:
    """What a plugin decides with. `settings` are those configured, else its defaults; None if there are none.

    Raises:
        PluginError: a hook of it raises.
    """
    tables, handlers = loaded.tables(), loaded.handlers(settings)
    return {
        "handlers": [f"{one.name} on {one.event.name}" for one in handlers if schedule_of(one) is None],
        "schedules": [f"{one.name} {schedule_of(one)}" for one in handlers if schedule_of(one) is not None],
        "policies": [one.name for one in loaded.policies(settings)],
        "tables": [str(model.__tablename__) for model in tables.models] if tables else [],
        "pages": [_page(loaded, one) for one in loaded.web(settings)],
        "commands": sorted(loaded.commands()),
    }


def schedule_of(handler: "Handler") -> str | None:
    """When a scheduled function is called, in words; None of one that an event calls."""
    schedule = getattr(handler, "schedule", None)
    return None if schedule is None else str(schedule)


def _page(loaded: "Loaded", item: Any) -> str:
    from crmkit.core.hooks import Routes

    if not isinstance(item, Routes):
        return f"survey {item.name}"
    return f"/{loaded.slug}/ ({'anyone' if item.is_public else f'{loaded.slug}:{item.scope}'})"


def defaults(loaded: "Loaded") -> Any:
    """A playbook's settings where nothing is written; None if it has none, or something has to be."""
    try:
        return loaded.settings() if loaded.settings is not None else None
    except Exception:  # required settings, or a validator of the plugin's
        return None


def templates(folder: Path | None) -> list[str]:
    """`order-shipped (email: en, zh-CN; sms: en)` for each template."""
    found: dict[str, dict[str, set[str]]] = {}
    for path in sorted(folder.iterdir()) if folder else ():
        name, *rest = path.stem.rsplit(".", 2)
        if path.suffix == ".txt" and len(rest) == 2:
            found.setdefault(name, {}).setdefault(rest[1], set()).add(rest[0])
    return [
        f"{name} ({'; '.join(f'{channel}: ' + ', '.join(sorted(by[channel])) for channel in sorted(by))})"
        for name, by in sorted(found.items())
    ]


def about(loaded: "Loaded") -> str:
    """The first paragraph of its docstring."""
    return (inspect.getdoc(loaded.module) or "").strip().split("\n\n")[0].replace("\n", " ")


def in_short(loaded: "Loaded", settings: Any) -> list[str]:
    """What a plugin can do, in few words.

    Raises:
        PluginError: a hook of it raises.
    """
    told = []
    for cls in loaded.sources():
        facts = source(cls)
        reports = facts["reports"]
        told.append(f"reports {', '.join(reports)}" if isinstance(reports, list) and reports else "reports as set up")
        told += _flags(facts, {"rescans": "re-scans", "reads_by_id": "reads by id", "webhooks": "webhooks"})
    for one in loaded.gateways():
        facts = gateway(one)
        told.append(f"{facts['channel']} to {', '.join(facts['reaches'])}")
        told += [f"batches of {facts['batch']:,}"] if facts["batch"] > 1 else []
        flags = {"deduplicates": "deduplicates", "looks_up": "looks up", "tells_balance": "tells its balance"}
        told += _flags(
            facts, {**flags, "webhooks": "webhooks", "exclusive": "exclusive", "needs_form": "approved texts only"}
        )
    decides = playbook(loaded, settings if settings is not None else defaults(loaded))
    for many, single in DECIDES.items():
        if decides[many]:
            told.append(f"{len(decides[many])} {many if len(decides[many]) > 1 else single}")
    return told


def _flags(facts: Mapping[str, Any], words: Mapping[str, str]) -> list[str]:
    return [word for key, word in words.items() if facts[key]]


def attempt(loaded: "Loaded", settings: Any) -> tuple[list[str], PluginError | None]:
    """`in_short`, or why that cannot be told."""
    try:
        return in_short(loaded, settings), None
    except PluginError as error:
        return [], error
