"""The pages with commands are run, command by command: what is printed is what they say."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.snippet import DOCS, fences, play, stop

#: All but the first take a minute each: they run with `make docs`.
LONG = ["tutorial.md", *(f"tutorial/{path.name}" for path in sorted(DOCS.glob("tutorial/*.md")))]
PAGES = ["../README.md", *(pytest.param(page, marks=pytest.mark.docs) for page in LONG)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the reader sits: nothing of the environment is told to crmkit, and the screen is wide."""
    for name in [name for name in os.environ if name.startswith(("CRMKIT_", "PYTEST_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    stop()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_does_what_the_page_says(page: str, folder: Path) -> None:
    found = fences((DOCS / page).read_text("utf-8"))
    assert any(fence.info[:1] == ["console"] for fence in found)
    for fence in found:
        play(fence, folder)
