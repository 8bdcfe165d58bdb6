"""docs/vendors.md names what shows that an adapter is right, and that is there."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import capability  # noqa: E402 - what makes the page is beside it

sys.path.remove(str(ROOT / "docs"))
SHOWN = [
    (adapter, way, test)
    for adapter, ways in capability.VERIFIED.items()
    for way, tests in ways.items()
    for test in tests
]


def test_every_adapter_of_the_repository_is_on_the_page() -> None:
    points = [
        name
        for project in ROOT.glob("plugins/*/pyproject.toml")
        for name in tomllib.loads(project.read_text("utf-8"))["project"]["entry-points"].get("crmkit", ())
        if not name.startswith("play.")
    ]
    assert sorted(capability.adapters()) == sorted(points)
    page = (ROOT / "docs" / "vendors.md").read_text("utf-8")
    assert [name for name in points if page.count(f"| `{name}` |") != 2] == []


def test_what_is_verified_is_of_adapters_there_are_and_in_ways_there_are() -> None:
    assert set(capability.VERIFIED) <= set(capability.adapters())
    assert {way for _, way, _ in SHOWN} <= set(capability.WAYS) - {"contract"}


def read(file: str) -> str:
    """A test file, and what it imports of the tests beside it."""
    text = (ROOT / file).read_text("utf-8")
    imported = [node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.module]
    beside = [ROOT / f"{module.replace('.', '/')}.py" for module in imported if module.startswith("tests.")]
    return "\n".join([text, *(path.read_text("utf-8") for path in beside if path.is_file())])


@pytest.mark.parametrize(("adapter", "way", "test"), SHOWN)
def test_what_is_said_to_show_it_does(adapter: str, way: str, test: str) -> None:
    """It exists, it is about that adapter, and it is what it is called."""
    file, _, name = test.partition("::")
    text = read(file)
    kind = capability.adapters()[adapter]
    assert kind.__name__ in text or kind.name in text.lower()
    assert not name or name in {getattr(node, "name", "") for node in ast.walk(ast.parse(text))}
    if way == "described":
        assert "e2e" in text
        assert "prism" in text
    if way == "vectors":
        assert "vector" in text or "SDK" in text


def test_a_contract_suite_is_found_by_the_adapter_it_names() -> None:
    for kind, files in capability.contracts().items():
        assert kind in {one.__name__ for one in capability.adapters().values()}, files


def test_a_door_is_told_as_it_is_declared() -> None:
    rows = {row[0]: row for row in [*capability.sources(), *capability.gateways()]}
    assert "Twilio signed the call" in rows["`sms.twilio`"][6]
    assert rows["`email.smtp`"][6] == ""
    assert "overlap 5m" in rows["`marketplace.woocommerce`"][2]
