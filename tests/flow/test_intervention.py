"""What a person does to messages: try again, release what is held, settle a doubt, cancel; also while a run goes on."""

from collections import Counter
from typing import Any

import pytest

from crmkit.core.actions import Send, staff
from crmkit.core.errors import DoubtError
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.message import Message, Reason, Receipt
from crmkit.flow import intervention
from crmkit.flow.claim import claim
from crmkit.flow.intervention import By, Done
from crmkit.flow.setup import StaffMember
from crmkit.store import customers, forgotten, prune
from crmkit.store import tables as t
from crmkit.store.instance import put_aside
from crmkit.store.interventions import Meant, counted
from tests.play import HOUR, NOON, Play, buyer, entry, order, statements
from tests.scripted import Deduplicating, Scripted, accept, queue, send

ANN = By("ann", NOON + HOUR, "mended")


def refuse(message: Message) -> Receipt:
    return message.rejected(Reason.CONTENT, "no")


def do(play: Play, what: str, meant: Meant | None = None, **options: Any) -> Done:
    states = intervention.STATES[what]
    step: Any = getattr(intervention, what)
    with play.store.begin() as tx:
        done: Done = step(tx, play.setup, meant or Meant(states=states), ANN, **options)
    return done


def states(play: Play) -> dict[str, int]:
    return dict(Counter(row["state"] for row in play.rows(t.message)))


async def test_what_failed_is_tried_again_as_it_was_frozen(play: Play) -> None:
    queue(play, 2)
    await send(play, Scripted(refuse))
    before = play.rows(t.message)
    assert do(play, "retry").states == {"queued": 2}
    assert [(row["tries"], row["not_before"]) for row in play.rows(t.message)] == [(0, ANN.now)] * 2
    await send(play, Scripted(accept), NOON + HOUR)
    assert states(play) == {"sent": 2}
    assert [(row["key"], row["text"]) for row in play.rows(t.message)] == [(row["key"], row["text"]) for row in before]


async def test_who_did_it_is_kept(play: Play) -> None:
    queue(play)
    await send(play, Scripted(refuse))
    do(play, "retry")
    kept = play.one(t.intervention)
    assert (kept["actor"], kept["action"], kept["was"], kept["reason"]) == ("ann", "retry", "failed", "mended")
    assert play.one(t.message)["detail"] == "tried again by ann: mended"


# SEMANTICS 24
async def test_what_may_have_arrived_is_not_repeated_unless_somebody_says_so(play: Play) -> None:
    queue(play)
    await send(play, Scripted(DoubtError("timed out")))
    assert do(play, "retry").left == {"may-repeat": 1}
    assert states(play) == {"in-doubt": 1}
    assert do(play, "retry", may_repeat=True).states == {"queued": 1}
    await send(play, Scripted(refuse), NOON + HOUR)
    assert states(play) == {"in-doubt": 1}  # the first may have arrived all the same


# SEMANTICS 24
async def test_what_cannot_arrive_twice_is_repeated(play: Play) -> None:
    play.channels = {"email": [entry(Deduplicating, "mail")]}
    queue(play)
    play.write(lambda tx: tx.execute(t.message.update().values(state="in-doubt", gateways=["mail"])))
    assert do(play, "retry").states == {"queued": 1}


# SEMANTICS 24
@pytest.mark.parametrize(("arrived", "state"), [(True, "delivered"), (False, "failed")])
async def test_a_person_says_what_became_of_it(play: Play, arrived: bool, state: str) -> None:
    queue(play)
    await send(play, Scripted(DoubtError("timed out")))
    assert do(play, "settle", arrived=arrived).states == {state: 1}
    row = play.one(t.message)
    assert (row["doubted_at"], row["settled_at"]) == (None, ANN.now)
    assert do(play, "retry").states == ({} if arrived else {"queued": 1})


