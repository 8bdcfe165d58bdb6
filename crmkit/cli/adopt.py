"""`crmkit db adopt`: a database that was restored or copied is taken on; and how the fence stands, for who asks."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from crmkit.cli import output
from crmkit.cli.asking import must_be_wanted
from crmkit.cli.call import Call, plural, read_time, with_call
from crmkit.cli.output import moment
from crmkit.core.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crmkit.engine.fence import Fence, Standing
    from crmkit.host.host import Host

#: Where a person finds what was put aside.
_ASIDE = "crmkit messages list --state held,in-doubt --reason may-have-left"


@click.command()
@click.option("--resend", is_flag=True, help="Let everything leave that would, also what may have left already.")
@click.option("--hold", is_flag=True, help="Hold what may have left already for a person: the default.")
@click.option("--until", metavar="TIME", help="When the other database sent last, where that is known better.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.json_option
@with_call
def adopt(call: Call, resend: bool, hold: bool, until: str | None, yes: bool, as_json: bool) -> None:
    """Take on a database that may not send: one that was restored, moved or copied, or that is unknown here.

    Says first what that means. What the database that was lost may have sent is held for a person, messages that are
    queued as well as what is decided later of what happened before; --resend sends it.
    """
    from crmkit.engine.local import Local

    if resend and hold:
        raise click.UsageError("either --resend or --hold")
    with call.open_store() as store:
        local = Local(call.host, store)
        local.prepare()
        standing = local.fence.standing()
        if standing.fenced is not None and standing.fenced.kind == "no-note":  # adopted, it could not send either
            raise ConfigError(standing.fenced.what, who="db adopt", do=standing.fenced.do)
        with store.read() as tx:
            found = _found(
                local.fence,
                standing,
                tx,
                call.now,
                resend,
                None if until is None else read_time(until, "--until", call.zone),
            )
        if standing.fenced is None:
            if as_json:
                output.document({**found, "adopted": False})
            else:
                output.say("this database may send: there is nothing to adopt")
            return
        if not as_json:
            for text in _said(call, local.fence, found):
                output.say(text)
        if not yes:
            must_be_wanted("adopt it?", "db adopt")
        try:
            how = {"is_copy": found["is_copy"], "resend": resend}
            count = local.fence.adopt(found["name"], found["until"], call.now, **how)
        except OSError as error:
            what = f"it is adopted, and cannot be noted ({error.filename}: {error.strerror})"
            raise ConfigError(what, who="db adopt", do="set CRMKIT_STATE to a folder that can be written") from error
    if as_json:
        output.document({**found, "adopted": True, "put_aside": count})
        return
    output.say(f"adopted as {found['name']}; {plural(count, 'message')} put aside")
    if found["until"] is not None:
        output.say(f"look at them, then release or cancel them: `{_ASIDE}`")


def _found(
    fence: "Fence", standing: "Standing", tx: "Connection", now: datetime, resend: bool, until: datetime | None
) -> dict[str, Any]:
    from crmkit.store import instance

    doubtful = None if resend else until or fence.doubtful_until(standing, now)
    own, note = standing.instance, standing.note
    is_copy = standing.is_copy and until is None  # a moment that is given is when the other stopped
    return {
        "fenced": None if standing.fenced is None else str(standing.fenced),
        "was": None if own is None else own.name,
        "name": fence.adopted_name(standing),
        "until": doubtful,
        "is_copy": is_copy,
        "doubtful_before": None if own is None or resend else own.doubtful_until,
        "missing": max(0, note.sequence - own.sequence) if own is not None and note is not None else None,
        **instance.adoption(tx, doubtful, now, is_copy=is_copy),
    }


def _said(call: Call, fence: "Fence", found: Mapping[str, Any]) -> Iterator[str]:
    """What adopting it means, before anybody is asked."""
    yield str(found["fenced"])
    if found["was"] not in (None, found["name"]):
        yield f"it becomes {found['name']!r}, one of its own; whoever sends for {found['was']!r} needs that database"
    elif found["was"] is not None:
        yield f"it stays {found['name']!r}"
        if fence.given is not None and not fence.given.proves:
            yield f"{fence.given.by} is copied with it: give only one of the two this name"
    if found["missing"]:
        yield f"about {plural(found['missing'], 'try', 'tries')} at delivering are not known to it"
    yield f"{plural(found['queued'], 'message')} queued, {found['due']:,} of them due"
    yield f"{plural(found['undecided'], 'interaction')} to be decided"
    if found["until"] is None:
        if found["doubtful_before"] is not None:
            at = moment(found["doubtful_before"], call.zone)
            yield f"what happened before {at} and is decided from now on is held, as it was found before"
        else:
            yield "everything leaves that would"
        return
    at, count = moment(found["until"], call.zone), plural(found["held"] + found["in-doubt"], "message")
    if found["is_copy"]:
        yield f"whoever sends from the other database may send all that is queued: {count} held for a person"
    else:
        yield f"of these {count} may have left by {at}: held for a person"
    yield f"what happened before {at} and is decided from now on is held too"
    yield "webhooks that came since are lost with what they said: receipts, replies, opt-outs; ask the vendors for them"


# --- how it stands ----------------------------------------------------------------------------------------------------


def standing(host: "Host", tx: "Connection") -> dict[str, Any]:
    """How the fence stands, for `db status`."""
    from crmkit.engine.fence import Fence
    from crmkit.store import instance

    store = host.store()
    try:
        fence = Fence(host, store)
        found = fence.standing()
    finally:
        store.close()
    own, note = found.instance, found.note
    return {
        "name": None if own is None else own.name,
        "sequence": instance.sequence(tx) if own is None else own.sequence,
        "note": None if found.place is None else str(found.place),
        "noted": None if note is None else note.sequence,
        "noted_at": None if note is None else note.at,
        "doubtful_until": None if own is None else own.doubtful_until,
        "is_beside": fence.has_notes_beside,
        "fenced": None if found.fenced is None else str(found.fenced),
    }


def in_words(found: Mapping[str, Any]) -> str:
    """How the fence stands, in a line."""
    if found["fenced"] is not None:
        return str(found["fenced"])
    if found["name"] is None:
        return f"nothing was ever sent; the first to send notes it in {found['note'] or 'no folder at all'}"
    noted = "no note yet" if found["noted"] is None else f"try {found['noted']:,} noted in {found['note']}"
    return f"{found['name']} may send: it is at try {found['sequence']:,}, {noted}"
