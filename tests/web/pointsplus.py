"""A plugin whose name begins as another's, and whose router would like to be elsewhere."""

from collections.abc import Iterator

from fastapi import APIRouter

from crmkit import Routes, hookimpl

router = APIRouter()


@router.get("/anything")
def anything() -> str:
    return "plus"


@router.get("/../metrics")
@router.get("/../points/points")
def elsewhere() -> str:
    return "elsewhere"


#: As if it were at the door itself.
door = APIRouter(prefix="/webhooks")


@door.get("/stall")
def stall() -> str:
    return "no door"


@hookimpl
def crmkit_web() -> Iterator[Routes]:
    yield Routes(router)
    yield Routes(door, is_public=True)
