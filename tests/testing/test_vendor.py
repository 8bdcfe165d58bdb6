"""The fake vendor: its ledger is on disk before it answers, and its faults are told by name."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from crmkit.testing.fault import FAULTS, KINDS, Verdict
from crmkit.testing.ledger import Ledger, violations
from crmkit.testing.vendor import Vendor


@contextmanager
def process(ledger: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "crmkit.testing.vendor", "--ledger", str(ledger), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, f"http://127.0.0.1:{int(running.stdout.readline())}"
        finally:
            running.kill()


def post(url: str, key: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/messages", json={"reference": key}, headers=headers, trust_env=False)


# SEMANTICS 27
def test_a_vendor_that_is_killed_knows_what_it_took_when_it_comes_back(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with process(ledger, "--script", '{"b": ["500-taken"]}') as (running, url):
        assert post(url, "a", **{"Idempotency-Key": "a"}).json()["id"] == "v1"
        assert post(url, "b", **{"Idempotency-Key": "b"}).status_code == 500
        assert Ledger(ledger).accepted() == {"a": 1, "b": 1}
        running.send_signal(signal.SIGKILL)
        running.wait()
    with process(ledger) as (_, url):
        assert post(url, "b", **{"Idempotency-Key": "b"}).json()["id"] == "v2"
        assert httpx.get(f"{url}/found", params={"key": "a"}, trust_env=False).json() == {"id": "v1"}
        assert httpx.get(f"{url}/found", params={"key": "c"}, trust_env=False).status_code == 404
        assert post(url, "c").json()["id"] == "v3"
    assert Ledger(ledger).accepted() == {"a": 1, "b": 1, "c": 1}
    assert Ledger(ledger).requests() == {"a": 1, "b": 2, "c": 1}
    assert [entry.kind for entry in Ledger(ledger).entries() if entry.key == "b"] == [
        "request",
        "accepted",
        "request",
        "repeat",
    ]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.entries() == []
    ledger.write("accepted", key="a", vendor_id="v1")
    with ledger.path.open("a") as file:
        file.write('{"kind": "acc')
    assert ledger.accepted() == {"a": 1}


def test_it_is_told_how_to_fail_while_it_runs(tmp_path: Path) -> None:
    with Vendor(tmp_path / "ledger") as vendor:
        httpx.post(f"{vendor.url}/script", json={"*": ["429-later"], "b": ["500"]}, trust_env=False)
        answers = [post(vendor.url, key) for key in ("b", "a", "a")]
    assert [answer.status_code for answer in answers] == [500, 429, 200]
    assert answers[1].headers["retry-after"] == "1800"


def test_without_a_key_to_tell_repeats_by_every_request_is_a_message_more(tmp_path: Path) -> None:
    with Vendor(tmp_path / "ledger") as vendor:
        assert [post(vendor.url, "a").json()["id"] for _ in range(2)] == ["v1", "v2"]
        assert vendor.ledger.accepted() == {"a": 2}


@pytest.mark.parametrize("name", ["refused", "no-such-fault"])
def test_a_fault_it_cannot_act_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Vendor(tmp_path / "ledger").fail(name)


def test_every_fault_has_a_name_and_a_fate() -> None:
    assert all(name == fault.name and fault.told for name, fault in FAULTS.items())
    for fault in FAULTS.values():
        for kind in KINDS:
            assert fault.accepted(kind) <= 1
        if fault.takes:
            assert fault.verdict in {Verdict.TAKEN, Verdict.DOUBT}


# --- the ledger against the database ----------------------------------------------------------------------------------

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def message(state: str, **more: Any) -> dict[str, Any]:
    return {"id": 1, "key": "a", "state": state, "gateway": "post", **more}


def tries(*outcomes: str, gateway: str = "post") -> list[dict[str, Any]]:
    return [
        {"message_id": 1, "outcome": outcome, "gateway": gateway, "started_at": AT + timedelta(minutes=number)}
        for number, outcome in enumerate(outcomes)
    ]


def ledger(folder: Path, asked: int, taken: int) -> Ledger:
    found = Ledger(folder / "ledger")
    for _ in range(asked):
        found.write("request", key="a", method="POST", path="/messages")
    for _ in range(taken):
        found.write("accepted", key="a", vendor_id="v1")
    return found


# SEMANTICS 27
@pytest.mark.parametrize(
    ("asked", "taken", "state", "outcomes", "options", "wrong"),
    [
        (1, 1, "sent", ["accepted"], {}, ""),
        (1, 1, "in-doubt", ["in-doubt"], {}, ""),
        (1, 0, "in-doubt", ["in-doubt"], {}, ""),
        (2, 1, "sent", ["refused", "accepted"], {}, ""),
        (1, 1, "sent", ["refused", "accepted"], {}, ""),
        (1, 1, "failed", ["accepted"], {}, ""),
        (2, 2, "sent", ["in-doubt", "accepted"], {}, "accepted 2 times"),
        (2, 1, "sent", ["in-doubt", "accepted"], {}, "2 requests after"),
        (2, 1, "sent", ["in-doubt", "accepted"], {"deduplicates": True}, ""),
        (3, 1, "sent", ["in-doubt", "accepted"], {"deduplicates": True}, "3 requests"),
        (2, 1, "sent", ["accepted"], {"deduplicates": True}, "2 requests in 1"),
        (2, 1, "sent", ["in-doubt", "looked-up", "accepted"], {"looks_up": True}, ""),
        (2, 1, "sent", ["in-doubt", "accepted"], {"looks_up": True}, "0 of 1 doubts resolved"),
        (1, 1, "sent", ["in-doubt", "looked-up"], {"looks_up": True}, ""),
        (1, 0, "sent", ["accepted"], {}, "never accepted it"),
        (0, 0, "delivered", [], {}, "never accepted it"),
        (1, 1, "queued", ["refused"], {}, "accepted, and queued"),
        (1, 1, "queued", ["in-doubt"], {"deduplicates": True}, ""),
        (1, 1, "suppressed", ["in-doubt"], {"deduplicates": True}, "accepted, and suppressed"),
        (1, 1, "sending", [], {}, "1 requests in 0"),
        (1, 1, "sending", [], {"at_rest": False}, ""),
        (2, 1, "sending", [], {"at_rest": False}, "2 requests after"),
        (0, 0, "sent", [], {"gateway": "other"}, ""),
    ],
)
def test_what_is_not_so_by_the_ledger_is_told(
    tmp_path: Path, asked: int, taken: int, state: str, outcomes: list[str], options: dict[str, Any], wrong: str
) -> None:
    found = violations(ledger(tmp_path, asked, taken), [message(state)], tries(*outcomes), **options)
    assert wrong in "; ".join(found)
    assert bool(found) == bool(wrong)


def test_a_message_nobody_knows_is_told(tmp_path: Path) -> None:
    assert violations(ledger(tmp_path, 1, 0), [], []) == ["a: requested, and no message has this key"]


def test_tries_at_another_vendor_are_not_counted_here(tmp_path: Path) -> None:
    attempts = [*tries("refused", gateway="other"), *tries("accepted")]
    assert violations(ledger(tmp_path, 1, 1), [message("sent")], attempts, gateway="post") == []
    assert violations(ledger(tmp_path, 2, 1), [message("sent")], attempts, gateway="post") != []


def test_a_ledger_is_plain_lines(tmp_path: Path) -> None:
    with Vendor(tmp_path / "ledger") as vendor:
        post(vendor.url, "a")
    first = json.loads((tmp_path / "ledger").read_text().splitlines()[0])
    assert (first["kind"], first["key"], first["method"], first["path"]) == ("request", "a", "POST", "/messages")
    assert len(first["digest"]) == 64
