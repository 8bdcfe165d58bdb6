"""What must hold after any number of kills: nothing lost, nothing decided or sent twice, no receipt forgotten."""

import json
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crashkit.gateways import GATEWAYS
from crashkit.playbook import HEARD
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.testing.ledger import Ledger, violations

#: Columns that tell when, by which run or under which number something was stored, not what.
_OURS = frozenset(
    "id run_id correlation_id created_at recorded_at seen_at synced_at resolved_at tries claim_id lease_until "
    "started_at claimed_at reserved".split()
)
_REFERENCES = frozenset("profile_id order_id shop_id account_id family_id merged_into cause_id interaction_id".split())
#: The gateway entry to the mail server; the others are called as their kind.
MAIL = "mail"
#: What left, whatever is known of it.
_LEFT = frozenset({"sent", "delivered", "in-doubt"})

Dump = dict[str, list[str]]


class World:
    """A database, with every number replaced by what it stands for, so that two runs can be compared."""

    def __init__(self, tx: Connection) -> None:
        self.tx = tx
        self.profile = {row["id"]: row["key"] for row in self.rows(t.profile)}
        self.order = {row["id"]: row["external_id"] for row in self.rows(t.orders)}
        self.child = {
            name: {row["id"]: row[key] for row in self.rows(table)}
            for name, table, key in (("parcel", t.parcel, "key"), ("review", t.review, "external_id"))
        }
        self.doubted = {row["message_id"] for row in self.rows(t.attempt) if row["outcome"] == "in-doubt"}
        self.interaction = {row["id"]: self._interaction(row) for row in self.rows(t.interaction)}

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        return [dict(row) for row in self.tx.execute(sa.select(table)).mappings()]

    def _interaction(self, row: dict[str, Any]) -> str:
        payload = {key: self.child.get(key, {}).get(value, value) for key, value in (row["payload"] or {}).items()}
        told = json.dumps(payload, sort_keys=True, default=str)
        who, what = self.profile.get(row["profile_id"]), self.order.get(row["order_id"])
        return f"{row['type']} {what} {who} {row['occurred_at']} {row['actor']} {told} {row['depth']}"

    def named(self, row: dict[str, Any]) -> dict[str, Any]:
        told = {key: value for key, value in row.items() if key not in _OURS | _REFERENCES}
        told["profile"], told["order"] = self.profile.get(row.get("profile_id")), self.order.get(row.get("order_id"))
        told["family"] = self.profile.get(row.get("family_id"))
        told["cause"] = self.interaction.get(row.get("cause_id") or row.get("interaction_id"))
        if row.get("kind") == "gateway":
            del told["announce_from"]  # when it was first opened: it announces nothing
        return told

    def fate(self, message: dict[str, Any]) -> str:
        """What became of a message, as far as that does not depend on kills: doubt ends in more than one way."""
        has_left = message["state"] in _LEFT or message["id"] in self.doubted
        return "left" if has_left else f"{message['state']} {message['reason']}"

    def dump(self, *, is_timed: bool = True) -> Dump:
        """Everything that must not depend on how often a run was interrupted; see `check` for messages' states.

        Args:
            is_timed: with when messages were decided, which a clock that runs makes different every time.
        """
        tables = {table.name: [self.named(row) for row in self.rows(table)] for table in t.CORE if table not in _APART}
        tables["interaction"] = [
            {"told": self.interaction[row["id"]], "cause": self.interaction.get(row["cause_id"]), "key": row["key"]}
            for row in self.rows(t.interaction)
            if not row["type"].startswith("message-") or row["type"] == "message-received"
        ]
        tables["message"] = [
            {
                "key": row["key"],
                "to": row["address"],
                "content": row["content_hash"],
                "decided_at": row["decided_at"] if is_timed else None,
                "fate": self.fate(row),
            }
            for row in self.rows(t.message)
        ]
        # who looked at what comes, and when, depends on who was killed; what is silent does not
        silent = [{"kind": row["kind"], "since": row["silent_since"]} for row in self.rows(t.rhythm)]
        tables["silent"] = [row for row in silent if row["since"] is not None]
        return {
            name: sorted(json.dumps(row, sort_keys=True, default=str) for row in rows) for name, rows in tables.items()
        }