async def test_what_is_too_old_bounced_or_said_since_stays(play: Play) -> None:
    queue(play, 3)
    await send(play, Scripted(refuse))
    first, second, third = play.rows(t.message)
    stale = t.message.update().where(t.message.c.id == first["id"]).values(expires_at=NOON)
    known = t.message.update().where(t.message.c.id == third["id"]).values(once="one:welcome:ann")
    play.write(
        lambda tx: tx.execute(stale),
        lambda tx: tx.execute(known),
        lambda tx: customers.suppress_all(
            tx,
            [{"channel": "email", "address": second["address"], "reason": "bad-address", "source": "x", "since": NOON}],
        ),
    )
    queue_more = {**third, "id": 99, "key": "other", "once": "one:welcome:ann", "state": "queued"}
    play.write(lambda tx: tx.execute(t.message.insert().values(**queue_more)))
    assert do(play, "retry").left == {"stale": 1, "address-suppressed": 1, "told-since": 1}
    assert states(play) == {"failed": 3, "queued": 1}


async def test_what_was_pruned_is_told_from_what_was_forgotten(play: Play) -> None:
    queue(play, 3)
    await send(play, Scripted(refuse))
    first, second, _ = play.rows(t.message)
    texts, old = next(kind for kind in prune.KINDS if kind.name == "texts"), [first["id"], second["id"]]
    play.write(
        lambda tx: prune.let_go(tx, texts, old, NOON + HOUR),
        lambda tx: forgotten.erase_profiles(tx, [second["profile_id"]], NOON),
    )
    assert do(play, "retry").left == {"pruned": 1, "forgotten": 1}
    assert states(play) == {"failed": 2, "queued": 1}


def held(play: Play, **more: Any) -> None:
    """One message is held, since its template needs what is not known."""
    send_it = Send("lacks", via=("email",), context={"code": "A1"}, **more)
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [send_it]))
    play.take(order("1", buyer("ann")))
    play.decide()
    assert play.one(t.message)["reason"] == "missing-variable"


async def test_what_was_held_is_composed_anew_by_todays_template(play: Play) -> None:
    held(play)
    assert do(play, "release").left == {"still missing-variable": 1}
    assert states(play) == {"held": 1}
    play.template("lacks.en.email", 'purpose = "transactional"\nsubject = "S"\n---\n{{ order.number }} {{ code }}')
    number = play.one(t.message)["id"]
    assert do(play, "release").states == {"queued": 1}
    row = play.one(t.message)
    assert (row["id"], row["text"], row["reason"], row["asked"]) == (number, "1 A1", None, None)
    await send(play, Scripted(accept), NOON + HOUR)
    assert states(play) == {"sent": 1}


async def test_what_was_held_for_want_of_a_gateway_goes_by_one_that_is_there_now(play: Play) -> None:
    play.channels = {}
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("sms", "email"))]))
    play.take(order("1", buyer("ann")))
    play.decide()
    assert play.one(t.message)["reason"] == "no-gateway"
    play.channels = {"email": [entry()]}
    assert do(play, "release").states == {"queued": 1}
    row = play.one(t.message)
    assert (row["channel"], row["gateway"], row["address"], row["text"]) == (
        *("email", "mail", "ann@example.com", "Your order 1"),
    )


async def test_what_is_released_passes_the_policies_again(play: Play) -> None:
    held(play)
    play.template("lacks.en.email", 'purpose = "transactional"\nsubject = "S"\nvalid_for = "30m"\n---\nText')
    assert do(play, "release").states == {"suppressed": 1}
    assert play.one(t.message)["reason"] == "stale"


def news(play: Play) -> None:
    """One message tells of an order."""
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(order("1", buyer("ann")))
    play.decide()


# SEMANTICS 29
def test_what_may_have_left_and_a_person_releases_is_not_held_again(play: Play) -> None:
    play.more["doubtful_until"] = NOON + HOUR
    news(play)
    assert play.one(t.message)["reason"] == "may-have-left"
    assert do(play, "release").states == {"queued": 1}


