"""What the tests of the core's own rooms share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from crmkit.store.engine import Store
from tests.play import Play

_CALM = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
settings.register_profile(
    "quick", max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=_CALM
)
settings.register_profile("thorough", max_examples=1500, deadline=None, database=None, suppress_health_check=_CALM)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    """An open database with crmkit's tables in it."""
    opened = Store(migrated_url)
    yield opened
    opened.close()


@pytest.fixture
def play(store: Store, tmp_path: Path) -> Play:
    """A small installation on an open database."""
    return Play(store, tmp_path / "play")
