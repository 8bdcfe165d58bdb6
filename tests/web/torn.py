"""A plugin whose router cannot be imported."""

from collections.abc import Iterator

from crmkit import Routes, hookimpl


@hookimpl
def crmkit_web() -> Iterator[Routes]:
    yield Routes("tests.web.torn:no_such_router")
