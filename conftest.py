"""What every test of the repository shares; the fixtures plugin authors get too are in `crmkit.testing.plugin`."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SHARED_DATA = Path(__file__).parent.parent / "shared" / "data"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets that lies beside the repository; a test that asks for it is marked `shared`."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real data sets, which are not in the repository: {SHARED_DATA} does not exist")
    return SHARED_DATA
