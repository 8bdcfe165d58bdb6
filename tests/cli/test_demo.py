"""`crmkit demo` as a person runs it: nothing but the program, in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CRMKIT = str(Path(sys.executable).with_name("crmkit"))


def run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command where nothing can be looked up from the environment: no proxy, no configuration."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CRMKIT_", "http", "HTTP"))}
    return subprocess.run(command, cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where the demo ran, and what it printed."""
    place = tmp_path_factory.mktemp("demo")
    result = run(CRMKIT, "demo", "--into", "shop", cwd=place, COLUMNS="160")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return place, result.stdout


def test_the_demo_tells_who_was_told_what_and_who_was_not(shown: tuple[Path, str]) -> None:
    _, text = shown
    assert "38 orders of 13 customers" in text
    assert "The mail server took 21 mails, each once; the plan made before had said the same 21." in text
    assert "shipment-late T1037" in text
    for reason in ("no-address", "no-consent", "opted-out", "overtaken", "quiet-hours"):
        assert f"1 {reason}" in text or f"2 {reason}" in text
    assert "60 more messages" in text
    assert "orders.csv:40" in text


def test_what_it_says_to_try_next_works(shown: tuple[Path, str]) -> None:
    place, text = shown
    change, *commands = [line.strip() for line in text.split("Try next")[1].splitlines()[1:] if line.strip()]
    folder = place / change.removeprefix("cd ")
    assert len(commands) == 3
    for command in commands:
        result = run("sh", "-c", command, cwd=folder, PATH=f"{Path(CRMKIT).parent}:{os.environ['PATH']}")
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    # the mail that waited for the morning is now a file
    assert len(list((folder / "outbox").glob("*.eml"))) == 1


def test_the_demo_is_the_same_every_time(shown: tuple[Path, str], tmp_path: Path) -> None:
    _, text = shown
    assert run(CRMKIT, "demo", "--into", "shop", cwd=tmp_path, COLUMNS="160").stdout == text


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = run(CRMKIT, "demo", "--into", ".", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "name a new folder" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_the_mail_server_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "aiosmtpd.py").write_text("raise ModuleNotFoundError('No module named aiosmtpd', name='aiosmtpd')")
    result = run(CRMKIT, "demo", "--into", "shop", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 2
    assert "pip install 'crmkit[demo]'" in result.stderr
