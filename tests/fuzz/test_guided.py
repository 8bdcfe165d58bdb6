"""Parsers led by coverage. Needs atheris, which has no wheel for every Python and system, so it is in no lock."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.tally import EXAMPLES, RAN

pytestmark = pytest.mark.fuzz

TARGETS = ("link", "form", "door", "caller", "woocommerce", "http", "twilio")


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: pip install atheris, then again")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_coverage_leads_to_breaks_a_parser(target: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.fuzz.guided", target, str(EXAMPLES * 100), "10"]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    done = re.search(r"Done (\d+) runs", ran.stderr)
    assert done is not None, ran.stderr[-2000:]
    RAN[f"led by coverage: {target}"] += int(done[1])
