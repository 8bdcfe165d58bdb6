"""Orders become mails over SendGrid, or over Postmark where SendGrid cannot; what they tell comes back."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from crmkit import Buyer, OrderRecord
from crmkit.store import tables as t
from crmkit.testing.installation import waited
from crmkit_email.postmark import PostmarkGateway
from plugins.email.tests.fake_mail import FakePostmark, FakeSendgrid

CONFIG = """
[crm]
database = "sqlite:///crm.db"

[web]
url = "https://crm.example.com"

[plugins]
use = ["care"]

[[channels.email]]
use = "sendgrid"
sender = "Tea House <shop@tea.example>"
api_key = "env:SENDGRID_KEY"
webhook_public_key = "{key}"

[[channels.email]]
use = "postmark"
sender = "Tea House <shop@tea.example>"
server_token = "env:POSTMARK_TOKEN"
webhook_secret = "env:POSTMARK_SECRET"

[[care.rules]]
on = "order-shipped"
send = "order-shipped"
via = ["email"]

[care.late]
enabled = false
"""
TEMPLATE = """
---
purpose = "transactional"
subject = "Order {{ order.number }}"
---
Dear {{ customer.name }}, order {{ order.number }} is on its way.
"""
SECRET = "s3cret-0123456789abcdef"


class Post:
    """An installation, and both vendors on its clock."""

    def __init__(self, install: Any) -> None:
        clock = install.keywords["clock"]
        self.sendgrid, self.postmark = FakeSendgrid(clock.now), FakePostmark(clock.now)

        def world(request: httpx.Request) -> httpx.Response:
            vendor = {"api.sendgrid.com": self.sendgrid, "api.postmarkapp.com": self.postmark}[request.url.host]
            vendor.now = self.now
            return vendor(request)

        self.crmkit = install(
            "care",
            config=CONFIG.replace("{key}", self.sendgrid.public_key),
            templates={"order-shipped.en.email": TEMPLATE},
            channels=(),
            at=httpx.MockTransport(world),
        )

    @property
    def now(self) -> datetime:
        return self.crmkit.clock.now

    def ships(self, *names: str, **fields: Any) -> None:
        for name in names:
            buyer = Buyer(external_id=name, name=name.title(), email=f"{name}@buyers.example")
            at = {"placed_at": self.now, "shipped_at": self.now, "updated_at": self.now}
            order = {"external_id": name, "number": f"T-{name}", "status": "shipped", "buyer": buyer, **at, **fields}
            self.crmkit.say(OrderRecord(**order))
        self.crmkit.sync("shop")

    def passes(self, **time: float) -> None:
        self.crmkit.clock.move(timedelta(**time))
        self.sendgrid.now = self.postmark.now = self.now

    def hears(self, account: str, headers: dict[str, str], body: bytes, **call: Any) -> int:
        reply = waited(self.crmkit.engine.accept(account, headers, body, now=self.now, **call))
        runs = waited(self.crmkit.engine.take_in(now=self.now))
        assert [error for run in runs for error in run.errors] == []
        return reply.status

    @property
    def messages(self) -> list[tuple[str, str | None]]:
        return [(row["state"], row["gateway"]) for row in self.crmkit.rows(t.message)]


@pytest.fixture
def post(install: Any, monkeypatch: pytest.MonkeyPatch) -> Post:
    for name, value in {"SENDGRID_KEY": FakeSendgrid.token, "POSTMARK_TOKEN": FakePostmark.token}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POSTMARK_SECRET", SECRET)
    return Post(install)


def test_many_orders_are_one_call_and_each_mail_is_told_of(post: Post) -> None:
    post.sendgrid.dead.add("bob@buyers.example")
    post.ships("ann", "bob", "李雷")
    post.crmkit.dispatch()
    assert post.sendgrid.requests == [("POST", "/v3/mail/send")]
    told = {mail.to: (mail.subject, mail.text.strip()) for mail in post.sendgrid.mails}
    assert told["ann@buyers.example"] == ("Order T-ann", "Dear Ann, order T-ann is on its way.")
    assert post.messages[:2] == [("sent", "sendgrid")] * 2
    headers, body = post.sendgrid.events(post.sendgrid.mails, "processed", "delivered")
    assert post.hears("sendgrid", headers, body) == 200
    assert [state for state, _ in post.messages[:2]] == ["delivered", "bounced"]
    assert [row["address"] for row in post.crmkit.rows(t.suppression)] == ["bob@buyers.example"]
    assert post.hears("sendgrid", headers, body) == 200
    assert len(post.crmkit.rows(t.receipt)) == 2 * len(post.sendgrid.mails)


def test_a_forged_event_changes_nothing(post: Post) -> None:
    post.ships("ann")
    post.crmkit.dispatch()
    headers, body = post.sendgrid.events(post.sendgrid.mails, "delivered")
    forged = body.replace(b'"delivered"', b'"dropped"')
    assert post.hears("sendgrid", headers, forged) == 401
    assert post.messages == [("sent", "sendgrid")]


@pytest.mark.parametrize("origin", [None, "", "0123456789abcdef"])
def test_news_of_another_installations_mail_with_our_key_move_nothing(post: Post, origin: str | None) -> None:
    post.ships("ann")
    post.crmkit.dispatch()
    [mail] = post.sendgrid.mails
    theirs = {name: value for name, value in mail.about.items() if name != "crmkit_origin"}
    told = replace(mail, about=theirs if origin is None else {**theirs, "crmkit_origin": origin})
    assert post.hears("sendgrid", *post.sendgrid.events([told], "delivered")) == 200
    assert (post.messages, post.crmkit.rows(t.receipt)) == ([("sent", "sendgrid")], [])
    assert post.hears("sendgrid", *post.sendgrid.events([mail], "processed", "delivered")) == 200
    assert post.messages == [("delivered", "sendgrid")]


@pytest.mark.parametrize("failure", ["dead", 401, 403])
def test_where_sendgrid_surely_took_nothing_postmark_sends_it_once(post: Post, failure: int | str) -> None:
    # SEMANTICS 23
    post.sendgrid.failures = [failure] * 50
    post.ships("ann", "bob")
    for _ in range(12):
        post.crmkit.dispatch()
        post.passes(minutes=10)
    assert (post.messages, post.sendgrid.mails) == ([("sent", "postmark")] * 2, [])
    assert sorted(mail.to for mail in post.postmark.mails) == ["ann@buyers.example", "bob@buyers.example"]
    [ann] = [mail for mail in post.postmark.mails if mail.to == "ann@buyers.example"]
    path = {"path_secret": SECRET}
    assert post.hears("postmark", {"Content-Type": "application/json"}, post.postmark.tells(ann), **path) == 200
    assert sorted(state for state, _ in post.messages) == ["delivered", "sent"]


@pytest.mark.parametrize("failure", ["lost", 500])
def test_doubt_at_sendgrid_never_goes_to_postmark_and_an_event_ends_it(post: Post, failure: int | str) -> None:
    # SEMANTICS 23, 24
    post.sendgrid.failures = [failure]
    post.ships("ann", "bob")
    for _ in range(12):
        post.crmkit.dispatch()
        post.passes(hours=1)
    assert post.messages == [("in-doubt", "sendgrid")] * 2
    assert (post.postmark.mails, post.sendgrid.requests.count(("POST", "/v3/mail/send"))) == ([], 1)
    if failure == "lost":
        assert post.hears("sendgrid", *post.sendgrid.events(post.sendgrid.mails[:1], "processed")) == 200
        assert sorted(state for state, _ in post.messages) == ["in-doubt", "sent"]


@pytest.mark.parametrize("failure", ["lost", 500])
def test_postmark_is_asked_what_became_of_a_call_that_was_lost(
    post: Post, monkeypatch: pytest.MonkeyPatch, failure: int | str
) -> None:
    # SEMANTICS 24
    monkeypatch.setattr(
        PostmarkGateway, "look_up_after", timedelta(0)
    )  # the test's clock runs, this machine's does not
    post.sendgrid.failures = [401] * 50
    post.postmark.failures = [failure]
    post.ships("ann")
    for _ in range(20):
        post.crmkit.dispatch()
        post.passes(minutes=4)  # a run looks up each at its time, and the vendor's clock is the run's last
    assert post.messages == [("sent", "postmark")]
    assert [mail.to for mail in post.postmark.mails] == ["ann@buyers.example"]
    assert post.postmark.requests.count(("POST", "/email/batch")) == (1 if failure == "lost" else 2)
    assert ("GET", "/messages/outbound") in post.postmark.requests


def test_who_bounced_or_left_at_sendgrid_is_not_written_to(post: Post) -> None:
    before = int((post.now - timedelta(days=400)).timestamp())
    post.sendgrid.lists["bounces"] = [
        {"created": before, "email": f"b{number}@buyers.example", "reason": "550 5.1.1 unknown", "status": "5.1.1"}
        for number in range(1_200)
    ]
    post.sendgrid.lists["unsubscribes"] = [{"created": before, "email": "ann@buyers.example"}]
    post.crmkit.sync("sendgrid")
    assert len(post.crmkit.rows(t.suppression)) == 1_200
    post.ships("b7", "ann")
    post.crmkit.dispatch()
    assert [mail.to for mail in post.sendgrid.mails] == ["ann@buyers.example"]
    silent = next(row for row in post.crmkit.rows(t.message) if row["state"] == "suppressed")
    assert (silent["reason"], silent["detail"]) == ("opted-out", "address suppressed: bad-address (gateway:sendgrid)")
    [consent] = [row for row in post.crmkit.rows(t.consent) if row["address"] is not None]
    assert (consent["purpose"], consent["state"], consent["wording"]) == (
        "marketing",
        "withdrawn",
        "SendGrid: unsubscribe",
    )
    asked = len(post.sendgrid.requests)
    post.passes(hours=2)
    post.crmkit.sync("sendgrid")
    assert len(post.sendgrid.requests) == asked + 4
    assert len(post.crmkit.rows(t.suppression)) == 1_200
