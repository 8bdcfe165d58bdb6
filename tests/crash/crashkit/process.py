"""A helper process, spoken to line by line."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent


class Process:
    """A helper process that prints a line when it is ready."""

    def __init__(self, *command: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.is_listening = False
        self.first = self.line()

    def line(self) -> str:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, f"{self.popen.args} ended with {self.popen.wait(10)}"
        return line.strip()

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.popen.stdin is not None
        self.is_listening = True
        self.popen.stdin.write(json.dumps(order) + "\n")
        self.popen.stdin.flush()
        answer: dict[str, Any] = json.loads(self.line())
        return answer

    def stop(self) -> None:
        """Let it end, if it listens to us; end it."""
        if self.is_listening and self.popen.stdin is not None:
            self.popen.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(5)
        self.popen.kill()
        self.popen.wait()
