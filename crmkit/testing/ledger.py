"""What a fake vendor was asked and what it took, on disk before it answers: the truth that a database is held against.

A file of JSON lines, only ever added to, so that it can be read while its vendor runs and after it was killed.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

#: `request`: it read one. `accepted`: it took the message. `repeat`: it was told by its key from one taken before.
#: `unread`: it was connected to and hung up before it read anything; it has no key.
Kind = Literal["request", "accepted", "repeat", "unread"]
#: Where a fake vendor is asked what became of a message, and how a request with refused credentials is noted.
ASKING, STRANGER = "/found", "401"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    Attributes:
        kind: what happened.
        at: when, in seconds since the epoch.
        key: the message's; empty where the request was about none.
        method, path: of the request.
        digest: SHA-256 of the body, in hexadecimal.
        fault: how the vendor misbehaved; empty where it did not.
        vendor_id: the vendor's number for what it took.
    """

    kind: Kind
    at: float
    key: str = ""
    method: str = ""
    path: str = ""
    digest: str = ""
    fault: str = ""
    vendor_id: str = ""


class Ledger:
    """A ledger on disk.

    Args:
        path: its file; made when the first line is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, kind: Kind, **told: Any) -> Entry:
        """Add a line; it is on disk when this returns."""
        entry = Entry(kind, time.time(), **told)
        with self.path.open("ab") as file:
            file.write(json.dumps(asdict(entry)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return entry

    def entries(self, kind: Kind | None = None) -> list[Entry]:
        """The lines of a kind, or all, in the order they were written; one that is half written is left out."""
        whole = self.path.read_bytes().rpartition(b"\n")[0] if self.path.exists() else b""
        found = [Entry(**json.loads(line)) for line in whole.splitlines()]
        return [entry for entry in found if kind is None or entry.kind == kind]

    def requests(self) -> Counter[str]:
        """How often each message was sent here, by key, but for what its credentials did not let in."""
        sent = [entry for entry in self.entries("request") if entry.key and not entry.path.startswith(ASKING)]
        return Counter(entry.key for entry in sent if entry.fault != STRANGER)

    def accepted(self) -> Counter[str]:
        """How often each message was taken, by key."""
        return Counter(entry.key for entry in self.entries("accepted"))


#: Outcomes of attempts after which it is known that the vendor has not got the message.
_KNOWN_NOT_TAKEN = frozenset({"refused", "deferred", "rejected"})
#: The outcome of asking what became of a message: no request to take it.
_LOOKED_UP = "looked-up"
#: States that say that the vendor has it; those that leave that open.
_TAKEN, _OPEN = frozenset({"sent", "delivered"}), frozenset({"in-doubt", "sending"})


def violations(
    ledger: Ledger,
    messages: Iterable[Mapping[str, Any]],
    attempts: Iterable[Mapping[str, Any]],
    *,
    gateway: str | None = None,
    deduplicates: bool = False,
    looks_up: bool = False,
    at_rest: bool = True,
) -> list[str]:
    """What in a database is not so by a vendor's ledger; empty if all is well.

    Args:
        ledger: the vendor's.
        messages: rows of the message table.
        attempts: rows of the attempt table.
        gateway: the gateway of this vendor; None where there is no other.
        deduplicates: whether the vendor tells repeats by their key.
        looks_up: whether it can be asked: then a doubt after which it was asked allows another request too.
        at_rest: nothing is running: every request has its attempt, and what is neither sent nor in doubt was not taken.
    """
    rows = {row["key"]: row for row in messages}
    tried: dict[int, list[Mapping[str, Any]]] = {}
    for attempt in attempts:
        if gateway not in (None, attempt["gateway"]):
            continue
        tried.setdefault(attempt["message_id"], []).append(attempt)
    requests, accepted = ledger.requests(), ledger.accepted()
    found = [f"{key}: requested, and no message has this key" for key in requests if key not in rows]
    for key, row in rows.items():
        mine = [one for one in tried.get(row["id"], ()) if one["outcome"] != _LOOKED_UP]
        is_here = gateway in (None, row["gateway"])
        taken, asked = accepted[key], requests[key]
        if taken > 1:
            found.append(f"{key}: accepted {taken} times")
        said = (is_here and row["state"] in _TAKEN) or any(one["outcome"] == "accepted" for one in mine)
        if said and not taken:
            found.append(f"{key}: {row['state']}, and the vendor never accepted it")
        comes_again = deduplicates and row["state"] == "queued"
        if at_rest and taken and not said and row["state"] not in _OPEN and not comes_again:
            found.append(f"{key}: accepted, and {row['state']}")
        if at_rest and asked > len(mine):
            found.append(f"{key}: {asked} requests in {len(mine)} recorded attempts")
        doubts = sum(1 for one in mine if one["outcome"] == "in-doubt")
        known = sum(1 for one in mine if one["outcome"] in _KNOWN_NOT_TAKEN)
        looked_up = len(tried.get(row["id"], ())) - len(mine)
        resolved = doubts if deduplicates else min(doubts, looked_up) if looks_up else 0
        if asked > 1 + known + resolved:
            found.append(f"{key}: {asked} requests after {known} refusals and {resolved} of {doubts} doubts resolved")
    return found
