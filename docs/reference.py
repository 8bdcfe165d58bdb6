"""Writes the tables of the reference pages from the code: `python docs/reference.py`; `--check` only compares.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import crmkit
from crmkit.cli import words
from crmkit.core import actions, errors, hooks
from crmkit.core.events import CONTEXT
from crmkit.testing.fault import FAULTS, KINDS, Verdict

HERE = Path(__file__).parent
PLACE = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(*columns: str, rows: Iterable[Iterable[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"|{'|'.join(f' {cell} ' if cell != '---' else cell for cell in line)}|\n" for line in lines)


def sentence(thing: object) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()).replace("|", "\\|")


def own_fields(kind: type) -> str:
    named = [item.name for item in fields(kind) if item.name not in CONTEXT or item.name in kind.__annotations__]
    return ", ".join(f"`{name}`" for name in named)


def core_events() -> Iterator[type[crmkit.Event]]:
    return (kind for kind in crmkit.EVENTS.values() if kind.__module__ == "crmkit.core.events")


def events() -> str:
    rows = [(f"`{kind.name}`", f"`{kind.__name__}`", sentence(kind), own_fields(kind)) for kind in core_events()]
    return table("event", "class", "tells", "has", rows=rows)


def hooks_() -> str:
    found = {name: value for name, value in vars(hooks).items() if name.startswith("crmkit_")}
    return table("hook", "does", rows=[(f"`{name}`", sentence(value)) for name, value in found.items()])


def actions_() -> str:
    kinds = [kind for kind in vars(actions).values() if inspect.isclass(kind) and issubclass(kind, actions.Action)]
    rows = [
        (f"`{kind.__name__}`", sentence(kind), ", ".join(f"`{item.name}`" for item in fields(kind)))  # type: ignore[arg-type]
        for kind in kinds
        if kind is not actions.Action
    ]
    return table("action", "does", "takes", rows=rows)


def records() -> str:
    rows = [
        (f"`{kind.__name__}`", sentence(kind), ", ".join(f"`{name}`" for name in kind.model_fields))
        for kind in crmkit.RECORDS
    ]
    return table("record", "is", "says", rows=rows)


def errors_() -> str:
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.CrmkitError)]
    rows = [(f"`{kind.__name__}`", sentence(kind), str(kind.exit_code)) for kind in kinds]
    return table("error", "means", "exit code", rows=rows)


def states() -> str:
    return table("state", "means", rows=[(f"`{state}`", words.state(state)) for state in crmkit.State])


def reasons() -> str:
    return table("reason", "means", rows=[(f"`{reason}`", words.reason(reason)) for reason in crmkit.Reason])


#: What may have left, and what happens next, by what is known after a try.
LEFT = {
    Verdict.TAKEN: ("yes", "nothing"),
    Verdict.NOTHING_LEFT: ("no", "it is tried again, later and later"),
    Verdict.NOT_NOW: ("no", "it is tried again, not before the vendor's Retry-After"),
    Verdict.STRANGER: ("no", "its gateway pauses, until it is resumed or its settings are others"),
    Verdict.NO: ("no", "nothing: the vendor would say no again"),
    Verdict.DOUBT: ("perhaps", "it waits for a person; is sent again with its key; its vendor is asked"),
}


def faults() -> str:
    """What tests/faults holds the engine against: every fault, acted out on real sockets."""
    rows = []
    for fault in FAULTS.values():
        fates = [" → ".join(f"`{state}`" for state in dict.fromkeys(fault.fate(kind))) for kind in KINDS]
        left, after = LEFT[fault.verdict]
        rows.append((fault.told, "yes" if fault.takes else "no", left, *fates, after))
    return table("what happens", "it took it", "may have left", *KINDS, "next", rows=rows)


TABLES: dict[str, Callable[[], str]] = {
    "events": events,
    "hooks": hooks_,
    "actions": actions_,
    "records": records,
    "errors": errors_,
    "states": states,
    "reasons": reasons,
    "faults": faults,
}


def pages() -> Iterator[tuple[Path, str, str]]:
    """Every page with such tables: its file, its text, and the text it should have."""
    for path in sorted(HERE.glob("*.md")):
        text = path.read_text("utf-8")
        yield path, text, PLACE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


if __name__ == "__main__":
    stale = [path for path, text, wanted in pages() if text != wanted]
    if "--check" not in sys.argv[1:]:
        for path, _, wanted in pages():
            path.write_text(wanted, "utf-8")
    print("\n".join(f"{path.name} was not what the code says" for path in stale) or "all pages are what the code says")
    sys.exit(bool(stale) and "--check" in sys.argv[1:])
