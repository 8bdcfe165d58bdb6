"""What every answer carries, whoever gave it: that it is kept by nobody, framed by nobody, and taken for what it is."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crmkit.web.page import HEADERS

_CARRIED = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
#: How pages look may be kept.
_OF_STATIC = [pair for pair in _CARRIED if pair[0] != b"cache-control"]


class Shield:
    """Adds the headers of pages to answers that have no such header of their own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        carried = _OF_STATIC if scope["path"].startswith("/static/") else _CARRIED

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                names = {name.lower() for name, _ in own}
                message = {**message, "headers": own + [pair for pair in carried if pair[0] not in names]}
            await send(message)

        await self.app(scope, receive, shielded)
