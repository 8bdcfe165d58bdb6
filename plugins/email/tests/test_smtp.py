"""Mail through a server that keeps the rules."""

import asyncio
import email
import email.policy

import pytest
from pydantic import ValidationError

from crmkit import AuthError, Reason, RetryableError, UnsupportedError
from crmkit_email import smtp as module
from crmkit_email.smtp import SmtpGateway

LOGIN = {"username": "shop", "password": "geheim-秘密"}


def read(envelope):
    return email.message_from_bytes(envelope.content, policy=email.policy.default)


async def test_a_mail_arrives_as_it_was_written(honest, smtp, message):
    async with honest() as inbox:
        gateway = await smtp(inbox.port, reply_to="help@tea.example")
        receipt = await gateway.deliver(message(html="<p>Hello Ann</p>", subject="Ihr Päckchen 📦"))
        [envelope] = inbox.envelopes
        mail = read(envelope)
        assert (envelope.mail_from, envelope.rcpt_tos) == ("shop@tea.example", ["ann1@buyers.example"])
        assert mail["subject"] == "Ihr Päckchen 📦"
        assert mail["from"] == "Tea House <shop@tea.example>"
        assert mail["reply-to"] == "help@tea.example"
        assert mail["auto-submitted"] == "auto-generated"
        assert mail["x-crmkit-key"] == "order:1:care:shipped"
        assert mail.get_body(("plain",)).get_content().splitlines() == ["Hello Ann,", "", ".", ".. it is on its way."]
        assert mail.get_body(("html",)).get_content().strip() == "<p>Hello Ann</p>"
        assert receipt.outcome == "accepted"
        assert receipt.vendor_id == mail["message-id"]
        assert receipt.detail == "250 2.0.0 taken"


async def test_every_try_has_the_same_message_id(honest, smtp, message):
    async with honest() as inbox:
        gateway = await smtp(inbox.port, message_id_domain="mail.tea.example")
        for _ in range(2):
            await gateway.deliver(message())
        await gateway.deliver(message(2))
        ids = [read(envelope)["message-id"] for envelope in inbox.envelopes]
        assert ids[0] == ids[1] != ids[2]
        assert ids[0].endswith("@mail.tea.example>")


async def test_one_connection_carries_many_mails(honest, smtp, message):
    async with honest() as inbox:
        gateway = await smtp(inbox.port)
        for number in range(20):
            await gateway.deliver(message(number))
        assert (inbox.connections, len(inbox.envelopes)) == (1, 20)


async def test_connections_are_few_and_renewed(honest, smtp, message):
    async with honest() as inbox:
        gateway = await smtp(inbox.port, concurrency=1, max_per_connection=2, timeout=5, verdict_timeout=5)
        await asyncio.gather(*(gateway.deliver(message(number)) for number in range(5)))
        assert (inbox.connections, len(inbox.envelopes)) == (3, 5)
    async with honest() as inbox:
        gateway = await smtp(inbox.port, concurrency=3, timeout=5, verdict_timeout=5)
        await asyncio.gather(*(gateway.deliver(message(number)) for number in range(30)))
        assert inbox.connections == 3
        assert len({envelope.rcpt_tos[0] for envelope in inbox.envelopes}) == 30


async def test_bounces_go_to_the_envelope_sender(honest, smtp, message):
    async with honest() as inbox:
        gateway = await smtp(inbox.port, envelope_sender="bounces@tea.example")
        await gateway.deliver(message())
        assert inbox.envelopes[0].mail_from == "bounces@tea.example"


async def test_an_international_domain_travels_in_ascii(honest, smtp, message):
    async with honest() as inbox:
        await (await smtp(inbox.port)).deliver(message(address="ann@Straße.example"))
        assert inbox.envelopes[0].rcpt_tos == ["ann@xn--strae-oqa.example"]
        assert read(inbox.envelopes[0])["to"] == "ann@xn--strae-oqa.example"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ann",
        "a@@b",
        "@b.example",
        "ann@",
        "ann@b..example",
        "a b@c.example",
        "ann@b.example>\r\nRCPT TO:<eve@x.example",
        "ann@b.example> NOTIFY=NEVER",
        "<ann@b.example>",
        "ann@" + "b" * 64 + ".example",
        "a" * 65 + "@b.example",
        "\ud800@b.c",
    ],
)
async def test_what_is_no_address_never_reaches_the_server(address, honest, smtp, message):
    async with honest() as inbox:
        receipt = await (await smtp(inbox.port)).deliver(message(address=address))
        assert (receipt.outcome, receipt.reason) == ("rejected", Reason.BAD_ADDRESS)
        assert inbox.connections == 0


