"""Plugins' pages: each plugin's under `/<plugin>/`, behind its scope unless they are public.

The guard stands before whatever a router holds (routes, mounted applications, web sockets, any method), and a path is
looked up once: what it finds is both what is guarded and what answers. A router that cannot be imported, or a page that
raises, harms nothing but itself.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException as Answered
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import Message, Receive, Scope, Send

from crmkit.core.errors import PluginError
from crmkit.core.hooks import Routes
from crmkit.core.log import PAGE_FAILED, told_of
from crmkit.host.host import Host
from crmkit.host.opening import Broken, Pages
from crmkit.web.crm import WebCrm
from crmkit.web.guard import allowed, guard_of
from crmkit.web.page import instead
from crmkit.web.site import PageError, site_of

#: Where in a request's scope its plugin is found.
_PAGES = "crmkit.pages"
#: What answers a request as it should be answered; anything else that is raised is a page's own fault.
_ANSWERS = (Answered, RequestValidationError, PageError)


def mount(app: FastAPI, host: Host) -> None:
    """Serve the pages of every plugin; one whose router is broken is listed, and its pages say so."""
    every = []
    for pages in host.pages:
        try:
            extension = Extension(pages, [(routes, pages.loaded.router(routes)) for routes in pages.routes])
        except PluginError as error:
            PAGE_FAILED.say(page=pages.loaded.name, **told_of(error))
            host.broken.append(Broken(pages.loaded.name, error, f"the pages of {pages.loaded.name}"))
            extension = Extension(pages, None)
        every.append(extension)
        app.router.routes.append(Mount(f"/{pages.slug}", app=extension, name=pages.slug))

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            documented = [route for extension in every for route in extension.documented()]
            with warnings.catch_warnings():  # pages that answer GET and HEAD alike are one operation
                warnings.filterwarnings("ignore", "Duplicate Operation ID")
                routes = [*app.routes, *documented]
                app.openapi_schema = get_openapi(title="crmkit", version=app.version, routes=routes)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


@dataclass
class Extension:
    """The pages of one plugin as an application; `routers` is None where they are broken."""

    pages: Pages
    routers: Sequence[tuple[Routes, APIRouter]] | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: its page is looked up, guarded, and asked."""
        if scope["type"] not in {"http", "websocket"}:
            return
        request = HTTPConnection(scope)
        found = self._find(scope)
        try:
            if found is None:
                raise HTTPException(404) if self.routers is not None else PageError(503, "broken")
            routes, route, more = found
            if not routes.is_public:
                await guard_of(request).admit(request, f"{self.pages.slug}:{routes.scope}")
            await self._ask(
                route, {**scope, **more, _PAGES: self.pages}, _Body(routes.largest_body, scope, receive), send
            )
        except (Answered, PageError) as error:
            if scope["type"] == "http":
                raise
            code = 1008 if isinstance(error, Answered) and error.status_code in {401, 403, 404, 429} else 1011
            await send({"type": "websocket.close", "code": code})

    def _find(self, scope: Scope) -> tuple[Routes, BaseRoute, Scope] | None:
        """The page a request is for: the first that fits, else the first that fits but for its method."""
        partial = None
        for routes, router in self.routers or ():
            for route in router.routes:
                match, more = route.matches(scope)
                if match == Match.FULL:
                    return routes, route, more
                if match == Match.PARTIAL and partial is None:
                    partial = routes, route, more
        return partial

    async def _ask(self, route: BaseRoute, scope: Scope, body: "_Body", send: Send) -> None:
        """Ask the page; what it raises ends its own answer only."""
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            if begun or not body.is_too_large:  # else it is said below, whatever the page made of it
                begun = True
                await send(message)

        try:
            if not body.is_too_large:
                await route.handle(scope, body, sent)
        except Exception as error:  # a plugin's code; the text may hold what is personal, so only its kind is told
            if body.is_too_large and not begun:
                raise _too_large() from None
            if isinstance(error, _ANSWERS):
                raise
            PAGE_FAILED.say(page=self.pages.loaded.name, method=scope.get("method"), **told_of(error))
            if begun:
                raise
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1011})
                return
            answer = await instead(Request(scope, body), PageError(500, "broken"))
            await answer(scope, body, send)
            return
        if body.is_too_large and not begun:
            raise _too_large()

    def documented(self) -> list[BaseRoute]:
        """Its pages as a schema shows them: where they are, and what they need."""
        shown = FastAPI()
        for routes, router in self.routers or ():
            needs = [] if routes.is_public else [Depends(allowed(f"{self.pages.slug}:{routes.scope}"))]
            shown.include_router(router, prefix=f"/{self.pages.slug}", dependencies=needs)
        return list(shown.routes)


class _Body:
    """What is sent to a page, up to so many bytes.

    Args:
        largest: so many.
        scope: of the request; what it says of its length is believed where that is too much.
        receive: gives what is sent.
    """

    def __init__(self, largest: int, scope: Scope, receive: Receive) -> None:
        self.largest, self.receive, self.read = largest, receive, 0
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        self.told = max((int(one[:20]) for one in lengths if one.isdigit()), default=0)

    @property
    def is_too_large(self) -> bool:
        """Whether more came, or is to come."""
        return max(self.read, self.told) > self.largest

    async def __call__(self) -> Message:
        """What comes next.

        Raises:
            HTTPException: 413.
        """
        if self.is_too_large:
            raise _too_large()
        message = await self.receive()
        self.read += len(message.get("body", b"")) if message["type"] == "http.request" else 0
        if self.is_too_large:
            raise _too_large()
        return message


def _too_large() -> HTTPException:
    return HTTPException(413, "too large", {"Connection": "close"})


def web_crm(request: HTTPConnection) -> Iterator[WebCrm]:
    """What a page of a plugin is given."""
    pages: Pages = request.scope[_PAGES]
    crm = WebCrm(site_of(request), pages.name, pages.settings)
    try:
        yield crm
    finally:
        crm.close()


#: The argument of a plugin's page: `def show(crm: PageCrm)`.
PageCrm = Annotated[WebCrm, Depends(web_crm)]