#: Compared otherwise, or of one run only.
_APART = (
    *(t.interaction, t.message, t.attempt, t.run, t.template, t.cursor, t.receipt, t.inbox, t.secret, t.instance),
    t.rhythm,
)


def difference(expected: Dump, found: Dump) -> str:
    """Which rows one dump has and the other has not; empty if none."""
    lines = []
    for name in expected:
        missing, extra = Counter(expected[name]) - Counter(found[name]), Counter(found[name]) - Counter(expected[name])
        lines += [f"- {name} {row}" for row in missing.elements()] + [f"+ {name} {row}" for row in extra.elements()]
    return "\n".join(lines[:40])


def size(dump: Dump) -> dict[str, int]:
    """How many rows of each table a dump has."""
    return {name: len(rows) for name, rows in dump.items()}


@dataclass
class Offered:
    """What vendors said by webhooks that were answered: (account, id) of receipts and of replies."""

    receipts: set[tuple[str, str]] = field(default_factory=set)
    replies: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class Found:
    """What there is in the end.

    Attributes:
        dump, at_once: canonical; with and without times.
        wrong: what must not be, in words.
        shop: the number the shop was stored under, which is part of every key. A server draws a new one for the second
            try to store it; then two runs can only be compared by how much there is.
        counts: messages by what became of them; `lost`, `doubled`, `doubt`, `taken` (in doubt, and the vendor has it),
            `out of order`.
    """

    dump: Dump
    at_once: Dump
    wrong: list[str]
    shop: int
    counts: Counter[str]


def check(url: str, ledgers: Mapping[str, Ledger], offered: Offered) -> Found:
    """What there is in one database after it was driven to its end.

    Args:
        url: the database.
        ledgers: by gateway entry.
        offered: what came by webhook.
    """
    store = Store(url)
    try:
        with store.read() as tx:
            world = World(tx)
            shop = min(row["id"] for row in world.rows(t.account) if row["kind"] == "shop")
            found = Found(world.dump(), world.dump(is_timed=False), [], shop, Counter())
            _messages(world, ledgers, found)
            _log(world, found)
            _order(world, found)
            _inbox(world, offered, found)
    finally:
        store.close()
    return found


def _messages(world: World, ledgers: Mapping[str, Ledger], found: Found) -> None:
    """Lost: neither delivered, held nor suppressed with a reason, nor in doubt where nobody can say. Doubled: see
    `violations`."""
    messages, attempts = world.rows(t.message), world.rows(t.attempt)
    for name, ledger in ledgers.items():
        kind = GATEWAYS.get(name)
        can_ask, tells_repeats = name == "asking", kind is not None and kind.deduplicates
        found.wrong += [
            f"{name}: {what}"
            for what in violations(
                ledger, messages, attempts, gateway=name, deduplicates=tells_repeats, looks_up=can_ask
            )
        ]
        accepted, requests = ledger.accepted(), ledger.requests()
        doubts = Counter(row["message_id"] for row in attempts if row["outcome"] == "in-doubt")
        for row in messages:
            if tells_repeats:
                found.counts["doubled"] += requests[row["key"]] > 1 + doubts[row["id"]]
            else:
                found.counts["doubled"] += accepted[row["key"]] > 1
            if row["gateway"] != name:
                continue
            state, is_taken = row["state"], accepted[row["key"]] > 0
            if state == "in-doubt" and not can_ask and not tells_repeats:
                found.counts.update(doubt=1, taken=int(is_taken))
            elif state in {"sent", "delivered"} and is_taken:
                found.counts.update({"left": 1, f"left by {name}": 1})
            elif state not in {"suppressed", "held"} or row["reason"] is None:
                found.counts["lost"] += 1
                found.wrong.append(f"{name}: lost: {row['key']} is {state} ({row['reason']}, {row['detail']})")
    stray = {row["key"]: row["state"] for row in messages if row["gateway"] not in ledgers}
    found.wrong += [f"{key} is {state} and goes by nothing" for key, state in stray.items() if state in _LEFT]


