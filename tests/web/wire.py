"""Requests exactly as they are given: no client has tidied them up."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from tests.web.conftest import Town


async def exactly(town: Town, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    """The status and headers of an answer to a path that no client has tidied up."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": unquote(path), "raw_path": path.encode(), "headers": raw}
    more = {"query_string": b"", "scheme": "https", "root_path": "", "http_version": "1.1", "server": ("x", 443)}
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    await town.app({**scope, **more, "asgi": {"version": "3.0"}, "client": ("192.0.2.9", 1)}, receive, send)
    return said[0]["status"], {name.decode(): value.decode() for name, value in said[0]["headers"]}
