"""`crmkit plugins trace`: what handlers made of an interaction, without anything being written."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from .conftest import CONFIG, NOW, Place

#: The plugin's file is imported once for each run here, all within one process.
pytestmark = pytest.mark.filterwarnings("ignore:This declarative base already contains a class")

POINTS = """
from crmkit import (
    Cancel, Emit, Event, Later, Note, OrderPaid, OrderShipped, Save, Send, Tables, hookimpl, on
)
from datetime import timedelta
from sqlmodel import Field, SQLModel

class StampsGiven(Event):
    points: int

class StampsDue(Event):
    pass

class Points(SQLModel, table=True):
    __tablename__ = "points_of"
    __table_args__ = {"extend_existing": True}
    __customer__ = "customer_id"
    customer_id: int = Field(primary_key=True)
    count: int = 0

class Day(SQLModel, table=True):
    __tablename__ = "points_day"
    __table_args__ = {"extend_existing": True}
    name: str = Field(primary_key=True)

@on(OrderShipped, load=(Points,))
def count(event, crm):
    known = crm.select(Points, customer_id=event.customer.id)
    crm.select(Day, name="x")
    yield Save(Points(customer_id=event.customer.id, count=1 + (known[0].count if known else 0)))
    yield Emit(StampsGiven(points=3))

@on(OrderShipped)
def thank(event, crm):
    yield Send("order-shipped", via=("email",), key=f"thanks:{event.order.external_id}")
    yield Later(StampsDue(), at=crm.now + timedelta(days=3))
    yield Note("thanked")
    yield Cancel(StampsGiven)

@on(OrderPaid)
def fail(event, crm):
    raise ValueError("no points today")

@on(StampsGiven)
def ignore(event, crm):
    return ()

@on(StampsDue)
def due(event, crm):
    return ()

@hookimpl
def crmkit_handlers():
    yield from (count, thank, fail, ignore, due)

@hookimpl
def crmkit_tables():
    yield Tables((Points, Day), "points_migrations")
"""
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0001", None, None, None

def upgrade():
    op.create_table("points_of", sa.Column("customer_id", sa.Integer, primary_key=True), sa.Column("count", sa.Integer))
    op.create_table("points_day", sa.Column("name", sa.String, primary_key=True))
"""


@pytest.fixture
def points(place: Place) -> Place:
    versions = place.folder / "points_migrations" / "versions"
    versions.mkdir(parents=True)
    (versions / "0001_first.py").write_text(MIGRATION)
    (place.folder / "points.py").write_text(POINTS)
    place.config.write_text(CONFIG.replace('use = ["care"]', 'use = ["care", "./points.py"]'))
    return place


def rows(place: Place) -> dict[str, list[Any]]:
    """Everything in the database."""
    with closing(sqlite3.connect(place.folder / "crm.db")) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def number(place: Place, order: str, kind: str) -> int:
    shown = place.ok("interactions", "list", "--order", order, "--type", kind, "--json")
    return int(json.loads(shown.splitlines()[0])["id"])


def traced(place: Place, which: int, *before: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.run("plugins", "trace", str(which), "--json", before=before).stdout)
    return found


def test_what_is_pending_is_traced_and_stays_pending(points: Place) -> None:
    points.run("sync", now=NOW)
    before = rows(points)
    found = traced(points, number(points, "T2", "order-shipped"), "--now", NOW)
    assert rows(points) == before
    assert (found["is_decided"], found["differences"]) == (False, [])
    assert [one["plugin"] for one in found["pending"]] == [None]
    order = [(one["plugin"], one["handler"]) for one in found["handlers"]]
    assert order[-2:] == [("points", "count"), ("points", "thank")]
    assert {plugin for plugin, _ in order[:-2]} == {"care"}
    count, thank = found["handlers"][-2:]
    assert [(query["table"], query["where"], query["rows"], query["is_preloaded"]) for query in count["queries"]] == [
        ("points_of", ["customer_id"], 0, True),
        ("points_day", ["name"], 0, False),
    ]
    assert count["actions"][0] == {"action": "Save", "row": {"table": "points_of", "customer_id": 1, "count": 1}}
    assert count["actions"][1] == {"action": "Emit", "event": {"event": "stamps-given", "points": 3}}
    assert [action["action"] for action in thank["actions"]] == ["Send", "Later", "Note", "Cancel"]
    assert thank["actions"][3] == {"action": "Cancel", "key": "stamps-given"}
    assert all(one["seconds"] > 0 for one in found["handlers"])
    assert {(row["plugin"], row["state"]) for row in found["messages"]} == {("care", "queued"), ("points", "queued")}


def test_what_an_adopted_database_holds_is_traced_as_held(points: Place) -> None:
    # SEMANTICS 29
    points.run("sync", now=NOW)
    which = number(points, "T2", "order-shipped")
    adopted(points, "2026-05-08 19:00:00.000000")
    found = traced(points, which, "--now", NOW)
    assert {(row["state"], row["reason"]) for row in found["messages"]} == {("held", "may-have-left")}
    adopted(points, None)
    points.run("dispatch", now=NOW)
    adopted(points, "2026-05-09 19:00:00.000000")  # what was decided before it was adopted was not in doubt
    assert traced(points, which)["differences"] == []


def adopted(place: Place, doubtful_until: str | None) -> None:
    """What happened before then may have been told by the database this one was restored in place of."""
    with closing(sqlite3.connect(place.folder / "crm.db")) as db, db:
        db.execute("UPDATE instance SET doubtful_until = ?", (doubtful_until,))


