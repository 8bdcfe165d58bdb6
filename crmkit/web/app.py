"""All of the door as one ASGI application."""

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from crmkit.engine.local import Local
from crmkit.web import preferences, unsubscribe
from crmkit.web.page import instead
from crmkit.web.site import PageError, Site


def create(local: Local, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> FastAPI:
    """The application of an installation.

    Args:
        local: the installation, prepared; the caller closes its database.
        clock: the time; the wall clock by default.
    """
    app = FastAPI(title="crmkit", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = Site(local, clock)
    app.mount("/static", StaticFiles(directory=str(files("crmkit.web") / "static")), name="static")
    app.include_router(unsubscribe.router)
    app.include_router(preferences.router)
    app.add_exception_handler(PageError, instead)
    return app
