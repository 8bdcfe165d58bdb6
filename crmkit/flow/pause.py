"""Pause and resume: all, a channel, a template or a gateway keeps its messages until it is resumed.

It takes effect in the middle of a run: what is not marked yet does not leave, for the mark asks again. Deciding goes
on; new messages wait with the rest. Refused credentials pause their gateway, until somebody resumes it or its settings
are others; so does too much that goes wrong (`reputation`).
"""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, SecretStr
from sqlalchemy.engine import Connection

from crmkit.core.interaction import CRMKIT
from crmkit.core.message import Reason, State
from crmkit.flow import chain, reputation
from crmkit.flow.setup import Entry, Setup
from crmkit.flow.spread import spread
from crmkit.store import bulk, chains, outbox, pauses, quotas

SCOPES = ("all", "channel", "template", "gateway")


class Pauses:
    """What is paused at a moment."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows
        self.gateways: Collection[str] = frozenset(row["name"] for row in rows if row["scope"] == "gateway")

    @classmethod
    def standing(cls, tx: Connection) -> "Pauses":
        """What is paused now."""
        return cls(pauses.standing(tx))

    def of(self, message: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What pauses a message, whichever gateway it goes by."""
        for row in self.rows:
            scope = row["scope"]
            if scope == "all" or (scope != "gateway" and message[scope] == row["name"]):
                return row
        return None

    def apply(self, messages: Sequence[dict[str, Any]]) -> None:
        """Say of messages that are about to be queued that they wait for a pause to end."""
        for message in messages if self.rows else ():
            row = self.of(message) if message["state"] == State.QUEUED else None
            if row is not None:
                message.update(reason=Reason.PAUSED, detail=pauses.detail(row))


def pause(
    tx: Connection,
    setup: Setup,
    scope: str,
    name: str,
    now: datetime,
    *,
    reason: str | None = None,
    actor: str,
    fingerprint: str | None = None,
) -> int:
    """Let nothing of this leave until it is resumed, and let what is queued say so.

    Returns:
        How many queued messages say so already, or have moved on; a run goes on with the rest.
    """
    bulk.lock(tx, chains.LOCK)
    row = pauses.begin(tx, scope, name, now, reason=reason, actor=actor, fingerprint=fingerprint)
    return spread(tx, lambda: setup, row, now)


def resume(tx: Connection, setup: Setup, scope: str, name: str, now: datetime) -> int | None:
    """Let it leave again, in its old order. What a gateway does is counted anew from now on.

    Returns:
        How many messages no longer wait for a pause, or for another gateway of their chain; None if this was not
        paused.
    """
    name = "" if scope == "all" else name
    if scope == "gateway":
        quota = quotas.lock(tx, name)  # accounts before messages, as everywhere
        quota.watched_from = now
        quotas.save(tx, quota)
    bulk.lock(tx, chains.LOCK)
    if not pauses.lift(tx, scope, name):
        return None
    free = pauses.count_free(tx, scope, name)
    freed = pauses.unlabel(tx)
    turned = chain.turn_back(tx, setup, now) if scope == "gateway" else 0
    kept = relabel(tx, setup, now)
    return freed - kept + turned if scope == "gateway" else free


def leaving(tx: Connection, scope: str, name: str, now: datetime) -> list[Mapping[str, Any]]:
    """What will leave once this is resumed, by `template` and `channel`: `now`, `later`, and what is `stale` by now.

    Of what leaves the last look still takes what was opted out of, or overtaken, meanwhile.
    """
    return list(pauses.leaving(tx, scope, "" if scope == "all" else name, now))


def relabel(tx: Connection, setup: Setup, now: datetime) -> int:
    """Queued messages say so where a pause keeps them. Returns how many."""
    rows = pauses.standing(tx)
    count = pauses.label(tx, rows)
    for row in rows:
        if row["scope"] == "gateway":
            count += chain.move_on(tx, setup, row["name"], now, only_label=True, most=None)
    return count


def refuse(tx: Connection, setup: Setup, name: str, error: str, now: datetime) -> None:
    """Pause a gateway whose credentials were refused; what somebody paused by hand stays as it was."""
    bulk.lock(tx, chains.LOCK)
    standing = pauses.of_gateway(tx, name)
    if standing is not None and standing["actor"] != CRMKIT:
        return
    entry = setup.entry(name)
    printed = fingerprint(entry, os.urandom(8)) if entry is not None else None
    reason = f"credentials refused: {error}"
    pause(tx, setup, "gateway", name, now, reason=reason, actor=CRMKIT, fingerprint=printed)
    if standing is None:
        reputation.tell(tx, name, reason, now, listened=setup.listened)


def lift_mended(tx: Connection, setup: Setup, now: datetime) -> list[str]:
    """Resume gateways that crmkit paused and whose settings have changed since. Returns their names."""
    lifted = []
    for row in pauses.standing(tx):
        entry = setup.entry(row["name"]) if row["scope"] == "gateway" else None
        if entry is None or row["fingerprint"] is None:
            continue
        salt = bytes.fromhex(row["fingerprint"].partition(":")[0])
        if fingerprint(entry, salt) != row["fingerprint"]:
            resume(tx, setup, "gateway", row["name"], now)
            lifted.append(row["name"])
    return lifted


def fingerprint(entry: Entry, salt: bytes) -> str:
    """What tells an entry's settings from others, secrets among them, and is of no use for finding them out."""
    told = repr((entry.adapter.name, _plain(entry.settings)))
    return f"{salt.hex()}:{hashlib.pbkdf2_hmac('sha256', told.encode(), salt, 100_000).hex()}"


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def waits(tx: Connection) -> dict[tuple[str, str], int]:
    """How many queued messages each pause is about, by scope and name; a message may be counted for several."""
    found = {}
    for row in pauses.standing(tx):
        found[row["scope"], row["name"]] = outbox.count_queued(tx, row["scope"], row["name"])
    return found
