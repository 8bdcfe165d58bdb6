"""By what somebody is told in a raw body: addresses as a whole, however they are written."""

import json
from typing import Any

import pytest

from crmkit.core.trace import Finder

VALUES = ("ann@hushed.example", "+12025550123", "zoe@xn--mller-kva.example", "+4930123456", "oX_abc-1", "+0001234567")
FINDER = Finder(VALUES)


@pytest.mark.parametrize(
    "body",
    [
        b'{"email": "ANN@hushed.example"}',
        b"write to ann@hushed.example. Bye",
        b'"\\nann@hushed.example"',
        b'"ann\\u0040hushed.example"',
        b"email=ann%40hushed.example&id=1",
        "an ZOE@MÜLLER.example".encode(),
        json.dumps("zoe@müller.example").encode(),
        b"zoe@xn--mller-kva.example",
        b"(202) 555-0123",
        b"+1 202 555 0123",
        b"2026-11-21 12025550123",
        b"phone=%2B1%20202%20555%200123",
        b"030 / 123 456",
        b"+49 (0)30 123456",
        b"0049 30 123456",
        b'{"openid": "oX_abc-1"}',
        "ann@hushed.example",
        {"x-from": "ann@hushed.example"},
    ],
)
def test_an_address_is_found_however_it_is_written(body: Any) -> None:
    assert FINDER(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        None,
        b"joann@hushed.example",
        b"mary.ann@hushed.example",
        b"mary+ann@hushed.example",
        b"ann@hushed.example.com",
        b"ann@hushed.example-shop",
        b"912025550123",
        b"20255501234",
        b"oX_abc-12",
        b'{"total": "202.55"}',
        b"\xff\xfe % \\u12 %zz",
    ],
)
def test_what_is_a_part_of_something_longer_is_not_meant(body: Any) -> None:
    assert not FINDER(body)


def test_who_is_known_by_nothing_is_found_nowhere() -> None:
    assert not Finder([])(b"ann@hushed.example +12025550123")
