import asyncio
import email
import email.policy
import os
from pathlib import Path

import httpx
import pytest

from crmkit import Account, AuthError, Reason, RetryableError
from crmkit_email import folder as module
from crmkit_email.folder import FolderGateway


@pytest.fixture
async def gateway(tmp_path):
    async with httpx.AsyncClient() as http:
        made = FolderGateway(FolderGateway.Settings(), Account("folder", "UTC", None, None, tmp_path), http)
        await made.open()
        yield made
        await made.close()


async def test_a_mail_becomes_a_file(gateway, message, tmp_path):
    receipt = await gateway.deliver(message(subject="您的订单 📦", html="<p>Hi</p>"))
    [file] = (tmp_path / "outbox").iterdir()
    assert file.suffix == ".eml"
    assert file.stat().st_mode & 0o077 == 0
    mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    assert (mail["subject"], mail["to"], mail["from"]) == ("您的订单 📦", "ann1@buyers.example", "crmkit@localhost")
    assert mail["date"].datetime == message().decided_at
    assert (receipt.outcome, receipt.vendor_id) == ("accepted", mail["message-id"])


async def test_the_same_key_is_one_file(gateway, message, tmp_path):
    first = await gateway.deliver(message())
    [file] = (tmp_path / "outbox").iterdir()
    before = file.stat()
    receipts = await asyncio.gather(*(gateway.deliver(message()) for _ in range(8)))
    assert {receipt.vendor_id for receipt in receipts} == {first.vendor_id}
    assert list((tmp_path / "outbox").iterdir()) == [file]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    await gateway.deliver(message(2))
    assert len(list((tmp_path / "outbox").iterdir())) == 2


async def test_a_folder_that_cannot_be_written_pauses_the_account(gateway, message, tmp_path):
    (tmp_path / "outbox").write_text("a file where the folder should be")
    with pytest.raises(AuthError, match=r"folder deliver: cannot write .*outbox.*; make .*outbox a writable"):
        await gateway.deliver(message())
    [problem] = await gateway.check()
    assert str(tmp_path / "outbox") in problem
    (tmp_path / "outbox").unlink()
    assert (await gateway.deliver(message())).outcome == "accepted"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
async def test_a_read_only_folder_pauses_the_account(gateway, message, tmp_path):
    (tmp_path / "outbox").mkdir(mode=0o500)
    with pytest.raises(AuthError, match="cannot write"):
        await gateway.deliver(message())
    assert list(await gateway.check()) != []


@pytest.mark.parametrize(
    ("number", "told"), [(13, AuthError), (30, AuthError), (28, RetryableError), (5, RetryableError)]
)
async def test_what_is_half_written_is_not_there(number, told, gateway, message, tmp_path, monkeypatch):
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", fail)
        with pytest.raises(told):
            await gateway.deliver(message())
    assert list((tmp_path / "outbox").iterdir()) == []
    assert (await gateway.deliver(message())).outcome == "accepted"


async def test_what_is_no_address_is_not_written(gateway, message, tmp_path):
    receipt = await gateway.deliver(message(address="a@@b"))
    assert (receipt.outcome, receipt.reason) == ("rejected", Reason.BAD_ADDRESS)
    assert not (tmp_path / "outbox").exists()


async def test_check_leaves_nothing_behind(gateway, tmp_path):
    assert list(await gateway.check()) == []
    assert list((tmp_path / "outbox").iterdir()) == []


def test_the_plugin_brings_its_gateway():
    assert list(module.crmkit_gateways()) == [FolderGateway]
    assert FolderGateway.deduplicates
    assert FolderGateway.Settings().path == Path("outbox")
