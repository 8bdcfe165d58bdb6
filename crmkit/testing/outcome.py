"""What a fixture comes to in a few words: `pytest --update` tells whoever rewrites fixtures what became of which."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from crmkit.testing.exchange import Fixture, apart

#: What a test's report calls what became of its fixture.
FIXTURE = "crmkit fixture"
#: So many characters of a place that differs are shown.
SHOWN = 160


def expected(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a fixture expects."""
    return {name: value for name, value in document.items() if name in Fixture.EXPECTED}


def short(came: Mapping[str, Any]) -> str:
    """What came of a fixture: `accepted v1`, `2 order, 1 refused`, `RetryableError in 60 s`."""
    return ", ".join(part for name, value in came.items() if (part := _part(name, value))) or "nothing"


def change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`old -> new` where an outcome changed, with the first place that differs where both are as short; else ""."""
    if before == after:
        return ""
    old, new = short(before), short(after)
    if old != new:
        return f"{old} -> {new}"
    places = apart("", before, after)
    more = f", and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{new}:{places[0][:SHOWN]}{more}" if places else f"{new}, written otherwise"


def _part(name: str, value: Any) -> str:
    match name, value:
        case "error", {"error": kind, "retry_after": seconds}:
            return f"{kind} in {seconds} s"
        case "receipt", None:
            return "not there"
        case "receipt", _:
            return _receipt(value, "vendor_id", "batch_id", "reason")
        case "receipts", _:
            return _counted("nothing" if one is None else _receipt(one, "reason") for one in value)
        case "records", _:
            return _counted("hint" if "reread" in one else one.get("record", "?") for one in value) or "no records"
        case (("refused" | "problems" | "warnings"), _):
            return f"{len(value)} {name}" if value else f"no {name}"
        case "cancelled", _:
            return "cancelled" if value else "not cancelled"
        case "reply", _:
            return f"reply {value.get('status')}"
        case "said", _:
            return "may be said" if value is None else "may not be said"
        case "kept", _:
            return f"keeps {', '.join(sorted(value))}"
        case "cursor", _:
            return "a cursor"
    return str(value)


def _receipt(receipt: Mapping[str, Any], *names: str) -> str:
    return " ".join([str(receipt.get("outcome")), *(str(receipt[name]) for name in names if receipt.get(name))])


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())


def summary(reported: Iterable[tuple[str, str]]) -> list[str]:
    """The lines that tell of fixtures that were looked at.

    Args:
        reported: each one's path, and what changed of it; "" where nothing did.
    """
    every = sorted(set(reported))
    lines = [f"{path}: {what}" for path, what in every if what]
    return [*lines, f"{len(every)} looked at, {len(lines)} changed"] if every else []


__all__ = ["FIXTURE", "change", "expected", "short", "summary"]
