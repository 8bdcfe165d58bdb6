"""What may have left, at every step where a server can fail: the promise `deliver` is built on."""

import asyncio

import pytest

from crmkit import AuthError, DoubtError, Reason, Receipt, RetryableError, UnsupportedError
from crmkit_email import connection

SMALL, LARGE = 100, 12_000_000
NONSENSE = b"hello there\r\n"

# step, what the server does there, size of the mail, what the caller is told
TABLE = [
    ("banner", "hang", SMALL, RetryableError),
    ("banner", "close", SMALL, RetryableError),
    ("banner", "reset", SMALL, RetryableError),
    ("banner", "drip", SMALL, RetryableError),
    ("banner", NONSENSE, SMALL, RetryableError),
    ("banner", b"421 4.3.2 too busy\r\n", SMALL, RetryableError),
    ("banner", b"554 5.3.2 not now\r\n", SMALL, RetryableError),
    ("ehlo", "hang", SMALL, RetryableError),
    ("ehlo", "close", SMALL, RetryableError),
    ("ehlo", "reset", SMALL, RetryableError),
    ("ehlo", "drip", SMALL, RetryableError),
    ("ehlo", NONSENSE, SMALL, RetryableError),
    ("ehlo", b"421 4.3.2 going down\r\n", SMALL, RetryableError),
    ("mail", "hang", SMALL, RetryableError),
    ("mail", "close", SMALL, RetryableError),
    ("mail", "reset", SMALL, RetryableError),
    ("mail", "drip", SMALL, RetryableError),
    ("mail", NONSENSE, SMALL, RetryableError),
    ("mail", b"999 what\r\n", SMALL, RetryableError),
    ("mail", b"421 4.7.0 too many\r\n", SMALL, "deferred"),
    ("mail", b"451 4.3.0 later\r\n", SMALL, "deferred"),
    ("mail", b"530 5.7.0 Authentication required\r\n", SMALL, AuthError),
    ("mail", b"553 5.1.8 who are you\r\n", SMALL, AuthError),
    ("mail", b"550 not you\r\n", SMALL, AuthError),
    ("mail", b"552 5.3.4 too big\r\n", SMALL, Reason.CONTENT),
    ("rcpt", "hang", SMALL, RetryableError),
    ("rcpt", "close", SMALL, RetryableError),
    ("rcpt", "reset", SMALL, RetryableError),
    ("rcpt", "drip", SMALL, RetryableError),
    ("rcpt", NONSENSE, SMALL, RetryableError),
    ("rcpt", b"421 4.3.2 closing\r\n", SMALL, "deferred"),
    ("rcpt", b"450 4.7.1 greylisted\r\n", SMALL, "deferred"),
    ("rcpt", b"452 4.2.2 full\r\n", SMALL, "deferred"),
    ("rcpt", b"550-5.1.1 no such user\r\n550 5.1.1 see above\r\n", SMALL, Reason.BAD_ADDRESS),
    ("rcpt", b"550 unknown\r\n", SMALL, Reason.BAD_ADDRESS),
    ("rcpt", b"552 5.2.2 over quota\r\n", SMALL, Reason.MAILBOX_FULL),
    ("rcpt", b"554 5.7.1 Relay access denied\r\n", SMALL, AuthError),
    ("rcpt", b"556 5.1.10 null MX\r\n", SMALL, Reason.BAD_ADDRESS),
    ("data", "hang", SMALL, RetryableError),
    ("data", "close", SMALL, RetryableError),
    ("data", "reset", SMALL, RetryableError),
    ("data", "drip", SMALL, RetryableError),
    ("data", NONSENSE, SMALL, RetryableError),
    ("data", b"250 ok, but why\r\n", SMALL, RetryableError),
    ("data", b"421 4.3.2 closing\r\n", SMALL, "deferred"),
    ("data", b"451 4.3.0 later\r\n", SMALL, "deferred"),
    ("data", b"554 5.7.1 no\r\n", SMALL, Reason.VENDOR_POLICY),
    ("content", "hang", SMALL, DoubtError),  # a small mail is written at once, dot and all
    ("content", "close", SMALL, DoubtError),
    ("content", "reset", SMALL, DoubtError),
    ("content", "hang", LARGE, RetryableError),
    ("content", "close", LARGE, RetryableError),
    ("content", "reset", LARGE, RetryableError),
    ("end", "hang", SMALL, DoubtError),
    ("end", "close", SMALL, DoubtError),
    ("end", "reset", SMALL, DoubtError),
    ("end", "drip", SMALL, DoubtError),
    ("end", "close", LARGE, DoubtError),
    ("end", NONSENSE, SMALL, DoubtError),
    ("end", b"354 go on?\r\n", SMALL, DoubtError),
    ("end", b"999 what\r\n", SMALL, DoubtError),
    ("end", b"421 4.3.2 closing, not taken\r\n", SMALL, "deferred"),
    ("end", b"451 4.3.0 not taken\r\n", SMALL, "deferred"),
    ("end", b"550 5.7.1 looks like spam\r\n", SMALL, Reason.VENDOR_POLICY),
    ("end", b"550 5.7.26 not authenticated\r\n", SMALL, AuthError),
    ("end", b"552 5.3.4 too big\r\n", SMALL, Reason.CONTENT),
    ("end", b"554 5.6.0 malformed\r\n", SMALL, Reason.CONTENT),
    ("end", None, LARGE, "accepted"),
]


