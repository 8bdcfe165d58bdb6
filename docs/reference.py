"""Writes the tables of the pages from the code: `python docs/reference.py`; `--check` only compares.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; on a page of docs/reference/ `thing` is what the
page is about.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import capability
import member
import thing
from thing import linked, sentence, table

import crmkit
from crmkit.cli import words
from crmkit.testing.fault import FAULTS, KINDS, Verdict

HERE = Path(__file__).parent
PLACE = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def events() -> str:
    rows = [
        (linked("events", name), f"`{kind.__name__}`", sentence(kind), _list(thing.own_fields(kind)))
        for name, kind in thing.events().items()
    ]
    return table("event", "class", "tells", "has", rows=rows)


def hooks() -> str:
    return table("hook", "does", rows=[(linked("hooks", name), sentence(one)) for name, one in thing.hooks_().items()])


def actions() -> str:
    rows = [
        (linked("actions", name), sentence(kind), _list(kind.__dataclass_fields__))  # type: ignore[attr-defined]
        for name, kind in thing.actions_().items()
    ]
    return table("action", "does", "takes", rows=rows)


def records() -> str:
    rows = [
        (f"`{kind.__name__}`", sentence(kind), ", ".join(f"`{name}`" for name in kind.model_fields))
        for kind in crmkit.RECORDS
    ]
    return table("record", "is", "says", rows=rows)


def errors() -> str:
    rows = [(linked("errors", name), sentence(kind), str(kind.exit_code)) for name, kind in thing.errors_().items()]
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


def sources() -> str:
    columns = ("source", "may report", "reads", "by id", "open orders again", "webhooks", "to its buyers")
    return table(*columns, rows=capability.sources())


def gateways() -> str:
    columns = (
        "gateway, reaches, at once, knows repeats, can be asked, balance, receipts, marketing, approved texts".split(
            ", "
        )
    )
    return table(*columns, rows=capability.gateways())


def verified() -> str:
    return table("adapter", *capability.WAYS, rows=capability.verified())


def ways() -> str:
    return table("column", "stands for", rows=capability.WAYS.items())


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


TABLES: dict[str, Callable[[], str]] = {
    "events": events,
    "hooks": hooks,
    "actions": actions,
    "records": records,
    "errors": errors,
    "states": states,
    "reasons": reasons,
    "faults": faults,
    "sources": sources,
    "gateways": gateways,
    "verified": verified,
    "ways": ways,
    **member.TABLES,
}


def pages() -> Iterator[tuple[Path, str, str]]:
    """Every page with such tables: its file, its text, and the text it should have."""
    for path in sorted(HERE.rglob("*.md")):
        text = path.read_text("utf-8")
        yield path, text, PLACE.sub(partial(_place, path), text)


def _place(path: Path, found: re.Match[str]) -> str:
    made = thing.KINDS[path.parent.name][1](path.stem) if found[2] == "thing" else TABLES[found[2]]()
    return f"{found[1]}{made}{found[3]}"


if __name__ == "__main__":
    stale = [path for path, text, wanted in pages() if text != wanted]
    if "--check" not in sys.argv[1:]:
        for path, _, wanted in pages():
            path.write_text(wanted, "utf-8")
    told = [f"{path.relative_to(HERE)} was not what the code says" for path in stale]
    print("\n".join(told) or "all pages are what the code says")
    sys.exit(bool(stale) and "--check" in sys.argv[1:])
