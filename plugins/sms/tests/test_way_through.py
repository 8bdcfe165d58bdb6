"""From an export to a text message and back, through the whole of crmkit and a Twilio on this machine."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from crmkit.core.message import MessageRow
from crmkit.store import tables as t
from crmkit_sms.twilio_signature import signature
from plugins.sms.tests.place import NOW, Place

CHANNEL = """\
[[channels.sms]]
use = "twilio"
account_sid = "AC00000000000000000000000000000001"
auth_token = "env:TWILIO_TOKEN"
sender = "+15005550006"
base_url = "{url}"
"""
ORDERS = """\
external_id,number,status,placed_at,paid_at,shipped_at,customer_id,name,phone,total,updated_at
T1,T1,shipped,2026-05-07T10:00Z,2026-05-07T10:05Z,2026-05-08T09:00Z,c1,Ada,+4915112345678,10.00,2026-05-08T09:00Z
T2,T2,shipped,2026-05-07T10:00Z,2026-05-07T10:05Z,2026-05-08T10:00Z,c1,Ada,+4915112345678,12.00,2026-05-08T10:00Z
"""
HOOK = "https://crm.example.com/webhooks/twilio"
TAKEN = {"sid": "SM1", "status": "queued"}


class Twilio(Place):
    """Texts through a Twilio on this machine, or another vendor."""

    def __init__(self, folder: Path, url: str, channel: str = CHANNEL) -> None:
        super().__init__(folder, channel.replace("{url}", url))
        self.template('---\npurpose = "transactional"\n---\nOrder {{ order.number }} is on its way 📦\n')
        self.open(ORDERS)

    @property
    def messages(self) -> list[tuple[Any, ...]]:
        return self.columns("state", "vendor_id")

    def kill(self) -> None:
        """What a process leaves that is killed with everything that was decided on the wire."""
        left = {"claim_id": "gone", "claimed_at": NOW, "started_at": NOW, "lease_until": NOW + timedelta(minutes=5)}
        table = t.table_of(MessageRow)
        with self.store.begin() as tx:
            tx.execute(table.update().where(table.c.state == "queued").values(state="sending", **left))

    async def called_back(self, query: str = "", **form: str) -> int:
        """Twilio calls, well signed; what it said is taken in."""
        url = f"{HOOK}?{query}" if query else HOOK
        headers = {
            "X-Twilio-Signature": signature("t0ken", url, form.items()),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        reply = await self.engine.accept("twilio", headers, urlencode(form).encode(), query=query, now=NOW)
        await self.take_in()
        return reply.status


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor) -> Iterator[Twilio]:
    monkeypatch.setenv("TWILIO_TOKEN", "t0ken")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Twilio(tmp_path, vendor.url)
    yield made
    made.close()


async def test_a_message_is_sent_told_delivered_and_its_reader_has_had_enough(place, vendor) -> None:
    vendor.answers = [(201, TAKEN), (201, TAKEN | {"sid": "SM2"})]
    await place.engine.sync(now=NOW)
    await place.engine.dispatch(now=NOW)
    texts = [request.form["Body"] for request in vendor.requests]
    assert sorted(texts) == ["Order T1 is on its way 📦", "Order T2 is on its way 📦"]
    assert place.messages == [("sent", "SM1"), ("sent", "SM2")]
    assert await place.called_back(MessageSid="SM1", MessageStatus="delivered") == 200
    assert await place.called_back(MessageSid="SM1", MessageStatus="sent") == 200
    assert await place.called_back(MessageSid="SM2", MessageStatus="undelivered", ErrorCode="30005") == 200
    assert place.messages == [("delivered", "SM1"), ("bounced", "SM2")]
    assert await place.called_back(MessageSid="SM9", From="+4915112345678", Body="Stopp!") == 200
    with place.store.read() as tx:
        rows = tx.exec_driver_sql("SELECT state, channel, purpose, wording FROM consent").all()
    assert set(rows) == {("withdrawn", "sms", "*", "Stopp!")}


# SEMANTICS 24
async def test_a_status_callback_settles_a_message_in_doubt(place, vendor) -> None:
    vendor.always = {"POST": "close", "GET": (200, {"messages": []})}
    await place.engine.sync(now=NOW)
    await place.engine.dispatch(now=NOW)
    assert place.messages == [("in-doubt", None)] * 2
    assert [request.method for request in vendor.requests].count("POST") == 2
    callback = urlsplit(vendor.requests[0].form["StatusCallback"])
    assert f"{callback.scheme}://{callback.netloc}{callback.path}" == HOOK
    assert await place.called_back(callback.query, MessageSid="SM1", MessageStatus="sent") == 200
    assert {state for state, _ in place.messages} == {"sent", "in-doubt"}
    with place.store.read() as tx:
        (key,) = tx.exec_driver_sql("SELECT key FROM message WHERE state = 'sent'").scalars()
    assert parse_qs(callback.query)["key"] == [key]


async def test_a_forged_callback_changes_nothing(place, vendor) -> None:
    vendor.answers = [(201, TAKEN)]
    await place.engine.sync(now=NOW)
    await place.engine.dispatch(now=NOW)
    before = place.messages
    body = urlencode({"MessageSid": "SM1", "MessageStatus": "failed"}).encode()
    headers = {"X-Twilio-Signature": "forged", "Content-Type": "application/x-www-form-urlencoded"}
    assert (await place.engine.accept("twilio", headers, body, now=NOW)).status == 401
    assert await place.engine.take_in(now=NOW) == []
    assert place.messages == before


DESCRIBED = """\
[[channels.sms]]
use = "http"
name = "pigeon"
url = "{url}/send"
deduplicates = TELLS
success = { status = [200] }
[channels.sms.body]
to = "{to}"
text = "{text}"
reference = "{key}"

"""


# SEMANTICS 22, 24
@pytest.mark.parametrize("tells_repeats", [True, False])
async def test_after_a_crash_only_a_vendor_that_is_said_to_tell_repeats_is_sent_it_again(
    tmp_path, monkeypatch, vendor, tells_repeats
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    described = DESCRIBED.replace("TELLS", str(tells_repeats).lower())
    place = Twilio(tmp_path, vendor.url, described)
    vendor.answers = [(429, "", {"Retry-After": "10801"})]
    await place.engine.sync(now=NOW)
    await place.engine.dispatch(now=NOW)
    assert {state for state, _ in place.messages} == {"queued"}
    place.kill()
    vendor.answers = [(200, {})]
    vendor.requests.clear()
    await place.engine.dispatch(now=NOW + timedelta(minutes=6))
    keys = [request.json["reference"] for request in vendor.requests]
    assert len(keys) == len(set(keys)) == (2 if tells_repeats else 0)
    assert [state for state, _ in place.messages] == (["sent"] * 2 if tells_repeats else ["in-doubt"] * 2)
    place.store.close()
