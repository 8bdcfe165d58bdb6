"""The lines of the log: what each declares is said of it somewhere."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import crmkit
from crmkit.core import log
from crmkit.core.log import LINES

#: The name each line has in the code.
CODED = {coded: line for coded, line in vars(log).items() if isinstance(line, log.Line)}
#: What `told_of` gives.
OF_AN_ERROR = {"operation", "error", "place"}


def keys_of(node: ast.AST, given: dict[str, set[str]]) -> set[str]:
    """The keys of what is handed over as `**node`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "told_of":
        return set(OF_AN_ERROR)
    if isinstance(node, ast.Name):
        return given.get(node.id, set())
    if isinstance(node, ast.Dict):
        keys: set[str] = set()
        for key, value in zip(node.keys, node.values, strict=True):
            keys |= keys_of(value, given) if key is None else {key.value} if isinstance(key, ast.Constant) else set()
        return keys
    return set()


def said_in(module: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """(the name of a line, what is said of it) for every place that says it."""
    given: dict[str, set[str]] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    given.setdefault(target.id, set()).update(keys_of(node.value, given))
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        is_said = isinstance(node.func, ast.Attribute) and node.func.attr == "say"
        meant = [node.func.value] if is_said and isinstance(node.func, ast.Attribute) else []
        for name in (*node.args, *meant):
            if isinstance(name, ast.Name) and name.id in CODED:
                named = {one.arg for one in node.keywords if one.arg is not None}
                spread = [keys_of(one.value, given) for one in node.keywords if one.arg is None]
                yield name.id, named.union(*spread)


@cache
def everything_said() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in Path(crmkit.__file__).parent.rglob("*.py"):
        for coded, said in said_in(ast.parse(path.read_text("utf-8"))):
            found.setdefault(CODED[coded].name, set()).update(said)
    return found


@pytest.mark.parametrize("name", LINES)
def test_whatever_a_line_declares_is_said_somewhere_and_nothing_else(name: str) -> None:
    assert everything_said().get(name) == set(LINES[name].fields)
