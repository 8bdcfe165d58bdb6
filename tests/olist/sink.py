"""A real SMTP server in a process of its own: keeps every mail it takes as a file. `sink.py PORT FOLDER`."""

import sys
import time
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope


class Keep:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        number = len(list(self.folder.iterdir()))
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        head = f"X-Recipients: {','.join(envelope.rcpt_tos)}\r\n".encode()
        (self.folder / f"{number:06}.eml").write_bytes(head + content)
        return "250 2.0.0 kept"


if __name__ == "__main__":
    controller = Controller(Keep(Path(sys.argv[2])), hostname="127.0.0.1", port=int(sys.argv[1]))
    controller.start()
    print("ready", flush=True)
    while True:
        time.sleep(60)