def called(row: tuple[object, ...]) -> str:
    step, fault, size, _ = row
    fault = fault.decode().strip()[:24] if isinstance(fault, bytes) else fault
    return f"{step}-{fault}-{'large' if size == LARGE else 'small'}"


@pytest.mark.parametrize(("step", "fault", "size", "told"), TABLE, ids=map(called, TABLE))
async def test_the_caller_is_told_what_may_have_left(step, fault, size, told, fault_server, smtp, message):
    async with fault_server(**{step: [fault]}).running() as server:
        gateway = await smtp(server.port)
        mail = message(text="x" * 70 + "\n" if size == SMALL else ("x" * 70 + "\n") * (size // 71))
        try:
            outcome: Receipt | Exception = await gateway.deliver(mail)
        except Exception as error:
            outcome = error
        if isinstance(told, type):
            assert type(outcome) is told
            assert str(server.port) in str(outcome)
        elif isinstance(told, Reason):
            assert isinstance(outcome, Receipt)
            assert (outcome.outcome, outcome.reason) == ("rejected", told)
        else:
            assert isinstance(outcome, Receipt)
            assert outcome.outcome == told
        if server.taken:
            assert told in (DoubtError, "accepted"), "the server has a mail that the caller would send again"
        # whatever happened, the next mail leaves
        taken = len(server.taken)
        assert (await gateway.deliver(message(2))).outcome == "accepted"
        assert len(server.taken) == taken + 1


async def test_a_refused_connection_can_be_tried_again(closed_port, smtp, message):
    gateway = await smtp(closed_port)
    with pytest.raises(RetryableError, match=str(closed_port)):
        await gateway.deliver(message())


async def test_not_now_then_yes_over_the_same_connection(fault_server, smtp, message):
    async with fault_server(rcpt=[b"450 4.2.1 busy\r\n"]).running() as server:
        gateway = await smtp(server.port)
        first = await gateway.deliver(message())
        second = await gateway.deliver(message())
        assert (first.outcome, first.detail) == ("deferred", "450 4.2.1 busy")
        assert second.outcome == "accepted"
        assert server.connections == 1
        assert b"RSET" in server.commands
        assert server.commands.count(b"DATA") == 1


@pytest.mark.parametrize("fault", ["close", "reset", b"421 4.4.2 idle too long\r\n"])
async def test_a_kept_connection_that_is_gone_costs_nothing(fault, fault_server, smtp, message):
    async with fault_server(mail=[None, fault]).running() as server:
        gateway = await smtp(server.port)
        outcomes = [(await gateway.deliver(message(n))).outcome for n in (1, 2)]
        assert outcomes == ["accepted", "accepted"]
        assert (server.connections, len(server.taken)) == (2, 2)


async def test_a_connection_closed_while_idle_is_not_used(fault_server, smtp, message):
    async with fault_server().running() as server:
        gateway = await smtp(server.port)
        await gateway.deliver(message(1))
        server.writers[0].write(b"421 4.4.2 idle\r\n")
        server.writers[0].close()
        await asyncio.sleep(0.05)
        assert (await gateway.deliver(message(2))).outcome == "accepted"
        assert server.connections == 2


async def test_an_idle_connection_is_asked_before_it_is_used(fault_server, smtp, message, monkeypatch):
    monkeypatch.setattr(connection, "IDLE_SECONDS", -1.0)
    async with fault_server().running() as server:
        gateway = await smtp(server.port)
        await gateway.deliver(message(1))
        await gateway.deliver(message(2))
        assert server.connections == 1
        assert server.commands.count(b"NOOP") == 1


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "end"])
async def test_an_interrupted_connection_is_not_used_again(step, fault_server, smtp, message):
    async with fault_server(**{step: ["hang"]}).running() as server:
        gateway = await smtp(server.port, timeout=5, verdict_timeout=5)
        task = asyncio.create_task(gateway.deliver(message(1)))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.writers[0].transport.resume_reading()
        await asyncio.sleep(0.05)
        assert server.readers[0].at_eof(), "the connection is ended at once"
        assert (await gateway.deliver(message(2))).outcome == "accepted"
        assert server.connections == 2


