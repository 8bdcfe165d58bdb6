"""An SMTP server in a process of its own. Every mail is on disk before its sender hears 250.

`python -m crashkit.sink FOLDER [SECONDS]` prints its port. The ledger of a sender is the file of its name in FOLDER, as
every fake vendor keeps it. SECONDS: how long it takes over a mail.
"""

import asyncio
import sys
from email.parser import BytesHeaderParser
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP

from crmkit.testing.ledger import Ledger


class Taker:
    """Takes every mail."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        key = str(BytesHeaderParser(policy=default).parsebytes(envelope.content)["X-Crmkit-Key"])
        ledger = Ledger(self.folder / envelope.mail_from)
        ledger.write("request", key=key)
        await asyncio.sleep(self.seconds)
        ledger.write("accepted", key=key)
        return "250 2.0.0 taken"


async def serve(folder: Path, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    taker = Taker(folder, seconds)
    server = await loop.create_server(lambda: SMTP(taker, hostname="localhost", loop=loop), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
