"""Our own plugins pass what others' have to: `crmkit plugins check` with their tests, each distribution by itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
#: Seconds the tests of one distribution may take.
PATIENCE = 1800


@pytest.mark.parametrize("family", sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")))
def test_nothing_is_to_be_mended_and_every_contract_is_kept(tmp_path: Path, family: str) -> None:
    command: list[str | Path] = [Path(sys.executable).with_name("crmkit"), "plugins", "check", f"crmkit-{family}"]
    done = subprocess.run(
        [*command, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    found = [row["text"] for row in map(json.loads, done.stdout.splitlines()) if not row["is_note"]]
    assert (done.returncode, found) == (0, []), done.stderr
