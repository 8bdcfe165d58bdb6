"""What must hold after any number of kills: nothing lost, nothing decided twice, nothing sent twice."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.store import tables as t
from crmkit.store.engine import Store

#: Columns that tell when or under which number something was stored, not what.
_OURS = frozenset("id created_at recorded_at seen_at resolved_at tries claim_id lease_until started_at".split())
_REFERENCES = frozenset("profile_id order_id shop_id account_id family_id merged_into cause_id interaction_id".split())


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
        return told

    def key(self, message: dict[str, Any]) -> str:
        """A message's key, without the number of its interaction."""
        cause = f"{message['interaction_id']}:"
        key: str = message["key"]
        return f"{self.interaction[message['interaction_id']]}:{key.removeprefix(cause)}"

    def dump(self) -> dict[str, list[str]]:
        """Everything that must not depend on how often a run was interrupted; see `check` for messages' states."""
        tables = {table.name: [self.named(row) for row in self.rows(table)] for table in t.CORE if table not in _APART}
        tables["interaction"] = [
            {"told": self.interaction[row["id"]], "cause": self.interaction.get(row["cause_id"]), "key": row["key"]}
            for row in self.rows(t.interaction)
            if not row["type"].startswith("message-")
        ]
        tables["message"] = [
            {
                "key": self.key(row),
                "to": row["address"],
                "content": row["content_hash"],
                "decided_at": row["decided_at"],
                "fate": "left" if row["state"] in {"sent", "in-doubt"} else f"{row['state']} {row['reason']}",
            }
            for row in self.rows(t.message)
        ]
        return {
            name: sorted(json.dumps(row, sort_keys=True, default=str) for row in rows) for name, rows in tables.items()
        }


#: Compared otherwise, or of one run only.
_APART = (t.interaction, t.message, t.attempt, t.run, t.template, t.cursor)


def difference(expected: dict[str, list[str]], found: dict[str, list[str]]) -> str:
    """Which rows one dump has and the other has not; empty if none."""
    lines = []
    for name in expected:
        missing, extra = Counter(expected[name]) - Counter(found[name]), Counter(found[name]) - Counter(expected[name])
        lines += [f"- {name} {row}" for row in missing.elements()] + [f"+ {name} {row}" for row in extra.elements()]
    return "\n".join(lines[:40])


def check(url: str, ledger: Path) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Assert what must hold in one database after it was driven to its end.

    Returns:
        The canonical dump, and counts: messages sent, in doubt, in doubt and taken, lost, doubled.
    """
    accepted = Counter(ledger.read_text().splitlines() if ledger.exists() else ())
    store = Store(url)
    try:
        with store.read() as tx:
            world = World(tx)
            messages = world.rows(t.message)
            calls = Counter(tx.exec_driver_sql("SELECT interaction FROM calls_call").scalars())
            attempts = Counter(row["message_id"] for row in world.rows(t.attempt))
            waiting = world.rows(t.pending)
            told = Counter(row["type"] for row in world.rows(t.interaction))
            dump = world.dump()
    finally:
        store.close()
    assert not waiting, f"left undecided: {waiting}"
    lost, counts = [], Counter({"sent": 0, "doubt": 0, "taken": 0, "lost": 0, "doubled": 0})
    for row in messages:
        state, taken = row["state"], accepted[row["key"]]
        if state == "sent":
            counts["sent"] += 1
            lost += [row] if taken == 0 else []
            assert attempts[row["id"]] == 1, f"{row['key']}: sent in {attempts[row['id']]} recorded attempts"
        elif state == "in-doubt":
            counts["doubt"] += 1
            counts["taken"] += taken
            assert row["started_at"] is not None, f"{row['key']}: in doubt and never started"
        else:
            settled = state in {"suppressed", "held"} and row["reason"] is not None
            lost += [] if settled else [row]
            assert taken == 0, f"{row['key']}: {state}, and the server has it"
    counts["lost"] = len(lost)
    counts["doubled"] = sum(1 for count in accepted.values() if count > 1)
    assert not lost, f"lost: {lost}"
    assert not counts["doubled"], f"doubled: {accepted.most_common(3)}"
    assert set(accepted) <= {row["key"] for row in messages}, "the server has mail the outbox does not know"
    twice = {world.interaction[number]: count for number, count in calls.items() if count != 1}
    assert not twice, f"decided more than once: {twice}"
    heard = sum(told[name] for name in ("order-placed", "order-paid", "order-shipped", "thanked", "review-posted"))
    assert len(calls) == heard + told["message-sent"], "some interaction was not decided, or not by every plugin"
    assert told["message-sent"] == counts["sent"], "message-sent is not told once for each"
    return dump, dict(counts)


def digest(dump: dict[str, list[str]]) -> str:
    """A short name of a dump."""
    return hashlib.blake2b(json.dumps(dump, sort_keys=True).encode(), digest_size=8).hexdigest()
