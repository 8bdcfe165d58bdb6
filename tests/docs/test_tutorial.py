"""The pages with commands are run, command by command: what is printed is what they say."""

import os
from pathlib import Path

import pytest

from tests.docs.snippet import ROOT, fences, play


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the reader sits: nothing of the environment is told to crmkit, and the screen is wide."""
    for name in [name for name in os.environ if name.startswith(("CRMKIT_", "PYTEST_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["../README.md", "tutorial.md"])
def test_every_command_does_what_the_page_says(page: str, folder: Path) -> None:
    found = fences((ROOT / "docs" / page).read_text("utf-8"))
    assert any(fence.info[:1] == ["console"] for fence in found)
    for fence in found:
        play(fence, folder)
