"""What stands between fences on the pages, and how it is written, run and read.

Calls of `crmkit` run in this process, which saves their start; whatever else there is, in a shell.

A fence whose first line names a file (`toml crmkit.toml`) is that file, `append` adds to it. In a `console` fence the
lines that begin with `$ ` are commands, and what stands below one appears in its output, whatever the spaces between
words; `exit=1` says how its last command ends, the others end with 0. `toml more` is more of the configuration before,
and `python part` a part of a program, whose names are crmkit's.
"""

import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner

from crmkit.cli import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Every page: those of docs/, and the READMEs.
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "deploy/README.md")),
        *ROOT.glob("plugins/*/README.md"),
    ]
)
BIN = Path(sys.executable).parent
#: What a page's commands began that has not ended.
GOING_ON: list[subprocess.Popen[bytes]] = []


@dataclass
class Fence:
    """A fenced block: what stands behind the backticks, its lines, and the number of the line it begins in."""

    info: list[str]
    lines: list[str] = field(default_factory=list)
    line: int = 0


def fences(text: str) -> list[Fence]:
    found: list[Fence] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
            if inside:
                found.append(Fence(line.removeprefix("```").split(), line=number))
        elif inside:
            found[-1].lines.append(line)
    return found


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def play(fence: Fence, folder: Path) -> None:
    """Write a file, or run the commands of a console."""
    if fence.info[:1] == ["console"]:
        console(fence, folder)
    elif len(fence.info) > 1:
        path = folder / fence.info[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text("utf-8") + "\n" if "append" in fence.info else ""
        path.write_text(before + "\n".join([*fence.lines, ""]), "utf-8")


#: Where `pip install -e` of a page puts what it makes known, beside the page's own files.
SITE = ".site"


def run(command: str, folder: Path) -> tuple[int, str]:
    """Run a command in a folder: its exit code, and what it prints. What ends in `&` goes on until `stop`."""
    words = shlex.split(command)
    if words[:3] == ["pip", "install", "-e"]:
        return install(folder / words[3], folder / SITE)
    is_apart = (folder / SITE).is_dir() or (folder / "migrations").is_dir()  # a table is declared once in a process
    if words[0] == "crmkit" and not is_apart:
        result = CliRunner().invoke(cli, words[1:], prog_name="crmkit")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    if (folder / SITE).is_dir():
        found = [str(folder / SITE), *(folder / SITE / "folders").read_text("utf-8").splitlines()]
        env["PYTHONPATH"] = os.pathsep.join(found)
    if words[-1] == "&":
        begun = subprocess.Popen(["/bin/sh", "-c", f"exec {command.removesuffix('&')}"], cwd=folder, env=env)
        GOING_ON.append(begun)
        time.sleep(1)
        return begun.poll() or 0, ""
    done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=240)
    return done.returncode, done.stdout + done.stderr


def install(package: Path, site: Path) -> tuple[int, str]:
    """What `pip install -e` comes to: a distribution with its entry points, and its folder on the path. tests/e2e has
    pip itself do it.
    """
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    about = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    known = (f"Name: {project['name']}", f"Version: {project['version']}")
    (about / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *known, ""]), "utf-8")
    points = project["entry-points"]["crmkit"].items()
    (about / "entry_points.txt").write_text("\n".join(["[crmkit]", *(f"{k} = {v}" for k, v in points), ""]), "utf-8")
    with (site / "folders").open("a", encoding="utf-8") as folders:
        folders.write(f"{package}\n")
    return 0, ""


def stop() -> None:
    """End what a page left going on."""
    while GOING_ON:
        one = GOING_ON.pop()
        one.terminate()
        one.wait(10)


def console(fence: Fence, folder: Path) -> None:
    last = next((int(word.removeprefix("exit=")) for word in fence.info if word.startswith("exit=")), 0)
    commands = [number for number, line in enumerate(fence.lines) if line.startswith("$ ")]
    assert commands[0] == 0, fence.lines
    for start, end in zip(commands, [*commands[1:], len(fence.lines)], strict=True):
        command, *wanted = fence.lines[start:end]
        code, printed = run(command.removeprefix("$ "), folder)
        assert code == (last if end == len(fence.lines) else 0), f"{command}\n{printed}"
        for line in wanted:
            assert squeezed(line) in squeezed(printed), f"{command}: not printed: {line}\n{printed}"