def _log(world: World, found: Found) -> None:
    """Everything was decided once, and what became of each message told once."""
    calls = Counter(world.tx.exec_driver_sql("SELECT interaction FROM calls_call").scalars())
    interactions = world.rows(t.interaction)
    heard = {row["id"] for row in interactions if row["type"] in HEARD}
    found.wrong += [f"left undecided: {row}" for row in world.rows(t.pending)]
    found.wrong += [f"decided {n} times: {world.interaction[number]}" for number, n in calls.items() if n != 1]
    found.wrong += [f"not decided: {world.interaction[number]}" for number in heard - set(calls)]
    told = Counter(
        (row["type"], row["payload"]["message"])
        for row in interactions
        if row["type"] in {"message-sent", "message-delivered"}
    )
    found.wrong += [f"told {n} times: {what}" for what, n in told.items() if n != 1]
    for row in world.rows(t.message):
        if row["state"] in {"sent", "delivered"} and not told[f"message-{row['state']}", row["id"]]:
            found.wrong.append(f"{row['key']} is {row['state']}, and that was not told")


def _order(world: World, found: Found) -> None:
    """Nothing was decided before an older thing of the same customer that was stored by then."""
    i, p = t.interaction.c, t.profile.c
    statement = (
        sa.select(i.id, i.type, i.occurred_at, p.family_id, p.id)
        .join(t.profile, p.id == i.profile_id)
        .where(i.type.in_([kind for kind in HEARD if kind.startswith("order-")]))
        .order_by(i.id)
    )
    calls = {of: number for number, of in world.tx.exec_driver_sql("SELECT id, interaction FROM calls_call")}
    before: dict[int, list[tuple[Any, int, int, int]]] = {}
    for number, kind, occurred_at, family, profile in world.tx.execute(statement):
        mine = (occurred_at, number, calls.get(number, 0), profile)
        for older in before.setdefault(family, []):  # stored before this one
            if older[:2] < mine[:2] and older[2] > mine[2]:
                told = {"customer": family, "older": older, "newer": (kind, *mine)}
                found.wrong.append(f"decided out of order: {json.dumps(told, default=str)}")
                found.counts["out of order"] += 1
        before[family].append(mine)


def _inbox(world: World, offered: Offered, found: Found) -> None:
    """Every webhook that was answered is taken in, and each thing it says once."""
    found.wrong += [f"webhook {row['id']} is {row['state']}" for row in world.rows(t.inbox) if row["state"] != "done"]
    receipts = world.rows(t.receipt)
    _once(found, "receipt", offered.receipts, Counter((row["account"], row["external_id"]) for row in receipts))
    states = {row["id"]: row["state"] for row in world.rows(t.message)}
    for row in receipts:
        if states.get(row["message_id"]) != "delivered":
            what = f"its message is {states.get(row['message_id'])}"
            found.wrong.append(f"receipt {row['external_id']} of {row['account']}: {what}")
    replies = [row["key"].split(":") for row in world.rows(t.interaction) if row["type"] == "message-received"]
    accounts = {str(row["id"]): row["name"] for row in world.rows(t.account)}
    _once(found, "reply", offered.replies, Counter((accounts[key[0]], key[-1]) for key in replies))


def _once(found: Found, what: str, offered: Set[tuple[str, str]], stored: Counter[tuple[str, str]]) -> None:
    found.wrong += [f"{what} lost: {one}" for one in offered - set(stored)]
    found.wrong += [f"{what} stored {n} times: {one}" for one, n in stored.items() if n > 1]
