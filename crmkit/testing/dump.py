"""What a database holds, in forms that can be compared.

`everything` is every row as it stands. `canonical` is what must come out the same whatever order the facts arrived in:
no surrogate numbers, no times of recording, no frozen `occurred_at`, not whether a refusal was settled since, and not
the interactions that tell of a change seen (an order reopened, a promise moved, a stage or a consent changed), which
depend on what was known when.
"""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from crmkit.store import tables as t

#: Interactions that tell of a change, and so of the order in which facts arrived.
OF_CHANGES = frozenset({"order-reopened", "order-promise-changed", "stage-changed", "consent-changed"})

Dump = dict[str, list[str]]


def everything(tx: Connection) -> Dump:
    """Every row of every table, numbers included."""
    return {table.name: sorted(_line(row) for row in tx.execute(sa.select(table)).mappings()) for table in t.CORE}


def canonical(tx: Connection) -> Dump:
    """What the facts came to, whatever order they arrived in."""
    return _Canon(tx).dump()


def _line(row: Mapping[Any, Any]) -> str:
    return json.dumps(dict(row), sort_keys=True, default=str)


class _Canon:
    def __init__(self, tx: Connection) -> None:
        self.rows = {table.name: [dict(row) for row in tx.execute(sa.select(table)).mappings()] for table in t.CORE}
        self.profiles = {row["id"]: row for row in self.rows["profile"]}
        self.orders = {row["id"]: row for row in self.rows["orders"]}
        members: dict[int, list[str]] = {}
        for row in self.rows["profile"]:
            members.setdefault(row["family_id"], []).append(row["key"])
        self.families = {number: "+".join(sorted(keys)) for number, keys in members.items()}

    def dump(self) -> Dump:
        found: dict[str, list[dict[str, Any]]] = {
            "profile": [self._profile(row) for row in self.rows["profile"]],
            "interaction": [self._told(row) for row in self.rows["interaction"] if row["type"] not in OF_CHANGES],
            "quarantine": [
                {name: row[name] for name in ("kind", "scope", "ref", "reason")} for row in self.rows["quarantine"]
            ],
        }
        for name in ("identity", "address", "consent", "orders", "order_line", "review", "receipt"):
            found[name] = [self._plain(row) for row in self.rows[name]]
        for name in ("parcel", "payment", "refund", "goods_return"):
            found[name] = [self._plain(row) for row in self.rows[name]]
        found["suppression"] = [self._shut_out(row) for row in self.rows["suppression"]]
        return {name: sorted(_line(row) for row in rows) for name, rows in found.items()}

    def _profile(self, row: Mapping[str, Any]) -> dict[str, Any]:
        root = self.profiles[row["family_id"]]
        shown = {name: root[name] for name in ("stage", "cycle", "stage_at")}
        for name in ("key", "name", "locale", "timezone", "city", "country", "birthday", "sources", "needs_review"):
            shown[name] = row[name]
        return {**shown, "family": self.families[row["family_id"]]}

    def _plain(self, row: Mapping[str, Any]) -> dict[str, Any]:
        shown = {
            k: v for k, v in row.items() if k not in {"id", "recorded_at", "received_at", "order_id", "message_id"}
        }
        if row.get("profile_id") is not None:
            shown["profile_id"] = self.profiles[row["profile_id"]]["key"]
        if row.get("order_id") is not None:
            shown["order_id"] = self._order(row["order_id"])
        return shown

    def _shut_out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A suppression, by the address; one that a message or its receipt brought, without that message's number."""
        kind, _, number = row["source"].partition(":")
        is_ours = kind in {"message", "receipt"}
        return {**{k: v for k, v in row.items() if k != "id"}, "source": kind if is_ours else f"{kind}:{number}"}

    def _order(self, number: int) -> str:
        return f"{self.orders[number]['shop_id']}:{self.orders[number]['external_id']}"

    def _told(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """An interaction, told for a family: of its order's buyer, its review's writer, else of its profile."""
        payload, owner = dict(row["payload"] or {}), row["profile_id"]
        for name in ("parcel", "refund", "review"):
            if name in payload:
                child = next(one for one in self.rows[name] if one["id"] == payload[name])
                payload[name] = [child["order_external_id"], child.get("key") or child["external_id"]]
                owner = child.get("profile_id")
        if row["order_id"] is not None:
            owner = self.orders[row["order_id"]]["profile_id"]
        return {
            "type": row["type"],
            "shop_id": None if row["type"] == "customer-created" else row["shop_id"],  # whose facts were read first
            "order": None if row["order_id"] is None else self._order(row["order_id"]),
            "family": None if owner is None else self.families[self.profiles[owner]["family_id"]],
            "actor": row["actor"],
            "payload": payload,
            "key": row["key"],
        }
