"""Every hook, event, action and error has a page of its own in docs/reference/, with an example that is run."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import crmkit
from crmkit.core import actions, errors, hooks
from tests.docs.snippet import DOCS, fences, play

REFERENCE = DOCS / "reference"
THINGS = {
    "hooks": {name for name in vars(hooks) if name.startswith("crmkit_")},
    "events": {name for name, kind in crmkit.EVENTS.items() if kind.__module__ == "crmkit.core.events"},
    "actions": {
        name
        for name, one in vars(actions).items()
        if isinstance(one, type) and issubclass(one, actions.Action) and one is not actions.Action
    },
    "errors": {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)},
}
EVERY = [(kind, name) for kind, names in THINGS.items() for name in sorted(names)]


@pytest.mark.parametrize("kind", THINGS)
def test_every_thing_has_its_page_and_every_page_its_thing(kind: str) -> None:
    assert {page.stem for page in (REFERENCE / kind).glob("*.md")} - {"index"} == THINGS[kind]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_page_says_what_it_is_when_and_shows_it(kind: str, name: str) -> None:
    text = (REFERENCE / kind / f"{name}.md").read_text("utf-8")
    assert text.startswith(f"# {name}\n\n<!-- generated: thing -->\n")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert len(headings) >= 2, headings
    assert headings[-1] == "Example"
    code = "\n".join("\n".join(fence.lines) for fence in fences(text) if fence.info[:1] == ["python"])
    if "def test_" in code:
        assert re.search(r"\bassert\b|pytest\.raises", code)
    else:
        assert "```console" in text
    assert (
        (crmkit.EVENTS[name].__name__ if kind == "events" else name) in code or f'"{name}"' in code or "@every" in code
    )


@pytest.mark.docs
def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once: each in a folder of its own, as its reader would have it."""
    for kind, name in EVERY:
        folder = tmp_path / f"{kind}_{name.replace('-', '_')}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        for fence in fences((REFERENCE / kind / f"{name}.md").read_text("utf-8")):
            play(fence, folder)
    report = tmp_path / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--import-mode=importlib", f"--junitxml={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), *options, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    passed = {case.attrib["classname"].split(".")[0] for case in ElementTree.parse(report).iter("testcase")}
    assert passed == {path.parent.name for path in tmp_path.glob("*/test_*.py")}
