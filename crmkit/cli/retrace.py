"""`crmkit plugins trace`: what each handler made of an interaction, decided once more and rolled back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlmodel import SQLModel

from crmkit.cli import output, words
from crmkit.cli.call import Call, plural
from crmkit.cli.output import moment
from crmkit.core.errors import ConfigError
from crmkit.core.events import Event

if TYPE_CHECKING:
    from crmkit.flow.rehearsal import Called, Rehearsal


def traced(call: Call, number: int) -> "Rehearsal":
    """Decide an interaction once more. Nothing is written.

    Raises:
        ConfigError: there is no such interaction.
        DatabaseError: there is no database, or it is of another version.
    """
    from crmkit.flow.rehearsal import rehearse
    from crmkit.store import migrate

    host = call.host
    with call.open_store() as store:
        migrate.check(store, host.migrations)
        with store.rehearse() as tx:
            found = rehearse(tx, call.setup(tx), number, call.given_now, lambda: datetime.now(UTC))
    if found is None:
        raise ConfigError(
            f"there is no interaction #{number}", who="plugins", operation="trace", do="see `crmkit interactions list`"
        )
    return found


def facts_of(done: "Rehearsal") -> dict[str, Any]:
    """A trace as data."""
    return {
        "interaction": done.row["id"],
        "type": done.row["type"],
        "occurred_at": done.row["occurred_at"],
        "decided_as_of": done.now,
        "is_decided": done.is_decided,
        "is_quiet": done.is_quiet,
        "pending": [
            {key: row[key] for key in ("plugin", "due_at", "tries", "error", "parked_at")} for row in done.pending
        ],
        "handlers": [
            {
                "plugin": one.plugin,
                "handler": one.handler,
                "seconds": round(one.seconds, 6),
                "loads": list(one.loads),
                "actions": [{"action": type(action).__name__, **_given(action)} for action in one.actions],
                "queries": [
                    {
                        "table": query.table,
                        "where": list(query.where),
                        "rows": query.rows,
                        "is_preloaded": query.is_preloaded,
                        "seconds": round(query.seconds, 6),
                    }
                    for query in one.queries
                ],
                "error": one.error,
            }
            for one in done.called
        ],
        "failed": done.failed,
        "messages": [
            {key: row[key] for key in ("key", "template", "channel", "plugin", "staff", "state", "reason", "detail")}
            for row in done.messages
        ],
        "differences": done.differences,
        "not_compared": done.not_compared,
        "not_loaded": list(done.away),
    }


def say(call: Call, done: "Rehearsal") -> None:
    """A trace in words."""
    zone = call.zone
    output.say(words.interaction(done.row, zone))
    output.say(f"decided once more as of {moment(done.now, zone)}; nothing was written")
    if done.is_quiet:
        output.say("it is history: what it would tell is only counted")
    for row in done.pending:
        whom = f"by {row['plugin']}" if row["plugin"] else "by every plugin"
        tries = f" after {plural(row['tries'], 'try', 'tries')}" if row["tries"] else ""
        if row["parked_at"] is not None:
            output.say(f"parked {whom}{tries}: {row['error']}")
        else:
            why = f": {row['error']}" if row["error"] else ""
            output.say(f"still to be decided {whom}, {words.due(row['due_at'], call.now, zone)}{tries}{why}")
    if not done.called:
        output.say("nobody handles it")
    for number, one in enumerate(done.called, 1):
        output.heading(f"{number}. {one.plugin}: {one.handler}, {one.seconds * 1000:,.1f} ms")
        for told in _handler(one):
            output.say(told)
    for plugin, text in done.failed.items():
        output.warn(f"error: nothing that {plugin} asked for counts: {text}")
    if done.messages:
        output.heading("messages")
        cells = [
            (row["template"], row["channel"], row["staff"], row["state"], words.reason(row["reason"]), row["detail"])
            for row in done.messages
        ]
        output.table(cells, ("template", "channel", "staff", "state", "because", ""))
    if done.differences:
        output.heading("other than recorded")
        for text in done.differences:
            output.say(f"- {text}")
    elif done.is_decided and not done.failed:
        besides = f", but for what is not compared: {', '.join(done.not_compared)}" if done.not_compared else ""
        output.say(f"as recorded{besides}")
    for plugin in done.away:
        output.say(f"{plugin} is not loaded: what it told is left out")


def _handler(one: "Called") -> list[str]:
    told = [f"  load {table}: read for the whole batch, one statement" for table in one.loads]
    for query in one.queries:
        by = f" by {', '.join(query.where)}" if query.where else ""
        how = "preloaded" if query.is_preloaded else "one statement"
        told.append(f"  select {query.table}{by}: {plural(query.rows, 'row')}, {how}, {query.seconds * 1000:,.1f} ms")
    for action in one.actions:
        given = ", ".join(f"{name}={_text(value)}" for name, value in _given(action).items())
        told.append(f"  {type(action).__name__} {given}")
    if one.error is not None:
        told.append(f"  raised: {one.error}")
    elif not one.actions:
        told.append("  asked for nothing")
    return told


def _given(action: Any) -> dict[str, Any]:
    """What an action was given, without what was left at its default."""
    found: dict[str, Any] = {}
    for field in fields(action):
        value = getattr(action, field.name)
        if value is None or value == field.default or value in ((), {}):
            continue
        found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, type) and issubclass(value, Event):
        return value.name
    if isinstance(value, Event):
        return {"event": value.name, **(value.payload() or {})}
    if isinstance(value, SQLModel):
        return {"table": str(value.__tablename__), **value.model_dump(mode="json")}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value) if getattr(value, field.name)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) else output.plain(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)
