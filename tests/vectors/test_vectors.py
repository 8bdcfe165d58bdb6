"""The vendors' signature vectors at the door: the good call is taken, and no other that differs by a character is."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crmkit import Call, Reply, Verified
from tests.vectors.schemes import DOOR, HANDSHAKES, NOT_THE_DOORS, Case, Challenged, door

pytestmark = pytest.mark.shared


@pytest.fixture(scope="session")
def vendors(shared_data: Path) -> Path:
    """The folder of what vendors say of themselves; a test that asks for it is skipped, with the reason, without it."""
    folder = shared_data.parent / "vendors"
    if not folder.is_dir():
        pytest.skip(f"needs the vendors' vectors, which are not in the repository: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def vectors(vendors: Path) -> dict[str, Any]:
    """Every vector there is, by its id."""
    found: dict[str, Any] = {}
    for path in sorted(vendors.rglob("*vectors*.json")):
        for one in json.loads(path.read_text("utf-8"))["vectors"]:
            name = one.get("id") or one["name"]
            assert name not in found
            found[name] = one
    return found


def test_every_file_and_every_vector_is_accounted_for(vendors: Path, vectors: dict[str, Any]) -> None:
    files = {path.name for path in vendors.rglob("*.json")}
    assert files == {"vectors.json", "messaging-vectors.json"}
    assert set(vectors) == {*DOOR, *HANDSHAKES, *NOT_THE_DOORS}
    assert len(DOOR) + len(HANDSHAKES) + len(NOT_THE_DOORS) == len(vectors)
    assert (len(DOOR), len(HANDSHAKES), len(NOT_THE_DOORS)) == (18, 1, 21)  # docs/security.md says so too


def changed(text: str) -> Iterator[str]:
    """`text` with one character changed, each in turn; with one missing, and one more; and nothing of it."""
    for place, character in enumerate(text):
        yield text[:place] + chr(ord(character) ^ 1) + text[place + 1 :]
    yield from (text[:-1], text[1:], text + "0", "0" + text, "")


def verdict(case: Case, call: Call) -> bool:
    found = case.adapter.verify(call)
    assert isinstance(found, Verified) or (isinstance(found, Reply) and found.status == 401)
    return isinstance(found, Verified)


@pytest.mark.parametrize("name", DOOR)
def test_what_the_vendor_signed_is_taken_and_nothing_else(vectors: dict[str, Any], name: str) -> None:
    case = DOOR[name](vectors[name])
    good = {**case.bare, **case.values}
    assert verdict(case, case.call(good))
    tried = 0
    for part in case.values:
        for other in changed(good[part]):
            assert not verdict(case, case.call({**good, part: other})), (part, other)
            tried += 1
    assert tried >= sum(map(len, case.values.values()))


@pytest.mark.parametrize("name", DOOR)
def test_what_was_signed_with_another_secret_is_refused(vectors: dict[str, Any], name: str) -> None:
    case, other = DOOR[name](vectors[name]), {**vectors[name]}
    if "secret" in other:
        other["secret"] += "x"
    elif "input" in other:
        key = next(one for one in ("secret", "key", "token", "parts") if one in other["input"])
        given = other["input"][key]
        written = ["x" + given[0], *given[1:]] if isinstance(given, list) else given[:-2] + given[-1:] + given[-2:-1]
        other["input"] = {**other["input"], key: written if written != given else "x" + given}
    else:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        written = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        other["public_key_der_base64"] = base64.b64encode(written).decode()
    assert not verdict(DOOR[name](other), case.call({**case.bare, **case.values}))


@pytest.mark.parametrize("name", DOOR)
def test_a_call_from_another_hour_is_refused_where_its_moment_is_signed(vectors: dict[str, Any], name: str) -> None:
    case = DOOR[name](vectors[name])
    call = case.call({**case.bare, **case.values})
    later = [verdict(case, replace(call, received_at=call.received_at + by)) for by in (-HOUR, HOUR, MINUTE, -MINUTE)]
    assert later == ([False, False, True, True] if case.dated else [True] * 4)


HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def test_what_vendors_do_not_sign_is_known(vectors: dict[str, Any]) -> None:
    """These bodies may be changed on the way: only the address they come to (https, a secret path) protects them."""
    bare = {}
    for name, made in DOOR.items():
        case = made(vectors[name])
        for part, value in case.bare.items():
            assert verdict(case, case.call({**case.values, part: value + "!"}))
            bare[name] = part
    assert bare == {"mailgun_own": "event", "wechat_sha1_own": "body", "wjx_push_own": "body"}


def test_a_vendors_question_is_answered_and_nothing_is_kept(vectors: dict[str, Any]) -> None:
    vector = vectors["ebay-challenge"]
    given = vector["params"]
    adapter = door("ebay", None, given["verificationToken"], given["endpoint"], base=Challenged)
    answer = adapter.verify(Call(b"", query=f"challenge_code={given['challengeCode']}", method="GET"))
    assert answer == Reply(200, json.dumps({"challengeResponse": vector["expected"]}).encode())
