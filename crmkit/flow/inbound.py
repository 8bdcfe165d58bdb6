"""Part of ingest: what customers said by themselves: messages to the shop, answers to surveys, consent.

Such facts happen once and never change. Who wrote is known by the address; at a gateway, where no shop is, a message
belongs to the shop that last wrote to that customer over it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.account import Shop
from crmkit.core.customer import normal_address
from crmkit.core.records import AnswerRecord, ConsentRecord, InboundRecord, Record
from crmkit.flow import consent
from crmkit.store import customers, orders, outbox

_Sender = tuple[str, str]


@dataclass(slots=True)
class Heard:
    """What came of it: interactions to append, and how many records of each kind were news."""

    told: list[dict[str, Any]] = field(default_factory=list)
    counts: list[tuple[str, str]] = field(default_factory=list)


def hear(
    tx: Connection,
    shop: Shop,
    records: Sequence[Record],
    profiles: Mapping[int, int],
    *,
    correlations: Sequence[str | None],
    listened: Collection[str],
    now: datetime,
) -> Heard:
    """Take in what customers said.

    Args:
        shop: the account it came by.
        records: the batch.
        profiles: {index in records: the profile of the buyer the record names}.
        correlations: what each record came of, in logs.
        listened: wire names of the events somebody handles.
        now: the run's clock.
    """
    said = {i: record for i, record in enumerate(records) if isinstance(record, InboundRecord | AnswerRecord)}
    consents = {index: record for index, record in enumerate(records) if isinstance(record, ConsentRecord)}
    heard = Heard()
    if not said and not consents:
        return heard
    addresses = {index: normal_address(record.sender, shop.region) for index, record in _inbound(said)}
    addresses |= {
        index: normal_address(record.address, shop.region)
        for index, record in consents.items()
        if record.address is not None
    }
    owners = customers.whose_are(tx, {one.value for one in addresses.values()})
    senders = {index: owners.get((one.kind, one.value)) for index, one in addresses.items()}
    parents = orders.ids_of(
        tx, shop.id, {r.order_external_id for r in said.values() if r.order_external_id is not None}
    )
    lately = _shops(tx, shop, {owner for owner in senders.values() if owner is not None})
    for index, record in said.items():
        payload: dict[str, Any]
        if isinstance(record, InboundRecord):
            payload = {"channel": record.channel, "sender": addresses[index].value, "text": record.text}
            kind, at, profile = "message-received", record.received_at, senders[index]
        else:
            payload = {"survey": record.survey, "answers": record.answers}
            if record.score is not None:
                payload["score"] = float(record.score)
            kind, at, profile = "survey-answered", record.answered_at, profiles.get(index)
        parent = parents.get(record.order_external_id or "")
        if profile is None and parent is not None:
            profile = parent["profile_id"]
        heard.counts.append((record.kind, "created"))
        heard.told.append(
            {
                "type": kind,
                "shop_id": lately.get(profile) if shop.kind == "gateway" else shop.id,
                "profile_id": profile,
                "order_id": parent["id"] if parent is not None else None,
                "actor": "customer",
                "occurred_at": at,
                "payload": payload,
                "key": f"{shop.id}:{record.kind}:{record.external_id}",
                "correlation_id": correlations[index],
            }
        )
    entries: list[dict[str, Any]] = []
    for index, one in consents.items():
        said_by = {**_entry(one, shop), "record": index, "correlation_id": correlations[index]}
        if index in addresses:
            entries.append({**said_by, "address": addresses[index].value})
        profile = profiles.get(index, senders.get(index))
        if profile is not None:
            entries.append({**said_by, "profile_id": profile})
    news = {row["record"] for row in consent.enter(tx, entries, listened=listened, now=now)} if entries else set()
    heard.counts += [(one.kind, "created" if index in news else "unchanged") for index, one in consents.items()]
    return heard


def _inbound(said: Mapping[int, Record]) -> Iterable[tuple[int, InboundRecord]]:
    return ((index, record) for index, record in said.items() if isinstance(record, InboundRecord))


def _entry(record: ConsentRecord, shop: Shop) -> dict[str, Any]:
    return {
        "channel": record.channel,
        "purpose": record.purpose,
        "state": record.state,
        "source": f"gateway:{shop.name}" if shop.kind == "gateway" else f"shop:{shop.id}",
        "actor": "customer",
        "wording": record.wording,
        "is_complaint": record.is_complaint,
        "occurred_at": record.said_at,
        "run_id": shop.run,
    }


def _shops(tx: Connection, shop: Shop, profiles: Collection[int]) -> dict[int | None, int]:
    """The shop that last wrote to each profile over this gateway."""
    if shop.kind != "gateway":
        return {}
    return {row["profile_id"]: row["shop_id"] for row in outbox.last_to(tx, shop.name, profiles)}
