"""Distributions that are broken, each in its way, beside ones that are not: these go on, and the broken is named."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from .conftest import CONFIG, NOW, ORDERS, Place

ON_SHIPPED = """
    from crmkit import OrderShipped, hookimpl, on
    @on(OrderShipped)
    def tell(event, crm):
        {body}
    @hookimpl
    def crmkit_handlers():
        yield tell
"""
SOURCE = """
    from crmkit import Page, Source, hookimpl, stream
    class Broken(Source):
        name = "broken"
        reports = {{"placed", "shipped"}}
        {body}
    @hookimpl
    def crmkit_sources():
        yield Broken
"""
GATEWAY = """
    from crmkit import Gateway, hookimpl
    class Broken(Gateway):
        name = "broken"
        channel = "email"
        reaches = ("email",)
        {body}
    @hookimpl
    def crmkit_gateways():
        yield Broken
"""
STREAM = "@stream\n        async def orders(self, start):\n            "


@dataclass(frozen=True)
class Case:
    """A broken distribution, and what must be said of it.

    Attributes:
        source: its module.
        family: of its entry point.
        said: what each command says of it, on either stream; a command that is not here says nothing of it.
        exits: of `plugins list`, `config check`, `sync`, `dispatch`.
        requires: what it says it needs.
        rivals: how many distributions bring it.
    """

    source: str
    said: dict[str, str]
    exits: tuple[int, int, int, int] = (1, 2, 0, 1)
    family: str = "play"
    requires: str | None = None
    rivals: int = 1


def everywhere(text: str) -> dict[str, str]:
    return dict.fromkeys(("list", "check", "sync", "dispatch"), text)


BROKEN = "plugin play.broken (crmkit-broken 1.2) load: "
CASES = {
    "an import that fails": Case("import no_such_module", everywhere(BROKEN + "cannot be imported: ModuleNotFound")),
    "an import that exits": Case("raise SystemExit(3)", everywhere(BROKEN + "cannot be imported: SystemExit: 3")),
    "an import that interrupts": Case(
        "raise KeyboardInterrupt", everywhere(BROKEN + "cannot be imported: KeyboardInterrupt")
    ),
    "an import that is no Python": Case("def f(:", everywhere(BROKEN + "cannot be imported: SyntaxError")),
    "a misspelt hook": Case(
        "from crmkit import hookimpl\n@hookimpl\ndef crmkit_handler():\n    yield 1",
        everywhere(BROKEN + "crmkit_handler is no hook; did you mean crmkit_handlers?"),
    ),
    "a handler that no hook yields": Case(
        ON_SHIPPED.format(body="return ()").replace("yield tell", "return ()"),
        everywhere(BROKEN + "the handler tell (@on(OrderShipped)) is yielded by no hook"),
    ),
    "a hook that raises": Case(
        ON_SHIPPED.format(body="return ()").replace("yield tell", "raise KeyError('x')"),
        everywhere(BROKEN + "crmkit_handlers raised KeyError: 'x'"),
    ),
    "a hook that exits": Case(
        ON_SHIPPED.format(body="return ()").replace("yield tell", "raise SystemExit"),
        everywhere(BROKEN + "crmkit_handlers raised SystemExit"),
    ),
    "a hook that yields something else": Case(
        ON_SHIPPED.format(body="return ()").replace("yield tell", "yield 'tell'"),
        everywhere(BROKEN + "crmkit_handlers yields 'tell'"),
    ),
    "requirements that are not met": Case(
        "from crmkit import NothingOfThatName",
        everywhere("it needs crmkit>=99 (0.1.0 is installed)"),
        requires="crmkit>=99",
    ),
    "requirements that are not met, and not missed": Case(
        ON_SHIPPED.format(body="return ()"),
        {"list": "play.broken needs crmkit>=99 (0.1.0 is installed)"},
        (0, 0, 0, 0),
        requires="crmkit>=99",
    ),
    "two of one name": Case(
        ON_SHIPPED.format(body="return ()"),
        everywhere("is brought by crmkit-broken 1.2 and by crmkit-broken-1 1.2; uninstall one"),
        rivals=2,
    ),
    "a handler that raises": Case(
        ON_SHIPPED.format(body="raise ValueError('oops')"), {"dispatch": "broken on interaction #"}, (0, 0, 0, 1)
    ),
    "a handler that exits": Case(
        ON_SHIPPED.format(body="raise SystemExit(3)"), {"dispatch": "SystemExit: 3"}, (0, 0, 0, 1)
    ),
    "a handler that yields something else": Case(
        ON_SHIPPED.format(body="yield 'order-shipped'"),
        {"dispatch": "tell returned 'order-shipped', which is no action"},
        (0, 0, 0, 1),
    ),
    "a handler that is async": Case(
        ON_SHIPPED.format(body="return ()").replace("def tell", "async def tell"),
        {"dispatch": "tell is async"},
        (0, 0, 0, 1),
    ),
    "a handler that asks for a template there is not": Case(
        ON_SHIPPED.format(body="from crmkit import Send; yield Send('no-such')"),
        {"dispatch": "no-such"},
        (0, 0, 0, 1),
    ),
    "an import that is slow": Case(
        "import time\ntime.sleep(0.6)\n" + dedent(ON_SHIPPED.format(body="return ()")),
        {"list": "play.broken is slow: importing it took 0."},
        (0, 0, 0, 0),
    ),
    "a handler that is slow": Case(
        ON_SHIPPED.format(body="import time; time.sleep(0.4)"), {"dispatch": "broken is slow: 1."}, (0, 0, 0, 0)
    ),
    "a check that raises": Case(
        dedent(ON_SHIPPED.format(body="return ()")) + "def check(*a):\n    raise ValueError('oops')\n",
        {"check": "broken: its check raised ValueError: oops"},
        (0, 2, 0, 0),
    ),
    "a source that cannot be imported": Case(
        "import no_such_module",
        everywhere("plugin marketplace.broken (crmkit-broken 1.2) load: cannot be imported"),
        (1, 2, 1, 0),
        family="marketplace",
    ),
    "a source that raises": Case(
        SOURCE.format(body=STREAM + "raise ValueError('oops')\n            yield"),
        {"sync": "ValueError"},
        (0, 0, 1, 0),
        family="marketplace",
    ),
    "a source that yields something else": Case(
        SOURCE.format(body=STREAM + "yield 'orders'"),
        {"sync": "other read orders: it yields str, which is no page of records"},
        (0, 0, 1, 0),
        family="marketplace",
    ),
    "a source that yields a page of something else": Case(
        SOURCE.format(body=STREAM + "yield Page(records=['order'])"),
        {"sync": "other read orders: it yields str, which is no page of records"},
        (0, 0, 1, 0),
        family="marketplace",
    ),
    "a source that cannot be made": Case(
        SOURCE.format(body="def __init__(self, *a):\n            raise ValueError('oops')"),
        {"sync": "cannot be set up: ValueError: oops", "check": "cannot be set up: ValueError: oops"},
        (0, 2, 1, 0),
        family="marketplace",
    ),
    "a gateway that cannot be imported": Case(
        "raise SystemExit",
        everywhere("plugin email.broken (crmkit-broken 1.2) load: cannot be imported"),
        family="email",
    ),
    "a gateway that raises": Case(
        GATEWAY.format(body="async def deliver(self, message):\n            raise ValueError('oops')"),
        {"dispatch": "in-doubt"},
        (0, 0, 0, 1),
        family="email",
    ),
    "a gateway that returns something else": Case(
        GATEWAY.format(body="async def deliver(self, message):\n            return 'sent'"),
        {"dispatch": "in-doubt"},
        (0, 0, 0, 1),
        family="email",
    ),
    "a gateway that cannot be made": Case(
        GATEWAY.format(body="def __init__(self, *a):\n            raise ValueError('oops')"),
        dict.fromkeys(("check", "dispatch"), "cannot be set up: ValueError: oops"),
        (0, 2, 0, 1),
        family="email",
    ),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Case], None]]:
    """Installs a distribution as an installer would: a module, and beside it what is known of it."""
    site = tmp_path / "site"
    site.mkdir()
    before = set(sys.modules)

    def install(name: str, case: Case) -> None:
        module = name.replace("-", "_")
        (site / f"{module}.py").write_text(dedent(case.source))
        info = site / f"{module}-1.2.dist-info"
        info.mkdir()
        needs = f"Requires-Dist: {case.requires}\n" if case.requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{needs}")
        (info / "entry_points.txt").write_text(f"[crmkit]\n{case.family}.broken = {module}\n")
        (info / "RECORD").write_text("")

    monkeypatch.syspath_prepend(str(site))
    yield install
    for name in set(sys.modules) - before:
        if name.startswith("crmkit_broken"):
            del sys.modules[name]


def configured(case: Case) -> str:
    """A configuration that uses the broken one beside others."""
    if case.family == "play":
        return CONFIG.replace('use = ["care"]', 'use = ["broken", "care"]')
    if case.family == "marketplace":
        return CONFIG.replace("[shops.tea]", '[shops.other]\nuse = "broken"\n\n[shops.tea]')
    return CONFIG.replace('path = "outbox"', 'path = "outbox"\nshops = ["tea"]') + dedent(
        """
        [shops.other]
        use = "files"
        preset = "crmkit"
        path = "more"
        currency = "EUR"
        region = "DE"
        announce_from = 2026-05-07

        [[channels.email]]
        use = "broken"
        shops = ["other"]
        """
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_everybody_else_goes_on_and_the_broken_one_is_named(
    place: Place, install: Callable[[str, Case], None], case: Case
) -> None:
    for number in range(case.rivals):
        install("crmkit-broken" + (f"-{number}" if number else ""), case)
    text = configured(case)
    (place.folder / "exports" / "orders.csv").write_text(ORDERS.rpartition("T6")[0])
    if case.family == "email":
        (place.folder / "more").mkdir()
        (place.folder / "more" / "orders.csv").write_text(ORDERS.rpartition("T6")[0].replace("T2,", "O2,"))
    place.config.write_text(text)
    runs = {
        "list": place.run("plugins", "list", "--json"),
        "check": place.run("config", "check"),
        "sync": place.run("sync", now=NOW),
        "dispatch": place.run("dispatch", now=NOW),
    }
    told = {name: run.output.replace("\n", " ") for name, run in runs.items()}
    for name, expected in case.said.items():
        assert expected in told[name], f"{name}: {told[name]}"
    for name in set(runs) - set(case.said):
        assert "broken is slow" not in told[name]
        assert "oops" not in told[name]
    assert tuple(run.exit_code for run in runs.values()) == case.exits, told
    rows = [json.loads(line) for line in runs["list"].stdout.splitlines()]
    states = {row["name"]: row["state"] for row in rows}
    assert states[f"{case.family}.broken"] == ("broken" if case.exits[0] else "used")
    assert states["play.care"] == states["email.folder"] == states["marketplace.files"] == "used"
    sent = [json.loads(line) for line in place.run("messages", "list", "--json").stdout.splitlines()]
    mine = {row["order"]: row["state"] for row in sent if row["plugin"] == "care" and row["gateway"] == "folder"}
    assert mine == {"T2": "sent", "T3": "sent"}


def test_whoever_interrupts_an_import_interrupts_the_run(place: Place, install: Callable[[str, Case], None]) -> None:
    install("crmkit-broken", Case("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)", {}))
    place.config.write_text(CONFIG.replace('use = ["care"]', 'use = ["broken", "care"]'))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    try:
        result = place.run("config", "check")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.exit_code, "interrupted" in result.output) == (130, True)
