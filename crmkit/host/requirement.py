"""Which of a distribution's requirements what is installed does not meet.

Installers see to it, but nobody looks again: a plugin may be left behind by an upgrade of what it needs. Only plain
releases are compared (`>=1.2,<2`); what cannot be read is taken as met.
"""

import re
from importlib.metadata import Distribution, PackageNotFoundError, version

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;()]*)\)?\s*(;.*)?$")
_CLAUSE = re.compile(r"(>=|<=|==|!=|~=|>|<)\s*([0-9]+(?:\.[0-9]+)*)$")


def unmet(distribution: Distribution | None) -> list[str]:
    """What it needs and is not there, or is there in another version: `crmkit>=2 (0.1.0 is installed)`."""
    found = []
    for written in (distribution.requires if distribution else None) or ():
        read = _REQUIREMENT.match(written.strip())
        if read is None or read[3]:
            continue  # with a marker: an extra's, or another system's
        name, wanted = read[1], read[2].strip()
        try:
            installed = version(name)
        except PackageNotFoundError:
            found.append(f"{name}{wanted} (it is not installed)")
            continue
        if not all(_holds(installed, clause.strip()) for clause in wanted.split(",") if clause.strip()):
            found.append(f"{name}{wanted} ({installed} is installed)")
    return found


def is_bounded(written: str) -> bool:
    """Whether a requirement says from which version on (`httpx>=0.28`), or where its code is (`x @ https://...`)."""
    read = _REQUIREMENT.match(written.strip())
    return " @ " in written or (read is not None and re.search(r">=|~=|==|>", read[2]) is not None)


def _holds(installed: str, clause: str) -> bool:
    read = _CLAUSE.match(clause)
    if read is None:
        return True
    given = [int(part) for part in read[2].split(".")]
    here = _release(installed)
    width = max(len(given), len(here))
    mine, wanted = [one + [0] * (width - len(one)) for one in (here, given)]
    if read[1] == "~=":
        return mine >= wanted and here[: len(given) - 1] == given[:-1]
    return {
        ">=": mine >= wanted,
        "<=": mine <= wanted,
        ">": mine > wanted,
        "<": mine < wanted,
        "==": mine == wanted,
        "!=": mine != wanted,
    }[read[1]]


def _release(text: str) -> list[int]:
    read = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return [int(part) for part in read[0].split(".")] if read else []
