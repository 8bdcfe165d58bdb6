"""All of the door as one ASGI application."""

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from crmkit.engine.local import Local
from crmkit.web import contact, extension, health, metrics, order, preferences, statement, survey, unsubscribe, webhooks
from crmkit.web.access import Access
from crmkit.web.guard import Guard
from crmkit.web.limit import Limits, burst
from crmkit.web.pace import Pace, paced
from crmkit.web.page import broken, instead
from crmkit.web.shield import Shield
from crmkit.web.site import PageError, Site


def create(
    local: Local, clock: Callable[[], datetime] = lambda: datetime.now(UTC), limits: Limits | None = None
) -> FastAPI:
    """The application of an installation.

    Args:
        local: the installation, prepared; the caller closes its database.
        clock: the time; the wall clock by default.
        limits: what webhooks are allowed; what `[web]` says by default.
    """
    # no redirect to a path with or without a slash: it would be made from what the caller claims to have called
    app = FastAPI(title="crmkit", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.site = site = Site(local, clock)
    app.state.gate = webhooks.Gate(site, limits or Limits(calls=burst(local.host.config.web.webhooks)))
    app.state.guard = Guard(site)
    app.state.pace = Pace(site)
    app.add_middleware(webhooks.Doorway)
    app.add_middleware(Shield)
    app.add_middleware(Access)
    app.mount("/static", StaticFiles(directory=str(files("crmkit.web") / "static")), name="static")
    app.state.health = health.Health(site)
    app.state.meter = metrics.Meter(site)
    app.include_router(health.router)
    app.include_router(metrics.router)
    for page in (order, statement, unsubscribe, preferences, survey, contact):
        app.include_router(page.router, dependencies=[Depends(paced)])
    app.add_exception_handler(PageError, instead)
    app.add_exception_handler(Exception, broken)
    extension.mount(app, local.host)
    return app
