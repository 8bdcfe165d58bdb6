"""A line of the log for each page that is asked for: which page, and never its path, which may be a secret."""

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crmkit.core.correlation import correlation
from crmkit.core.log import PAGE_FAILED, PAGE_SHOWN, told_of

#: Of these there are lines of their own, or none is wanted: they are asked for all day.
_APART = ("/webhooks/", "/static/", "/healthz", "/readyz", "/metrics")


class Access:
    """Gives each request an id, which its answer carries, and says what became of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http" or scope["path"].startswith(_APART):
            await self.app(scope, receive, send)
            return
        began, status, own = time.perf_counter(), 500, correlation()
        scope["correlation"] = own

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault("X-Request-Id", own)
            await send(message)

        broken: Exception | None = None
        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            broken = error
            raise
        finally:
            seconds = round(time.perf_counter() - began, 4)
            said = {"page": _page(scope), "method": scope["method"], "seconds": seconds, "correlation": own}
            if broken is not None:
                PAGE_FAILED.say(status=500, **told_of(broken), **said)
            else:
                PAGE_SHOWN.say(status=status, **said)


def _page(scope: Scope) -> str | None:
    """Which page it is: its path as it is declared; a plugin's is its plugin's."""
    plugin = getattr(scope.get("endpoint"), "pages", None)
    if plugin is not None:
        return str(plugin.loaded.name)
    path = getattr(scope.get("route"), "path", None)
    return None if path is None else str(path)
