"""An answer that comes when others have taken a message over counts where it can, and is always on record."""

from typing import Any

from crmkit.core.message import Receipt
from crmkit.flow.claim import LEASE, claim, sweep
from crmkit.flow.deliver import message_of
from crmkit.flow.record import Result, record
from crmkit.store import outbox
from crmkit.store import tables as t
from tests.play import MINUTE, NOON, Play, entry
from tests.scripted import Scripted, accept, queue, send


class Absent(Scripted):
    """Its vendor says that it does not have a message."""

    async def look_up(self, message: Any) -> Receipt | None:
        return None


ASKED = NOON + LEASE + Absent.look_up_after


def hung(play: Play) -> Any:
    """A message whose process hangs in the try; others take it to be lost. Gives what ends that try."""
    play.channels = {"email": [entry(Absent, "mail")]}
    queue(play)
    with play.store.begin() as tx:
        row = claim(tx, play.setup, "mail", "hung", NOON, 1).rows[0]
        outbox.mark(tx, [row["id"]], "hung", NOON, NOON + LEASE)
    play.write(lambda tx: sweep(tx, play.setup, NOON + LEASE))
    row = {**row, "claim_id": "hung"}

    def end() -> None:
        said = message_of(row, play.setup, NOON).accepted("first")
        result = Result(row, said, NOON, ASKED + MINUTE)
        play.write(lambda tx: record(tx, [result], play.setup, Absent(accept), "mail"))

    return end


def tried(play: Play) -> list[tuple[str, str | None]]:
    return [(row["outcome"], row["vendor_id"]) for row in play.rows(t.attempt)]


async def test_an_accept_that_comes_after_its_vendor_denied_it_counts_while_nobody_sent_again(play: Play) -> None:
    # SEMANTICS 24
    end = hung(play)
    with play.store.begin() as tx:  # asked, and due again; another has claimed it, and not marked it
        [row] = outbox.doubted(tx, "mail", ASKED, 10, 10)
        outbox.begin_look_ups(tx, [{**row, "claim_id": "asks", "not_before": ASKED, "look_ups": 1}])
        tx.execute(t.message.update().values(state="queued", not_before=ASKED))
        [row] = claim(tx, play.setup, "mail", "again", ASKED, 1).rows
    end()
    message = play.one(t.message)
    assert (message["state"], message["vendor_id"], message["tries"]) == ("sent", "first", 1)
    with play.store.begin() as tx:
        assert outbox.mark(tx, [row["id"]], "again", ASKED + MINUTE, ASKED + LEASE) == set()
    assert tried(play) == [("in-doubt", None), ("accepted", "first")]


async def test_an_accept_that_comes_after_the_message_was_sent_again_says_so(play: Play) -> None:
    # SEMANTICS 24
    end = hung(play)
    again = Absent(lambda m: m.accepted("second"))
    await send(play, again, ASKED)
    assert len(again.asked) == 1
    end()
    message = play.one(t.message)
    assert (message["state"], message["vendor_id"]) == ("sent", "second")
    assert "gone out twice" in message["detail"]
    assert tried(play)[-1] == ("accepted", "first")
    assert "gone out twice" in play.rows(t.attempt)[-1]["detail"]


async def test_while_it_is_being_sent_again_too(play: Play) -> None:
    end = hung(play)

    class Meanwhile(Absent):
        async def deliver(self, message: Any) -> Receipt:
            await play.store.run(lambda tx: None)
            end()
            return await super().deliver(message)

    await send(play, Meanwhile(lambda m: m.accepted("second")), ASKED)
    message = play.one(t.message)
    assert (message["state"], message["vendor_id"]) == ("sent", "second")
    assert "gone out twice" in message["detail"]


async def test_where_nobody_sent_it_again_a_late_refusal_changes_nothing(play: Play) -> None:
    hung(play)
    row = {**play.one(t.message), "form": None, "order": None}
    said = message_of(row, play.setup, NOON).rejected("other", "no")
    play.write(lambda tx: tx.execute(t.message.update().values(claim_id="asks")))
    result = Result({**row, "claim_id": "hung"}, said, NOON, ASKED)
    play.write(lambda tx: record(tx, [result], play.setup, Absent(accept), "mail"))
    assert play.one(t.message)["state"] == "in-doubt"
