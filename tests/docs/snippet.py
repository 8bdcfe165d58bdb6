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


def run(command: str, folder: Path) -> tuple[int, str]:
    """Run a command in a folder: its exit code, and what it prints."""
    words = shlex.split(command)
    if words[0] == "crmkit":
        result = CliRunner().invoke(cli, words[1:], prog_name="crmkit")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


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
