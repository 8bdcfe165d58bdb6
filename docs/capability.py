"""What each adapter of plugins/ can do, as its class says it, and what shows that it does: the tables of vendors.md.

Which adapters there are is read from the entry points in plugins/*/pyproject.toml, and which of them a contract suite
holds from their tests. What else shows that one is right stands in tests/verified.toml.
"""

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from crmkit import Gateway, Hmac, SecretPath, Source, StandardWebhooks
from crmkit.adapters.adapter import Adapter
from crmkit.adapters.stream import Window
from crmkit.core.duration import write_duration
from crmkit.host.catalogue import PLAY, SOURCES

ROOT = Path(__file__).resolve().parent.parent
#: {the adapter's entry point: {one of WAYS: the test files, or tests, that show it}}
VERIFIED: dict[str, dict[str, list[str]]] = tomllib.loads((ROOT / "tests" / "verified.toml").read_text("utf-8"))
#: What may show that an adapter is right, and what that is worth.
WAYS = {
    "contract": "the contract suite of crmkit: what every adapter has to do, on recorded exchanges and real sockets",
    "vectors": "signatures and answers the vendor published, or that its own SDK makes",
    "described": "the vendor's own API document, which a program holds each request to (`make e2e`)",
    "server": "a real server of its kind",
    "fake": "a server of ours, written after the vendor's documentation",
}


@cache
def adapters() -> dict[str, type[Adapter]]:
    """Every adapter of plugins/ by its entry point."""
    found: dict[str, type[Adapter]] = {}
    for project in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        points = tomllib.loads(project.read_text("utf-8"))["project"].get("entry-points", {}).get("crmkit", {})
        for name, module in sorted(points.items()):
            family, _, slug = name.partition(".")
            if family == PLAY:
                continue
            hook = "crmkit_sources" if family in SOURCES else "crmkit_gateways"
            classes: list[type[Adapter]] = list(getattr(import_module(module), hook)())
            found[name] = next(one for one in classes if one.name == slug)
    return found


def sources() -> Iterator[tuple[str, ...]]:
    """The rows of the sources' table."""
    for name, kind in adapters().items():
        if issubclass(kind, Source):
            yield (
                f"`{name}`",
                ", ".join(sorted(kind.reports)) or "as set",
                _spans(kind),
                "yes" if kind.read is not Source.read else "",
                write_duration(kind.rescans) if kind.rescans else "",
                _door(kind),
                "says what not" if kind.may_say is not Source.may_say else "",
            )


def gateways() -> Iterator[tuple[str, ...]]:
    """The rows of the gateways' table."""
    for name, kind in adapters().items():
        if issubclass(kind, Gateway):
            hours = kind.sends_marketing
            yield (
                f"`{name}`",
                ", ".join(kind.reaches),
                str(kind.batch) if kind.batch > 1 else "",
                "as set" if "deduplicates" in kind.Settings.model_fields else "yes" if kind.deduplicates else "",
                f"after {write_duration(kind.look_up_after)}" if kind.look_up is not Gateway.look_up else "",
                "yes" if kind.balance is not Gateway.balance else "",
                _receipts(kind),
                f"{hours[0]:%H:%M} to {hours[1]:%H:%M}, {hours[2]}" if hours else "",
                "only those" if kind.needs_form else "",
            )


def verified() -> Iterator[tuple[str, ...]]:
    """The rows of the table of what shows that adapters are right: a column for each of `WAYS`."""
    for name, kind in adapters().items():
        shown = {**VERIFIED.get(name, {}), "contract": contracts().get(kind.__name__, [])}
        yield (f"`{name}`", *(", ".join(f"`{test}`" for test in shown.get(way, ())) for way in WAYS))


@cache
def contracts() -> dict[str, list[str]]:
    """{an adapter's class: the files with a contract suite for it}"""
    found: dict[str, list[str]] = {}
    for file in sorted(ROOT.glob("plugins/*/tests/**/test_*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and any("Contract" in ast.unparse(base) for base in node.bases):
                for line in node.body:
                    if isinstance(line, ast.Assign | ast.AnnAssign) and "adapter" in ast.unparse(line).split("=")[0]:
                        kind = ast.unparse(line.value or line).rpartition(".")[2]
                        found.setdefault(kind, []).append(file.relative_to(ROOT).as_posix())
    return found


def _spans(kind: type[Adapter]) -> str:
    """The streams, each with how it is asked."""
    told = []
    for name in kind.streams():
        spans = kind.window(name)
        told.append(f"{name} ({_asked(spans)})" if spans else f"{name} (a cursor)")
    return ", ".join(told)


def _asked(spans: Window) -> str:
    parts = {
        "at most": spans.max_span,
        "overlap": spans.overlap,
        "lag": spans.end_lag,
        "back to": spans.history,
    }
    return ", ".join(f"{word} {write_duration(span)}" for word, span in parts.items() if span) or "spans"


def _door(kind: type[Adapter]) -> str:
    """How webhooks are verified; nothing where none are taken."""
    if kind.records is Adapter.records:
        return ""
    match kind.verifies:
        case Hmac() as how:
            return f"HMAC-{how.digest.upper()} in `{how.header}`"
        case StandardWebhooks() as how:
            return f"standardwebhooks.com, `{how.prefix}signature`"
        case SecretPath():
            return "a secret in the address"
        case None:
            return _told(kind.verify)
        case how:
            return _told(type(how))


def _told(thing: Any) -> str:
    """What an adapter says of its own way, where that is no declared one."""
    said = re.split(r"[.;]|\n\n", inspect.getdoc(thing) or "")[0]
    return " ".join(said.split()).removeprefix("Whether ") or "in its own way"


def _receipts(kind: type[Gateway]) -> str:
    ways = {"called with": _door(kind), "read": _spans(kind)}
    return "; ".join(f"{way}: {how}" for way, how in ways.items() if how)
