"""`crmkit pause` and `crmkit resume`: what does not leave until somebody says so."""

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from crmkit.cli import output
from crmkit.cli.call import Call, plural, with_call
from crmkit.cli.given import check
from crmkit.core.errors import ConfigError, CrmkitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from crmkit.store.engine import Store

_SCOPES = ("all", "channel", "template", "gateway")


@click.command()
@click.argument("scope", type=click.Choice((*_SCOPES, "list")), default="list")
@click.argument("name", required=False)
@click.option("--reason", metavar="TEXT", help="Why, for whoever finds it paused.")
@output.json_option
@with_call
def pause(call: Call, scope: str, name: str | None, reason: str | None, as_json: bool) -> None:
    """Let nothing leave: of all, or of a channel, a template or a gateway by name. Without arguments, list what is.

    It takes effect at once, also in the middle of a run: what is not on the wire stays. Deciding goes on, and new
    messages wait with the rest. A gateway's messages go by the next gateway of their channel, if there is one.
    """
    if scope == "list":
        if name is not None:
            raise ConfigError("list shows all that is paused", who="pause", do=f"leave out {name!r}")
        if reason is not None:
            do = "leave out --reason, or name what is to be paused"
            raise ConfigError("list pauses nothing", who="pause", do=do)
        _list(call, as_json)
        return
    # As little as possible is loaded before it stands: no plugin, no adapter, and nothing that may be broken of them.
    from crmkit.cli.whom import typist
    from crmkit.flow.spread import spread
    from crmkit.host.config import load
    from crmkit.store import pauses
    from crmkit.store.engine import Store

    config = load(call.config_path)
    channels = {entry.name: entry.channel for entry in config.entries if entry.core.enabled}
    name = _named(call, scope, name, channels)
    gateways = {
        one for one, channel in channels.items() if scope not in ("channel", "gateway") or name in (one, channel)
    }
    midnight = call.now.astimezone(ZoneInfo(config.crm.timezone)).replace(hour=0, minute=0, second=0, microsecond=0)
    store = Store(config.database)
    try:
        row = _begun(call, store, {"scope": scope, "name": name, "reason": reason, "actor": typist()})
        with store.read() as tx:
            counts = pauses.figures(tx, scope, name, gateways, midnight)
        if as_json:
            output.document({"scope": scope, "name": name, **counts})
        else:
            output.say(f"{_shown(scope, name)} is paused")
            output.say(
                f"in flight {counts['in_flight']:,}, in doubt {counts['in_doubt']:,},"
                f" queued {counts['queued']:,}, sent today {counts['sent_today']:,}"
            )
        try:
            with store.begin() as tx:
                spread(tx, lambda: call.setup(tx), row, call.now, waits=False)
        except CrmkitError as error:  # what is broken keeps nobody from pausing
            output.warn(f"it stands, though something else is wrong: {error}")
    finally:
        store.close()


def _begun(call: Call, store: "Store", asked: "Mapping[str, Any]") -> "Mapping[str, Any]":
    """Write the pause. Only where that cannot be done it is looked at what the database is."""
    from sqlalchemy.exc import DBAPIError

    from crmkit.store import pauses

    try:
        with store.begin() as tx:
            return pauses.begin(tx, now=call.now, **asked)
    except DBAPIError:
        from crmkit.engine.local import Local

        Local(call.host, store).prepare()
    with store.begin() as tx:
        return pauses.begin(tx, now=call.now, **asked)


@click.command()
@click.argument("scope", type=click.Choice(_SCOPES))
@click.argument("name", required=False)
@click.option("--plan", is_flag=True, help="Say what would leave and what has become stale; resume nothing.")
@output.json_option
@with_call
def resume(call: Call, scope: str, name: str | None, plan: bool, as_json: bool) -> None:
    """Let it leave again: what was paused, and nothing else, in its old order with the next `crmkit dispatch`."""
    from crmkit.flow import pause as pausing
    from crmkit.store import pauses

    count: int | None = None
    _check_all("resume", scope, name)
    with call.reading() if plan else call.writing() as tx:
        setup = call.setup(tx)
        standing = {(row["scope"], row["name"]) for row in pauses.standing(tx)}
        shown = ", ".join(_shown(*pair) for pair in sorted(standing)) or "nothing"
        if scope != "all" and name is None:
            raise ConfigError(f"no {scope} is named", who="resume", do=f"paused is: {shown}")
        if (scope, name or "") not in standing:
            raise ConfigError(f"{_shown(scope, name or '')} is not paused", who="resume", do=f"paused is: {shown}")
        rows = pausing.leaving(tx, scope, name or "", call.now)
        if not plan:
            count = pausing.resume(tx, setup, scope, name or "", call.now)
    rest = ", ".join(_shown(*pair) for pair in sorted(standing - {(scope, name or "")}))
    if as_json:
        output.document({"scope": scope, "name": name or "", "messages": count, "leaves": rows})
        return
    if not plan:
        output.say(f"{_shown(scope, name or '')} is resumed; {plural(count or 0, 'message')} may leave")
    _print_leaving(rows, plan)
    if rest:
        output.say(f"still paused: {rest}")
    if plan:
        output.say("a plan: nothing was resumed")


