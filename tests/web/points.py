"""A plugin with pages of every kind: a loyalty plugin's points."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Query, WebSocket
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from crmkit import Action, Event, PageCrm, PluginSettings, Routes, hookimpl, on


class PointsGiven(Event):
    """A customer was given points."""

    points: int
    why: str | None = None


class Settings(PluginSettings):
    """How much."""

    most: int = 100


#: What the handler was given.
GIVEN: list[tuple[int | None, int, str]] = []

reads, gives, public = APIRouter(), APIRouter(), APIRouter()


@reads.get("/customers/{number}")
def show(number: int, crm: PageCrm) -> dict[str, Any]:
    customer = crm.customer(number)
    return {"name": customer and customer.name, "most": crm.settings.most, "now": crm.now}


@reads.get("/broken")
def broken() -> None:
    raise RuntimeError("ann@buyers.example")


@reads.get("/{path:path}")
def anything(path: str) -> dict[str, str]:
    return {"path": path}


@gives.post("/points")
def give(
    number: int, points: int, key: Annotated[str, Query(min_length=1)], crm: PageCrm, why: str | None = None
) -> dict[str, bool]:
    return {"is_new": crm.tell(PointsGiven(points=points, why=why, customer=crm.customer(number)), key=key)}


@gives.post("/hurried")
async def hurried(crm: PageCrm) -> None:
    crm.tell(PointsGiven(points=1), key="1")


@gives.websocket("/named")
async def named(socket: WebSocket, crm: PageCrm) -> None:
    await socket.accept()
    customer = await run_in_threadpool(crm.customer, 1)
    await socket.send_text(f"{customer and customer.name} {crm.settings.most}")
    await socket.close()


@gives.websocket("/live")
async def live(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("here")
    await socket.close()


async def _inner(request: Request) -> PlainTextResponse:
    return PlainTextResponse("inner")


async def _swallowed(request: Request) -> PlainTextResponse:
    try:
        return PlainTextResponse(f"{len(await request.body())}")
    except Exception:
        return PlainTextResponse("whatever")


class _Refused(Starlette):
    """A whole application in a router."""

    calls: ClassVar[int] = 0


gives.mount(
    "/app",
    _Refused(routes=[Route("/page", _inner, methods=["GET", "POST"]), Route("/eats", _swallowed, methods=["POST"])]),
)
gives.routes.append(Route("/raw", _inner))


@public.post("/said")
def said(body: dict[str, str]) -> int:
    return len(body)


@public.post("/unread")
def unread() -> str:
    return "not asked"


@public.get("/hello")
def hello() -> str:
    return "hello"


@on(PointsGiven)
def count(event: PointsGiven, crm: Any) -> Iterator[Action]:
    GIVEN.append((event.customer and event.customer.profile_id, event.points, event.actor))
    return iter(())


@hookimpl
def crmkit_handlers() -> Iterator[Any]:
    yield count


@hookimpl
def crmkit_web() -> Iterator[Routes]:
    yield Routes(public, is_public=True, largest_body=2_000)
    yield Routes(gives, scope="give")
    yield Routes("tests.web.points:reads")
