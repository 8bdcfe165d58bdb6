"""Which tests show which rule of docs/rules.md; exit code 1 if a rule has none.

A test names the rules it shows in a comment, `# SEMANTICS 22` or `# SEMANTICS 9, 12`, above its `def`, within it, or
at the top of its file for all of it.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Rules that a later version brings.
LATER = frozenset({28, 29})

_RULE = re.compile(r"^\| (\d+) \| ([^|]+) \|", re.M)
_NAMED = re.compile(r"# SEMANTICS ([\d, ]+)")
_TEST = re.compile(r"\s*(?:async )?def (test_\w+)")


def rules() -> dict[int, str]:
    """Every rule: its number and what it is called."""
    return {int(number): title for number, title in _RULE.findall((ROOT / "docs" / "rules.md").read_text("utf-8"))}


def shown() -> dict[int, list[str]]:
    """{rule: the tests that name it}."""
    found: dict[int, list[str]] = {}
    for file in sorted([*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("plugins/*/tests/**/test_*.py")]):
        lines = file.read_text("utf-8").splitlines()
        for index, line in enumerate(lines):
            named = _NAMED.search(line)
            if named is None:
                continue
            for number in re.findall(r"\d+", named[1]):
                found.setdefault(int(number), []).append(f"{file.relative_to(ROOT)}::{_test_at(lines, index)}")
    return found


def _test_at(lines: list[str], index: int) -> str:
    """The test a comment belongs to: the one it stands in, or above; the whole file where that is none."""
    if lines[index].startswith(" "):
        above = (_TEST.match(line) for line in reversed(lines[:index]))
    else:
        above = (_TEST.match(line) for line in lines[index : index + 12])
    return next((match[1] for match in above if match is not None), "*")


def main() -> int:
    """Print every rule with its tests. Returns how many rules that should have one have none."""
    tests, missing = shown(), 0
    for number, title in rules().items():
        names = list(dict.fromkeys(tests.get(number, ())))
        lacks = not names and number not in LATER
        missing += lacks
        state = f"{len(names)} tests" if names else "later" if number in LATER else "NO TEST"
        sys.stdout.write(f"{number:3} {title}: {state}\n" + "".join(f"      {name}\n" for name in names))
    sys.stdout.write(f"rules {len(rules())}, without a test {missing}\n")
    return missing


if __name__ == "__main__":
    sys.exit(min(main(), 1))