# SEMANTICS 29
async def test_what_was_put_aside_is_released_as_it_was_frozen(play: Play) -> None:
    news(play)
    play.write(lambda tx: put_aside(tx, NOON + HOUR, NOON + HOUR))
    before = play.one(t.message)
    assert (before["state"], before["reason"]) == ("held", "may-have-left")
    play.template("news.en.email", 'purpose = "transactional"\nsubject = "S"\n---\nSomething else')
    play.plugins.clear()  # nobody is asked anew
    assert do(play, "release").states == {"queued": 1}
    row = play.one(t.message)
    assert (row["text"], row["subject"], row["detail"]) == (
        *(before["text"], before["subject"], "released by ann: mended"),
    )
    await send(play, Scripted(accept), NOON + HOUR)
    assert states(play) == {"sent": 1}


def test_what_was_put_aside_and_is_too_old_stays(play: Play) -> None:
    news(play)
    play.write(
        lambda tx: put_aside(tx, NOON + HOUR, NOON + HOUR),
        lambda tx: tx.execute(t.message.update().values(expires_at=NOON)),
    )
    assert do(play, "release").left == {"stale": 1}
    assert states(play) == {"held": 1}


def test_a_message_to_staff_is_released_to_the_same_person(play: Play) -> None:
    play.more["staff"] = [
        StaffMember(name, frozenset({"ops"}), {"email": f"{name}@tea.example"}) for name in ("Chen", "Di")
    ]
    play.template("alarm.en.email", 'purpose = "transactional"\nsubject = "S"\n---\n{{ nothing.here }}')
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("alarm", via=("email",), to=staff("ops"))]))
    play.take(order("1", buyer("ann")))
    play.decide()
    play.template("alarm.en.email", 'purpose = "transactional"\nsubject = "S"\n---\nAlarm')
    assert do(play, "release").states == {"queued": 2}
    assert [(row["staff"], row["address"]) for row in play.rows(t.message)] == [
        *(("Chen", "Chen@tea.example"), ("Di", "Di@tea.example")),
    ]


def test_what_waits_or_is_held_is_cancelled_for_good(play: Play) -> None:
    queue(play, 2)
    assert do(play, "cancel").states == {"cancelled": 2}
    row = play.rows(t.message)[0]
    assert (row["state"], row["detail"]) == ("cancelled", "cancelled by ann: mended")


def test_what_a_run_has_in_hand_is_left_to_it(play: Play) -> None:
    queue(play, 3)
    with play.store.begin() as tx:
        assert len(claim(tx, play.setup, "mail", "me", NOON, 2).rows) == 2
    assert do(play, "cancel").states == {"cancelled": 1}
    assert states(play) == {"sending": 2, "cancelled": 1}


def test_messages_are_meant_by_everything_they_are_told_by(play: Play) -> None:
    queue(play, 3)
    number = play.rows(t.message)[0]["id"]
    choices = [
        *(Meant(ids=[number]), Meant(order="1"), Meant(profiles=[play.rows(t.message)[0]["profile_id"]])),
        *(Meant(template="offer"), Meant(gateway="text"), Meant(since=NOON + HOUR), Meant(reasons=["stale"])),
        *(Meant(shop=2), Meant(states=["held"]), Meant(template="news", gateway="mail", shop=1, since=NOON)),
    ]
    with play.store.read() as tx:
        found = [sum(row["count"] for row in counted(tx, one)) for one in choices]
    assert found == [1, 1, 1, 0, 0, 0, 0, 0, 0, 3]


@pytest.mark.parametrize("what", ["retry", "cancel", "settle", "release"])
def test_many_cost_as_many_statements_as_few(play: Play, what: str) -> None:
    state = intervention.STATES[what][0]
    queue(play, 30)
    play.write(lambda tx: tx.execute(t.message.update().values(state=state)))
    options = {"arrived": True} if what == "settle" else {}
    said = []
    for limit in (3, 20):
        with statements(play.store) as told:
            do(play, what, limit=limit, **options)
        said.append(len(told))
    assert said[0] == said[1]