def _print_leaving(rows: "Sequence[Mapping[str, Any]]", plan: bool) -> None:
    columns = ("template", "channel", "now", "later", "stale")
    if rows:
        output.table([tuple(row[name] for name in columns) for row in rows], columns, numbers=columns[2:])
    elif plan:
        output.say("no message would leave")
    stale = sum(row["stale"] for row in rows)
    if stale:
        output.say(f"{plural(stale, 'message')} became stale meanwhile, and will not leave")


def _list(call: Call, as_json: bool) -> None:
    from crmkit.flow import pause as pausing
    from crmkit.store import pauses

    with call.reading() as tx:
        rows = pauses.standing(tx)
        counts = pausing.waits(tx)
    shown = [
        {
            **{name: row[name] for name in ("scope", "name", "since", "actor", "reason")},
            "queued": counts[row["scope"], row["name"]],
        }
        for row in rows
    ]
    if as_json:
        output.lines(shown)
    elif not rows:
        output.say("nothing is paused")
    else:
        columns = ("scope", "name", "since", "actor", "reason", "queued")
        output.table([tuple(row.values()) for row in shown], columns, zone=call.zone, numbers=("queued",))


def kept_back(tx: "Connection") -> list[str]:
    """What keeps messages until a person lets them leave, with the command that does, a line each."""
    from crmkit.store import pauses

    found = [kept_by(row) for row in pauses.standing(tx)]
    waiting = opt_outs_wanted(tx)
    return found if waiting is None else [*found, waiting]


def kept_by(row: "Mapping[str, Any]") -> str:
    """A pause in words, with the command that lifts it."""
    from crmkit.store import pauses

    return f"{pauses.detail(row)}; `crmkit resume {_shown(row['scope'], row['name'])}` lifts it"


def opt_outs_wanted(tx: "Connection") -> str | None:
    """What marketing waits for, and how much of it; None where none does."""
    from crmkit.core.message import Reason
    from crmkit.store import accounts, outbox

    count = outbox.count_kept(tx, Reason.OPT_OUTS_UNKNOWN)
    if not count:
        return None
    known = accounts.opt_outs(tx)
    names = ", ".join(row["name"] for row in accounts.every(tx) if known.get(row["id"]) is False)
    do = "run `crmkit consent import FILE`, or `crmkit consent none-before --reason TEXT`"
    return f"{plural(count, 'marketing message')} wait: who opted out of {names} before crmkit is not known; {do}"


def _named(call: Call, scope: str, name: str | None, channels: "Mapping[str, str]") -> str:
    """The name of what is to be paused.

    Args:
        channels: {gateway: its channel}, as configured.

    Raises:
        ConfigError: there is no such thing.
    """
    if scope == "all":
        _check_all("pause", scope, name)
        return ""
    if scope == "template":
        known = sorted(call.host.templates.names())
    else:
        known = sorted(channels if scope == "gateway" else set(channels.values()))
    if name is None:
        raise ConfigError(f"no {scope} is named", who="pause", do=f"known are: {', '.join(known) or 'none'}")
    check([name], known, "pause", scope)
    return name


def _check_all(command: str, scope: str, name: str | None) -> None:
    """All has no name.

    Raises:
        ConfigError: it is given one.
    """
    if scope == "all" and name is not None:
        raise ConfigError("all is all", who=command, do=f"leave out {name!r}, or name a channel, template or gateway")


def _shown(scope: str, name: str) -> str:
    return "all" if scope == "all" else f"{scope} {name}"
