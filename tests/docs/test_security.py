"""The page on security names tests that exist, and counts that are true."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`((?:plugins/\w+/)?tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)))


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_is_named_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    assert not name or name in names_in(file)


def test_every_threat_names_a_test() -> None:
    table = TEXT.partition("## Threats")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 30
    assert [row for row in rows if "`tests/" not in row and "`plugins/" not in row] == []


def test_the_vectors_that_are_counted_are_those_there_are() -> None:
    from tests.vectors.schemes import DOOR, HANDSHAKES, NOT_THE_DOORS

    counted = re.search(r"(\d+) vectors: (\d+) .* (\d+) .* (\d+) ", TEXT)
    assert counted is not None
    found = (len(DOOR), len(HANDSHAKES), len(NOT_THE_DOORS))
    assert [int(one) for one in counted.groups()] == [sum(found), *found]
