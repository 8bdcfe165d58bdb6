"""Everything that is kept of a customer is exported, and nothing of others."""

import json

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from crmkit.core.actions import Later, Note, Send, staff
from crmkit.core.events import Noted, OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Address, Buyer, ConsentRecord, ParcelRecord
from crmkit.flow.setup import StaffMember
from crmkit.store import bulk, export
from crmkit.store import tables as t
from crmkit.testing.dump import everything
from tests.play import HOUR, NOON, Play, buyer, order

ANN = Buyer(external_id="b-ann", name="Ann Hushedson", email="ann@hushed.example", phone="+1 202 555 0123")
BO = buyer("bo")


class Shelf(SQLModel, table=True):
    """A plugin's rows about customers."""

    __tablename__ = "export_shelf"
    __customer__ = "owner"

    id: int = Field(primary_key=True)
    owner: int
    book: str


#: Tables of which nothing is a customer's, or nothing that names them by number: why.
ELSEWHERE = {
    **dict.fromkeys(("account", "cursor", "run", "stranger", "memory", "instance", "secret"), "the installation's"),
    **dict.fromkeys(("quiet", "template", "quota", "pause", "token", "rhythm"), "the installation's"),
    **dict.fromkeys(("inbox", "hint", "quarantine"), "as it came in: what was read of it is exported"),
    "forgotten": "hashes of whoever is nobody any more",
    "plan_file": "where plans are",
}


def test_every_table_is_exported_or_said_not_to_be() -> None:
    exported = {table.name for table in (*export.BY_PROFILE, *export.BY_ORDER, *export.BY_MESSAGE)}
    exported |= {"profile", "consent", "suppression", "order_line"}
    assert {table.name for table in t.CORE} == exported | set(ELSEWHERE)


def tried(tx: sa.Connection) -> None:
    """Each message was tried, its vendor wrote of it, and somebody had it tried again."""
    for row in tx.execute(sa.select(t.message)).mappings().all():
        number, said = row["id"], f"no {row['address']}"
        of = {"id": number, "message_id": number}
        what = {"number": 1, "gateway": "mail", "started_at": NOON, "finished_at": NOON, "outcome": "deferred"}
        redirected = {"redirected_to": row["address"] if row["staff"] else None}
        bulk.insert(tx, t.attempt, [{**of, **what, "detail": said, **redirected}])
        to = {"message_key": row["key"], "recipient": row["address"]}
        at = {"account": "mail", "external_id": str(number), "occurred_at": NOON, "received_at": NOON}
        bulk.insert(tx, t.receipt, [{**of, **to, **at, "state": "failed", "detail": said}])
        bulk.insert(tx, t.intervention, [{**of, "at": NOON, "actor": "mallory", "action": "retry", "was": "failed"}])
    tx.execute(sa.update(t.message).values(detail="tried again by mallory"))


def test_all_that_is_kept_of_a_customer_is_there_and_nothing_of_others(play: Play) -> None:
    play.more["staff"] = [StaffMember("Chen", frozenset({"care"}), {"email": "chen@shop.example"})]
    play.template("alert.en.email", 'purpose = "transactional"\nsubject = "S"\n---\nhello')
    play.plugin(
        "one",
        on(OrderPlaced)(
            lambda event, crm: [
                Send("news", via=("email",)),
                Send("alert", via=("email",), to=staff("care"), key="own"),
                Send("alert", via=("email",), to=staff("Chen"), combine=HOUR),
                Note("a word"),
                Later(Noted(text="late"), at=NOON + HOUR),
            ]
        ),
    )
    said = Address(kind="email", value="ann@hushed.example")
    play.take(
        order("1", ANN),
        order("2", BO),
        *(ParcelRecord(order_external_id=number, ordinal=1, shipped_at=NOON) for number in "12"),
        ConsentRecord(external_id="c", address=said, state="granted", said_at=NOON),
    )
    play.shop(2)
    play.take(order("1", BO), shop=2)  # another shop's order of the same number
    play.decide()
    play.write(tried)
    with play.store.read() as tx:
        owner = {row["name"]: row["family_id"] for row in tx.execute(sa.select(t.profile)).mappings()}
        found = export.everything(tx, owner["Ann Hushedson"])
        whole = everything(tx)
    told = json.dumps(found, default=str).lower()
    for name, rows in whole.items():
        theirs = [row for row in rows if "hushed" in row.lower() or "2025550123" in row]
        assert len(theirs) <= len(found.get(name, [])) or name in ELSEWHERE, name
    assert {"profile", "identity", "address", "orders", "interaction", "message", "timer", "parcel", "consent"} <= set(
        found
    )
    assert [row["external_id"] for row in found["orders"]] == ["1"]
    assert [(row["shop_id"], row["order_external_id"]) for row in found["parcel"]] == [(1, "1")]
    assert "bo@" not in told
    assert "chen" not in told
    assert "mallory" not in told, "who intervened is nobody's but the staff's"
    assert "alert" in [row["template"] for row in found["message"]]
    assert any(row["payload"].get("template") == "alert" for row in found["timer"])
    hers = {row["id"] for row in found["message"] if row["template"] == "news"}
    assert [row["detail"] for row in found["attempt"] if row["message_id"] in hers] == ["no ann@hushed.example"]
    assert [row["recipient"] for row in found["receipt"] if row["message_id"] in hers] == ["ann@hushed.example"]
    assert {row["action"] for row in found["intervention"]} == {"retry"}


def test_what_plugins_keep_of_them_is_there_by_whichever_profile(play: Play) -> None:
    shelf = t.table_of(Shelf)
    play.write(shelf.create)
    twin = Buyer(external_id="b-ann-2", email="ann@hushed.example")
    play.take(order("1", ANN), order("2", twin), order("3", BO))
    profiles = {row["key"]: row for row in play.rows(t.profile)}
    hers = [row["id"] for row in profiles.values() if "b-ann" in row["key"]]
    assert len(hers) == 2
    rows = [{"id": number, "owner": row["id"], "book": row["key"]} for number, row in enumerate(profiles.values(), 1)]
    play.write(lambda tx: tx.execute(sa.insert(shelf), rows))
    play.write(lambda tx: tx.execute(sa.update(t.profile).where(t.profile.c.id.in_(hers)).values(family_id=hers[0])))
    with play.store.read() as tx:
        found = export.everything(tx, hers[0])
    assert sorted(row["owner"] for row in found["export_shelf"]) == sorted(hers)
    assert [row["external_id"] for row in found["orders"]] == ["1", "2"]
    play.write(shelf.drop)