def test_what_was_decided_comes_out_as_it_was_recorded(points: Place) -> None:
    points.run("sync", now=NOW)
    points.run("dispatch", now=NOW)
    before = rows(points)
    which = number(points, "T2", "order-shipped")
    found = traced(points, which)
    assert rows(points) == before
    assert found["is_decided"]
    assert found["differences"] == []
    assert found["decided_as_of"] == "2026-05-08T09:00:00+00:00"
    assert {row["state"] for row in found["messages"]} == {"queued"}
    shown = points.ok("plugins", "trace", str(which))
    assert "as recorded" in shown
    assert "points: count" in shown
    assert "select points_of by customer_id: 1 row, preloaded" in shown
    assert "load points_of: read for the whole batch, one statement" in shown
    assert "Send template=order-shipped, via=[email], key=thanks:T2" in shown
    assert found["not_compared"] == ["rows of plugins' own tables (Save)", "timers (Later, Cancel)"]
    assert "as recorded, but for what is not compared: rows of plugins' own tables (Save)" in shown


def test_what_differs_from_what_was_recorded_is_said(points: Place) -> None:
    points.run("sync", now=NOW)
    points.run("dispatch", now=NOW)
    changed = POINTS.replace("yield Emit(StampsGiven(points=3))", "yield Emit(StampsDue())").replace(
        'key=f"thanks:{event.order.external_id}"', 'key=f"other:{event.order.external_id}"'
    )
    (points.folder / "points.py").write_text(changed)
    (points.folder / "templates").mkdir()
    (points.folder / "templates" / "order-shipped.en.email.txt").write_text(
        '---\npurpose = "transactional"\nsubject = "It left"\n---\nOn its way.\n'
    )
    said = traced(points, number(points, "T2", "order-shipped"))["differences"]
    assert "the message order-shipped of care would say something else" in said
    assert "the message order-shipped of points was recorded (sent), and is not asked for now" in said
    assert "the message order-shipped of points is new: queued; nothing of that key was recorded" in said
    assert "points told stamps-given, and does not now" in said
    assert "points tells stamps-due now, and did not" in said


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("StampsGiven(points=40)", ["points tells stamps-given with another points"]),
        ("StampsGiven(points=3), key='once'", ["points tells stamps-given with another key"]),
        ("StampsGiven(points=3)", []),
    ],
)
def test_what_an_event_says_is_compared_too(points: Place, told: str, said: list[str]) -> None:
    points.run("sync", now=NOW)
    points.run("dispatch", now=NOW)
    (points.folder / "points.py").write_text(POINTS.replace("StampsGiven(points=3)", told))
    assert traced(points, number(points, "T2", "order-shipped"))["differences"] == said


def test_what_told_nobody_is_traced_as_of_when_it_was_recorded(points: Place) -> None:
    points.run("sync", now=NOW)
    points.run("dispatch", now=NOW)
    found = traced(points, number(points, "T5", "order-placed"))
    assert found["is_decided"]
    assert found["decided_as_of"] == "2026-05-08T18:00:00+00:00"


def test_a_timer_that_fired_since_is_no_difference(points: Place) -> None:
    points.run("sync", now=NOW)
    points.run("dispatch", now=NOW)
    points.run("dispatch", now="2026-05-12T20:00+02:00")
    which = number(points, "T2", "order-shipped")
    assert json.loads(points.ok("interactions", "list", "--type", "stamps-due", "--json").splitlines()[0])
    assert traced(points, which)["differences"] == []


def test_a_handler_that_raises_is_named_with_what_it_waits_for(points: Place) -> None:
    points.run("sync", now=NOW)
    points.run("dispatch", now=NOW)
    which = number(points, "T5", "order-paid")
    result = points.run("plugins", "trace", str(which), before=("--now", NOW))
    assert result.exit_code == 1
    assert "points: fail" in result.stdout
    assert "raised: ValueError: no points today" in result.stdout
    assert "parked by points after 5 tries: ValueError: no points today" in result.stdout
    assert "nothing that points asked for counts" in result.stderr
    found = traced(points, which)
    assert found["failed"] == {"points": "ValueError: no points today"}
    assert found["differences"] == []


def test_what_the_database_refuses_is_said(points: Place) -> None:
    points.run("sync", now=NOW)
    (points.folder / "points.py").write_text(POINTS.replace("count=1 +", "count=10**30 +"))
    found = traced(points, number(points, "T2", "order-shipped"), "--now", NOW)
    assert "cannot be stored" in found["failed"]["points"] or "refused it" in found["failed"]["points"]


def test_history_is_said_to_be_history(points: Place) -> None:
    points.run("sync", now=NOW)
    found = traced(points, number(points, "T1", "order-shipped"), "--now", NOW)
    assert (found["is_quiet"], found["messages"]) == (True, [])


def test_in_safe_mode_a_plugin_that_was_left_out_is_not_asked(points: Place) -> None:
    points.run("sync", now=NOW)
    found = traced(points, number(points, "T2", "order-shipped"), "--now", NOW, "--only-plugins", "care")
    assert {one["plugin"] for one in found["handlers"]} == {"care"}
    assert found["not_loaded"] == ["points"]
    points.run("dispatch", now=NOW)
    which = str(number(points, "T2", "order-shipped"))
    shown = points.run("plugins", "trace", which, before=("--only-plugins", "care")).stdout
    assert "points is not loaded: what it told is left out" in shown
    assert "other than recorded" not in shown


def test_what_there_is_not_is_said_and_nothing_is_created(points: Place) -> None:
    assert "does not exist yet" in points.run("plugins", "trace", "1").stderr
    assert not (points.folder / "crm.db").exists()
    points.run("sync", now=NOW)
    result = points.run("plugins", "trace", "999999")
    assert (result.exit_code, "there is no interaction #999999" in result.stderr) == (2, True)