async def test_a_header_of_ones_own_that_is_not_ones_own_fails_the_message(honest, smtp, message):
    async with honest() as inbox:
        with pytest.raises(UnsupportedError, match="From"):
            await (await smtp(inbox.port)).deliver(message(headers={"From": "eve@x.example"}))
        assert inbox.connections == 0


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_mail_goes_over_tls_with_a_login(tls, honest, smtp, message, certificate, server_tls, login):
    options = (
        {"tls_context": server_tls, "require_starttls": True} if tls == "starttls" else {"implicit_tls": server_tls}
    )
    options |= {"authenticator": login, "auth_required": True, "auth_require_tls": tls == "starttls"}
    async with honest(**options) as inbox:
        gateway = await smtp(inbox.port, tls=tls, ca_file=certificate, timeout=5, verdict_timeout=5, **LOGIN)
        assert list(await gateway.check()) == []
        for number in (1, 2):
            assert (await gateway.deliver(message(number))).outcome == "accepted"
        assert inbox.connections == 2

        stranger = await smtp(inbox.port, tls=tls, timeout=5, **LOGIN)
        with pytest.raises(AuthError, match=r"certificate .* not trusted .*ca_file"):
            await stranger.deliver(message(3))

        wrong = await smtp(inbox.port, tls=tls, ca_file=certificate, timeout=5, username="shop", password="hunter2")
        with pytest.raises(AuthError, match="refused the credentials of shop") as caught:
            await wrong.deliver(message(4))
        assert "hunter2" not in str(caught.value)
        [problem] = await wrong.check()
        assert "check username and password" in problem
        assert len(inbox.envelopes) == 2


async def test_what_the_server_does_not_offer_is_said(honest, smtp, message, tmp_path):
    async with honest() as inbox:
        with pytest.raises(AuthError, match=r"no STARTTLS.*tls ="):
            await (await smtp(inbox.port, tls="starttls")).deliver(message())
        with pytest.raises(AuthError, match="no way to log in"):
            await (await smtp(inbox.port, username="a", password="b")).deliver(message())
        with pytest.raises(AuthError, match=r"missing\.pem.*check ca_file"):
            await (await smtp(inbox.port, tls="implicit", ca_file="missing.pem")).deliver(message())
        with pytest.raises(RetryableError):
            await (await smtp(inbox.port, tls="implicit")).deliver(message())
        assert not inbox.envelopes


async def test_check_says_what_is_wrong(closed_port, honest, smtp):
    [problem] = await (await smtp(closed_port)).check()
    assert f"127.0.0.1:{closed_port} cannot be used now" in problem
    async with honest() as inbox:
        assert list(await (await smtp(inbox.port)).check()) == []


@pytest.mark.parametrize(
    ("settings", "tls"),
    [({}, "starttls"), ({"port": 465}, "implicit"), ({"port": 25}, "starttls"), ({"port": 465, "tls": "none"}, "none")],
)
def test_tls_is_on_unless_turned_off(settings, tls):
    assert SmtpGateway.Settings(host="mail.tea.example", sender="shop@tea.example", **settings).tls == tls


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"tls": "none", "username": "a", "password": "hunter2"}, "in the clear"),
        ({"username": "a"}, "go together"),
        ({"sender": "Tea House"}, "no @"),
        ({"sender": "Tea\r\nBcc: eve@x.example <shop@tea.example>"}, "line break"),
        ({"reply_to": "help"}, "no @"),
        ({"envelope_sender": "a b@c.example"}, "before the @"),
        ({"host": "mail server"}, "domain"),
        ({"port": 0}, "greater"),
        ({"unsubscribe": "http://tea.example/u"}, "https"),
        ({"concurency": 3}, "Extra"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, why):
    with pytest.raises(ValidationError, match=why) as caught:
        SmtpGateway.Settings(**({"host": "mail.tea.example", "sender": "shop@tea.example"} | settings))
    assert "hunter2" not in str(caught.value)


def test_the_plugin_brings_its_gateway():
    assert list(module.crmkit_gateways()) == [SmtpGateway]
    assert (SmtpGateway.name, SmtpGateway.channel, SmtpGateway.reaches) == ("smtp", "email", ("email",))
    assert not SmtpGateway.deduplicates
