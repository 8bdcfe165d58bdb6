"""The fake vendors, in a process of their own: one of each kind for every world, with a ledger on disk.

Spoken to in lines of JSON. `{"open": FOLDER}` answers `{KIND: URL}`; `{"settle": FOLDER}` answers when all that was on
the wire has arrived, though who sent it may be dead; `{"close": FOLDER}` hangs up.
"""

import json
import sys
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from crashkit.shop import CHANNELS
from crmkit.testing.vendor import Vendor


def ledger(folder: Path, kind: str) -> Path:
    """The ledger of a world's vendor."""
    return folder / f"{kind}.ledger"


def settle(vendor: Vendor) -> None:
    """Wait until it has served everybody who ever connected."""
    with closing(HTTPConnection("127.0.0.1", vendor.port, timeout=10)) as caller:  # it lets callers in one by one
        caller.request("GET", "/found?key=")
        caller.getresponse().read()
    until = time.monotonic() + 10
    while vendor._connections:
        if time.monotonic() > until:
            raise TimeoutError("somebody still holds a connection")
        time.sleep(0.002)


def main() -> None:
    worlds: dict[str, dict[str, Vendor]] = {}
    answer = sys.stdout.write
    answer("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        [(what, folder)] = json.loads(line).items()
        if what == "open":
            worlds[folder] = {kind: Vendor(ledger(Path(folder), kind)) for kind in CHANNELS}
            for vendor in worlds[folder].values():
                vendor.start()
            told = {kind: vendor.url for kind, vendor in worlds[folder].items()}
        else:
            told = {}
            for vendor in worlds[folder].values():
                (settle if what == "settle" else Vendor.stop)(vendor)
            if what == "close":
                del worlds[folder]
        answer(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
