"""The folder of mails is held to what every gateway is; there is no vendor, only a disk."""

import asyncio
import email
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.policy import default
from pathlib import Path
from typing import Any

from crmkit.testing import GatewayContract
from crmkit.testing.contract import runs
from crmkit.testing.exchange import Sent
from crmkit_email.folder import FolderGateway


class TestFolder(GatewayContract):
    adapter = FolderGateway
    settings = {"path": "outbox", "sender": "Tea House <shop@tea.example>"}
    fixtures = Path(__file__).parent / "folder"
    lacks = {
        "faults": "there is no vendor that could fail; a disk that does is in test_folder",
        "unknown-code": "a folder has no codes",
        "reasons": "a folder refuses nothing but what is no address",
    }

    @asynccontextmanager
    async def facing(self, fault: Any) -> AsyncIterator[Any]:
        yield self.make()

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[tuple[Any, list[Sent]]]:
        sent: list[Sent] = []
        async with self.opened() as gateway:
            yield gateway, sent
            sent.extend(Sent("MAIL", f"/{file.name}", (), file.read_bytes()) for file in self._mails())

    def _mails(self) -> list[Path]:
        return sorted((self.folder / "outbox").glob("*.eml"))

    def says(self, sent: Sent, text: str) -> bool:
        body = email.message_from_bytes(sent.body, policy=default).get_body(("plain",))
        assert body is not None
        return text.strip() in body.get_content().replace("\r\n", "\n")

    def test_a_key_that_is_sent_again(self) -> None:
        async def run() -> int:
            async with self.opened() as gateway:
                for key in ("1", "1", "2"):
                    await gateway.deliver(self.to({"key": key}))
                return len(await asyncio.to_thread(self._mails))

        assert runs(run) == 2

    def connections(self) -> int:
        return 0
