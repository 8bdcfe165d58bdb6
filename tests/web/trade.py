"""Trade in a town: orders come to the booth by webhook, the courier brings the thanks, and says what became of them."""

import json
import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.web.booth import SECRET, SIGNED, Booth, Courier
from tests.web.conftest import NOON, Town

INSTALLED = [
    EntryPoint("marketplace.booth", "tests.web.booth", "crmkit"),
    EntryPoint("marketplace.stall", "tests.web.stall", "crmkit"),
    EntryPoint("email.courier", "tests.web.booth", "crmkit"),
    EntryPoint("play.thanks", "tests.web.thanks", "crmkit"),
]
MORE = """
[shops.booth]
use = "booth"
announce_from = "2026-01-01T00:00:00Z"
[plugins]
use = ["thanks"]
[[channels.email]]
use = "courier"
"""
THANKS = 'purpose = "transactional"\nsubject = "Thanks"\n---\nThank you, {{ customer.name }}.'


def open_town(folder: Path, url: str, patch: pytest.MonkeyPatch, more: str = "") -> Town:
    """A town with the booth and the courier."""
    patch.setitem(Town.__init__.__globals__, "INSTALLED", INSTALLED)
    (folder / "templates").mkdir(parents=True)
    (folder / "templates" / "thanks.en.email.txt").write_text(f"---\n{THANKS}", "utf-8")
    for one in (Booth.there, Courier.taken, Courier.answers):
        one.clear()
    return Town(folder, url, MORE + more)


class Lines(logging.Handler):
    """Keeps the lines of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        if hasattr(record, "facts"):
            self.said.append({"line": record.line, "logger": record.name, **record.facts})  # type: ignore[attr-defined]

    def of(self, correlation: str) -> list[str]:
        """What was said of one id."""
        return [one["line"] for one in self.said if one.get("correlation") == correlation]


def placed(number: str, **more: Any) -> dict[str, Any]:
    who = {"buyer": f"b{number}", "name": f"Buyer {number}", "email": f"b{number}@buyers.example"}
    return {"id": number, **who, "placed_at": NOON.isoformat(), **more}


async def call(town: Town, account: str, said: Mapping[str, Any]) -> str:
    """A webhook comes in; the id it was given."""
    body = json.dumps(said).encode()
    headers = {"content-type": "application/json", "x-signature": SIGNED.written(SECRET, body)}
    answer: httpx.Response = await town.client.post(f"/webhooks/{account}", content=body, headers=headers)
    assert answer.status_code < 300, answer.text
    return answer.headers["x-request-id"]
