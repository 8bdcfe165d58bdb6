"""PostgreSQL databases that are set up for workers, and shops on them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crmkit.testing.database import MigratedTemplates, PostgresServer
from crmkit_cluster import schema
from plugins.cluster.tests.shop import Shop


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def plain_url(postgres_server: PostgresServer, migrated_templates: MigratedTemplates, migrate: Any) -> Iterator[str]:
    """A database with the core's tables."""
    name = migrated_templates.postgresql(migrate, postgres_server)
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
def url(plain_url: str) -> str:
    """One that is set up for workers, too."""
    schema.set_up(plain_url)
    return plain_url


@pytest.fixture
def shop(tmp_path: Path, url: str) -> Shop:
    return Shop(tmp_path, url)
