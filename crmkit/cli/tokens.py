"""`crmkit tokens`: what programs may use plugins' pages and the metrics with: make one, list them, revoke one."""

from datetime import timedelta
from difflib import get_close_matches

import click

from crmkit.cli import output
from crmkit.cli.call import Call, with_call
from crmkit.core.duration import parse_duration, write_duration
from crmkit.core.errors import ConfigError
from crmkit.core.token import DEFAULT_LIFE, LONGEST_LIFE, METRICS, hash_of, is_name, is_scope, new_token, state_of


@click.group()
def tokens() -> None:
    """Make, list and revoke what programs may use plugins' pages and the metrics with."""


@tokens.command()
@click.argument("name")
@click.option(
    "--scope", "scopes", metavar="SCOPE", multiple=True, required=True, help="PLUGIN:ACTION, PLUGIN:* or metrics."
)
@click.option(
    "--expires",
    metavar="TIME",
    default=write_duration(DEFAULT_LIFE),
    show_default=True,
    help=f"How long it lasts; {write_duration(LONGEST_LIFE)} at most.",
)
@output.json_option
@with_call
def new(call: Call, name: str, scopes: tuple[str, ...], expires: str, as_json: bool) -> None:
    """Make a token. It is shown now and never again: only a hash of it is kept."""
    from crmkit.store import tokens as stored

    if not is_name(name):
        raise click.BadParameter(f"{name!r} is no name; use letters, digits and . _ - @, 60 at most", param_hint="NAME")
    life, kept = _life(expires), sorted(dict.fromkeys(scopes))
    for scope in kept:
        if not is_scope(scope):
            raise click.BadParameter(f"{scope!r} is none; write PLUGIN:ACTION, PLUGIN:* or metrics", param_hint="scope")
    pages = {slug for slug, _ in call.host.routes}
    for plugin in sorted({scope.partition(":")[0] for scope in kept if scope != METRICS} - pages):
        output.warn(f"warning: no plugin {plugin} with pages is switched on; the token is good for it once there is")
    known = sorted({f"{slug}:{routes.scope}" for slug, routes in call.host.routes if not routes.is_public})
    for scope in kept:
        plugin, _, action = scope.partition(":")
        if scope != METRICS and action != "*" and plugin in pages and scope not in known:
            near = get_close_matches(scope, known, 1, 0) or [f"{plugin}:*"]
            output.warn(f"warning: no page needs {scope}, so that it opens nothing; did you mean {near[0]}?")
    token = new_token()
    with call.writing() as tx:
        expires_at = call.now + life
        if not stored.make(tx, name, hash_of(token), kept, expires_at=expires_at, now=call.now):
            do = f"take another name, or revoke it first: `crmkit tokens revoke {name}`"
            raise ConfigError(f"there is a token {name!r}", who="tokens", do=do)
    if as_json:
        output.document({"name": name, "token": token, "scopes": kept, "expires_at": expires_at})
        return
    output.say(token)
    until = output.moment(expires_at, call.zone)
    output.warn(f"{name}: {', '.join(kept)}, until {until}; keep it now, it is not shown again")


@tokens.command("list")
@output.json_option
@with_call
def list_(call: Call, as_json: bool) -> None:
    """List tokens: what each may be used for, until when, and when it last was."""
    from crmkit.store import tokens as stored

    with call.reading() as tx:
        rows = stored.every(tx)
    shown = [{**row, "state": state_of(row["revoked_at"], row["expires_at"], call.now)} for row in rows]
    if as_json:
        output.lines(shown)
        return
    if not shown:
        output.say("there are no tokens; make one with `crmkit tokens new`")
        return
    columns = ("name", "scopes", "created_at", "expires_at", "used_at", "state")
    cells = [tuple(row[name] for name in columns) for row in shown]
    output.table(cells, ("name", "scopes", "created", "expires", "last used", "state"), zone=call.zone)


@tokens.command()
@click.argument("name")
@output.json_option
@with_call
def revoke(call: Call, name: str, as_json: bool) -> None:
    """Make a token worth nothing: from the next request on, in servers that run too."""
    from crmkit.store import tokens as stored

    with call.writing() as tx:
        is_news = stored.revoke(tx, name, call.now)
        if is_news is None:
            raise ConfigError(f"there is no token {name!r}", who="tokens", do="see `crmkit tokens list`")
    if as_json:
        output.document({"name": name, "state": "revoked", "is_news": is_news})
    else:
        output.say(f"{name} is revoked" if is_news else f"{name} was revoked before")


def _life(written: str) -> timedelta:
    try:
        life = parse_duration(written)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    if not timedelta() < life <= LONGEST_LIFE:
        most = write_duration(LONGEST_LIFE)
        raise click.BadParameter(f"{written!r} is not between 1s and {most}", param_hint="--expires")
    return life
