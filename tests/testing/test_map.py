"""What plugin authors import is there, costs nothing until it is used, and is all on the map."""

import re
import subprocess
import sys
from pathlib import Path

import crmkit.testing

ROOM = Path(crmkit.testing.__file__).parent


def test_the_map_names_every_module_and_no_other() -> None:
    lines = re.findall(r"^- ((?:`\w+`(?:, )?)+): \w", crmkit.testing.__doc__ or "", re.MULTILINE)
    named = [name for line in lines for name in re.findall(r"`(\w+)`", line)]
    there = {path.stem for path in ROOM.glob("*.py")} - {"__init__"}
    assert sorted(named) == sorted(there)


def test_everything_that_is_promised_is_there() -> None:
    for name in crmkit.testing.__all__:
        assert getattr(crmkit.testing, name) is not None
    assert set(crmkit.testing.__all__) <= set(dir(crmkit.testing))


def test_what_is_promised_is_what_type_checkers_see() -> None:
    source = (ROOM / "__init__.py").read_text("utf-8")
    seen = re.findall(r"^    from crmkit\.testing\.\w+ import (\w+) as \1$", source, re.MULTILINE)
    assert sorted(seen) == sorted(crmkit.testing.__all__)


def test_a_run_of_pytest_that_has_crmkit_by_chance_loads_next_to_nothing() -> None:
    code = """
import sys
import crmkit.testing, crmkit.testing.plugin
heavy = {"sqlmodel", "sqlalchemy", "fastapi", "httpx", "aiohttp", "pydantic", "respx"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
