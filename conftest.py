"""What every test of the repository shares; the fixtures plugin authors get too are in `crmkit.testing.plugin`."""

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
