"""Whatever a vendor does, a message ends as docs/reliability.md says, and the vendor's own ledger agrees."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

import crmkit.host.host
from crmkit.adapters.http import client
from crmkit.store import tables as t
from crmkit.testing.fault import FAULTS, KINDS, Fault, Kind, Verdict
from crmkit.testing.resolver import NoName, SilentName
from crmkit.testing.vendor import Vendor
from tests.faults.conftest import Town
from tests.faults.town import NOON

#: Seconds a call is given where its vendor says nothing.
SHORT = 0.3
LATER = timedelta(hours=2)


@contextmanager
def on_the_way(fault: Fault, vendor: Vendor, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a vendor is that cannot be reached."""
    if fault.name == "refused":
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    elif fault.name == "untrusted":
        with Vendor(folder / "untrusted", tls=True) as strange:
            yield strange.url
        assert strange.ledger.entries() == []
    elif fault.name == "no-tls":
        yield vendor.url.replace("http:", "https:")
    else:
        resolver = {"no-name": NoName, "silent-name": SilentName}[fault.name]
        with patch.context() as patched:
            patched.setattr(crmkit.host.host, "client", lambda **options: client(resolver=resolver(), **options))
            yield "http://vendor.example"


# SEMANTICS 23
# SEMANTICS 24
# SEMANTICS 27
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_message_ends_as_the_table_says(
    town: Town, fault: Fault, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_silent = fault.ends in {"hang", "drip"} or fault.name in {"silent-name", "no-tls"}
    within = SHORT if is_silent else 5.0
    first, then = fault.fate(kind)
    town.vendor.renews = fault.verdict is not Verdict.STRANGER
    if fault.when == "way":
        with on_the_way(fault, town.vendor, tmp_path, monkeypatch) as url:
            town.configure(kind, url, within)
            town.sync()
            town.dispatch(NOON)
    else:
        town.configure(kind, within=within)
        town.vendor.fail(fault.name, at="connection" if fault.when == "connection" else "*")
        town.sync()
        town.dispatch(NOON)
    assert town.message["state"] == first
    assert town.vendor.ledger.accepted()[town.message["key"]] == fault.takes
    assert town.wrong() == []
    if fault.when == "way" or is_silent or fault.verdict is Verdict.STRANGER:
        town.configure(kind, token="2")
    town.dispatch(NOON + LATER)
    assert town.message["state"] == then
    assert town.vendor.ledger.accepted()[town.message["key"]] == fault.accepted(kind)
    assert town.wrong() == []
    assert {row["gateway"] for row in town.rows(t.attempt)} == {kind}