async def test_a_mail_larger_than_the_server_takes_is_not_sent(fault_server, smtp, message):
    async with fault_server((b"SIZE 2000",)).running() as server:
        gateway = await smtp(server.port)
        receipt = await gateway.deliver(message(text="long\n" * 1000))
        assert (receipt.outcome, receipt.reason) == ("rejected", Reason.CONTENT)
        assert (await gateway.deliver(message(2))).outcome == "accepted"
        assert any(command.startswith(b"MAIL") and b" SIZE=" in command for command in server.commands)
        assert (server.connections, len(server.taken)) == (1, 1)


async def test_an_international_address_needs_a_server_that_takes_them(fault_server, smtp, message):
    async with fault_server().running() as plain, fault_server((b"8BITMIME", b"SMTPUTF8")).running() as able:
        gateway = await smtp(plain.port)
        with pytest.raises(UnsupportedError, match="SMTPUTF8"):
            await gateway.deliver(message(address="安娜@buyers.example"))
        assert (await gateway.deliver(message())).outcome == "accepted"
        assert plain.connections == 1
        gateway = await smtp(able.port)
        assert (await gateway.deliver(message(address="安娜@buyers.example"))).outcome == "accepted"
        assert (await gateway.deliver(message())).outcome == "accepted"
        assert [b"SMTPUTF8" in command for command in able.commands if command.startswith(b"MAIL")] == [True, False]
        assert b"\r\nTo: \xe5\xae\x89\xe5\xa8\x9c@buyers.example\r\n" in able.taken[0]


async def test_what_a_server_says_is_kept_without_the_address(fault_server, smtp, message):
    async with fault_server(rcpt=[b"550 5.1.1 <ann1@buyers.example>:\xff\x00 unknown\r\n"]).running() as server:
        receipt = await (await smtp(server.port)).deliver(message())
        assert receipt.detail == "550 5.1.1 <recipient>:  unknown"


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (b"535 5.7.8 no\r\n", AuthError),
        (b"454 4.7.0 later\r\n", RetryableError),
        (b"421 4.7.0 bye\r\n", RetryableError),
        ("hang", RetryableError),
        ("close", RetryableError),
    ],
)
async def test_a_refused_login_is_tried_once_and_does_not_show_the_password(refusal, told, fault_server, smtp, message):
    async with fault_server((b"AUTH PLAIN LOGIN",), auth=[refusal]).running() as server:
        gateway = await smtp(server.port, username="shop", password="hunter2")
        with pytest.raises(told) as caught:
            await gateway.deliver(message())
        assert sum(command.startswith(b"AUTH") for command in server.commands) == 1
        assert "hunter2" not in str(caught.value)
        assert (await gateway.deliver(message())).outcome == "accepted"
