"""Writes mail into a folder, one `.eml` file each: what would have been sent, to be opened with any mail program.

A mail's file is named after its key and appears whole or not at all, so sending the same key again cannot double it.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from crmkit import AdapterError, AuthError, Gateway, Message, Reason, Receipt, RetryableError, hookimpl
from crmkit_email.mime import MailSettings, Writer, key_hash

#: What the operator has to mend; anything else (a full disk) may pass.
_MEND = (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError)


class FolderGateway(Gateway):
    """Writes mail into a folder."""

    name = "folder"
    channel = "email"
    reaches = ("email",)
    deduplicates = True

    class Settings(MailSettings):
        """Where to."""

        #: the folder; made if it is not there
        path: Path = Path("outbox")
        sender: str = "crmkit@localhost"

    settings: Settings

    async def open(self) -> None:
        self._path = self.account.folder / self.settings.path
        self._writer = Writer(self.settings)

    async def deliver(self, message: Message) -> Receipt:
        """Write one mail; a mail that is there already is accepted again.

        Raises:
            AuthError: the folder cannot be written.
            RetryableError: the file could not be written just now.
            UnsupportedError, PayloadError: this mail cannot be written.
        """
        try:
            mail = self._writer.write(message, message.decided_at or self.now())
        except ValueError as error:
            return message.rejected(Reason.BAD_ADDRESS, f"not an e-mail address: {error}")
        except AdapterError as error:
            error.who = self.account.name
            raise
        file = self._path / f"{key_hash(message.key)}.eml"
        try:
            await asyncio.to_thread(_write_once, file, mail.content)
        except OSError as error:
            what = f"cannot write {file} ({error.strerror or error})"
            if isinstance(error, _MEND) or error.errno == errno.EROFS:
                raise self.error(AuthError, "deliver", what, f"make {self._path} a writable folder") from error
            raise self.error(RetryableError, "deliver", what) from error
        return message.accepted(vendor_id=mail.message_id, detail=str(file))

    async def check(self) -> Iterable[str]:
        """Writes a file and removes it."""
        await self.open()
        file = self._path / f".check-{os.getpid()}"
        try:
            await asyncio.to_thread(_write_once, file, b"")
            file.unlink()
        except OSError as error:
            return [f"email folder check: cannot write in {self._path} ({error.strerror or error}); make it writable"]
        return []


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield FolderGateway


def _write_once(file: Path, content: bytes) -> None:
    """Write a file that appears whole and stays, unless it is there already."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
