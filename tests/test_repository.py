"""The repository's own rules, so far as a program can check them."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
FAMILIES = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def contract(name: str) -> dict[str, Any]:
    return next(one for one in PROJECT["tool"]["importlinter"]["contracts"] if one["id"] == name)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_known_to_every_tool(family: Path) -> None:
    package = f"crmkit_{family.name}"
    tools = PROJECT["tool"]
    assert (family / package / "py.typed").exists()
    assert f"plugins/{family.name}" in tools["ruff"]["src"]
    assert f"$MYPY_CONFIG_FILE_DIR/plugins/{family.name}" in tools["mypy"]["mypy_path"].split(":")
    assert f"crmkit-{family.name}" in tools["uv"]["sources"]
    assert package in tools["importlinter"]["root_packages"]
    assert package in contract("plugins-import-crmkit")["source_modules"]
    assert package in contract("crmkit-imports-no-plugin")["forbidden_modules"]
    assert package in contract("plugins-are-strangers")["modules"]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_comes_with_an_extra_of_its_name_and_with_all(family: Path) -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert extras[family.name] == [f"crmkit-{family.name}"]
    everything = " ".join([*extras["all"], *extras["demo"]])
    assert f"crmkit-{family.name}" in everything


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_versions_move_together(family: Path) -> None:
    plugin = tomllib.loads((family / "pyproject.toml").read_text())
    assert plugin["project"]["version"] == PROJECT["project"]["version"]


def test_no_package_hides_the_standard_library() -> None:
    """`plugins/email/__init__.py` with `plugins/` on the path is the `email` that httpx then imports."""
    assert [path for pattern in ("plugins/__init__.py", "plugins/*/__init__.py") for path in ROOT.glob(pattern)] == []


def test_every_room_is_held_by_a_contract() -> None:
    layers = " ".join(contract("rooms")["layers"])
    rooms = {path.parent.name for path in ROOT.glob("crmkit/*/__init__.py")} - {"testing"}
    assert {room for room in rooms if f"({room})" not in layers} == set()


def test_the_lock_pins_every_requirement_with_its_hashes_and_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text()
    pins = [line for line in text.splitlines() if not line.startswith(" ")]
    assert all("==" in line and line.endswith("\\") for line in pins)
    assert "://" not in text
    assert not any(line.startswith("crmkit") for line in pins)


def test_every_make_target_is_explained() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    targets = next(line for line in lines if line.startswith(".PHONY:")).removeprefix(".PHONY:").split()
    explained = [line.split(":")[0] for line in lines if "  ## " in line and line[0] != "\t"]
    assert sorted(explained) == sorted(targets)
