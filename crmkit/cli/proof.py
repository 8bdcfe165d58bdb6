"""What a package's own tests say of it: which contracts hold which of its plugins, and which tests fail.

The tests run in a process of their own. There this module is a plugin of pytest, and writes down what it sees; a class
counts by what it inherits and names, not by what is written in a file, and only where tests of it are not skipped.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

#: {hook: the contract that what it yields is held to}.
CONTRACTS = {
    "crmkit_gateways": "GatewayContract",
    "crmkit_sources": "SourceContract",
    "crmkit_handlers": "HandlerContract",
    "crmkit_policies": "PolicyContract",
}
#: Where the process of the tests writes what it saw.
REPORT = "CRMKIT_CHECK_REPORT"
_KEY = "crmkit check"


@dataclass(slots=True)
class Held:
    """A class of tests that inherits a contract.

    Attributes:
        contract: its name.
        of: what is held to it: `module.Class` of an adapter; the slug, file or module of a playbook.
        test: the class of tests.
        replaced: tests of the contract that it has replaced by others of its own.
        skipped, other: tests of the contract that were skipped, and that were not.
        left_out: tests of the contract that were deselected.
    """

    contract: str
    of: str
    test: str
    replaced: list[str]
    skipped: int = 0
    other: int = 0
    left_out: int = 0


@dataclass(slots=True)
class Proof:
    """What the tests of a package say.

    Attributes:
        held: classes of tests that inherit contracts.
        failed: (test, the first line of what it says); (None, text) where pytest itself could not run.
    """

    held: list[Held] = field(default_factory=list)
    failed: list[tuple[str | None, str]] = field(default_factory=list)


def prove(folder: Path, at: Path, *, runs_tests: bool, patience: int) -> Proof:
    """Run a package's tests, or collect them only, and read what they say.

    Args:
        folder: where the tests lie.
        at: where they are run.
        patience: seconds they may take.
    """
    with TemporaryDirectory(prefix="crmkit-") as place:
        report = Path(place) / "report.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", __name__, "-p", "no:cacheprovider", str(folder)]
        environment = {**os.environ, REPORT: str(report)}
        try:
            done = subprocess.run(
                command if runs_tests else [*command, "--collect-only"],
                cwd=at,
                env=environment,
                capture_output=True,
                text=True,
                timeout=patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Proof(failed=[(None, f"took more than {patience // 60} minutes")])
        try:
            found = json.loads(report.read_text("utf-8"))
        except (OSError, ValueError):
            found = {"held": [], "failed": []}
    proof = Proof([Held(**one) for one in found["held"]], [(test, text) for test, text in found["failed"]])
    if done.returncode and not proof.failed:
        told = (done.stdout + done.stderr).strip().splitlines()
        proof.failed.append((None, told[-1] if told else f"ended with {done.returncode}"))
    return proof


# --- in the process of the tests --------------------------------------------------------------------------------------


def pytest_configure(config: "pytest.Config") -> None:
    """Begin to take notes, where somebody wants to read them; workers of pytest-xdist tell theirs by their reports."""
    if os.environ.get(REPORT):
        config.pluginmanager.register(_Notes(is_writer=not hasattr(config, "workerinput")), "crmkit-check")


class _Notes:
    """What is seen of a run of tests."""

    def __init__(self, *, is_writer: bool) -> None:
        self.is_writer = is_writer
        self.held: dict[tuple[str, str], Held] = {}
        self.failed: list[tuple[str, str]] = []
        self._counted: set[str] = set()

    def pytest_itemcollected(self, item: Any) -> None:
        """Tell with each test which contract it is of; a worker's reports carry that to who writes."""
        for facts in _contracts_of(getattr(item, "cls", None)):
            if getattr(item, "originalname", None) not in facts[-1]:
                item.user_properties.append((_KEY, facts))

    def pytest_deselected(self, items: list[Any]) -> None:
        for item in items:
            for one in self._of(item.user_properties):
                one.left_out += 1

    def pytest_collection_finish(self, session: Any) -> None:
        if session.config.option.collectonly:
            for item in session.items:
                is_skipped = item.get_closest_marker("skip") is not None
                self._count(item.nodeid, item.user_properties, is_skipped=is_skipped)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append((report.nodeid, _said(report)))
        if report.when == "call" or not report.passed:
            self._count(report.nodeid, report.user_properties, is_skipped=report.skipped)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append((report.nodeid, _said(report)))

    def pytest_sessionfinish(self) -> None:
        if self.is_writer:
            facts = {
                "held": [{name: getattr(one, name) for name in Held.__slots__} for one in self.held.values()],
                "failed": [(test, f"{text}{_times(count)}") for (test, text), count in Counter(self.failed).items()],
            }
            Path(os.environ[REPORT]).write_text(json.dumps(facts), "utf-8")

    def _count(self, test: str, properties: Any, *, is_skipped: bool) -> None:
        if test not in self._counted:
            self._counted.add(test)
            for one in self._of(properties):
                one.skipped += is_skipped
                one.other += not is_skipped

    def _of(self, properties: Any) -> list[Held]:
        facts = [value for name, value in properties if name == _KEY]
        return [
            self.held.setdefault((contract, test), Held(contract, of, test, list(replaced)))
            for contract, of, test, replaced in facts
        ]


def _contracts_of(cls: Any) -> list[tuple[str, str, str, list[str]]]:
    """(contract, what is held to it, the class of tests, what it replaced) for each that a class inherits."""
    found = []
    lineage = cls.__mro__ if isinstance(cls, type) else ()
    for place, contract in enumerate(lineage):
        if contract.__name__ in CONTRACTS.values() and contract.__module__.startswith("crmkit.testing."):
            own = {name for one in lineage[:place] if not _is_ours(one) for name in vars(one)}
            replaced = sorted(name for name in own if name.startswith("test") and hasattr(contract, name))
            found.append((contract.__name__, _named(cls), f"{cls.__module__}.{cls.__qualname__}", replaced))
    return found


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith("crmkit.testing.")


def _named(cls: Any) -> str:
    """What a class of tests holds to its contract."""
    named = getattr(cls, "adapter", None) or getattr(cls, "plugin", None)
    if isinstance(named, type):
        return f"{named.__module__}.{named.__qualname__}"
    return str(getattr(named, "__name__", named))


def _said(report: Any) -> str:
    """The first line of what a failed test says went wrong, as pytest marks it."""
    lines = str(report.longreprtext).splitlines()
    marked = [line[1:].strip() for line in lines if line.startswith("E ")]
    return next(filter(None, marked), lines[-1].strip() if lines else "")


def _times(count: int) -> str:
    return f" ({count} times)" if count > 1 else ""
