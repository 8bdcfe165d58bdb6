"""How often somebody may call, and who that is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.web import limit
from crmkit.web.limit import Buckets, Callers, Rate


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_is_emptied_and_fills_again() -> None:
    clock = Clock()
    buckets = Buckets(Rate(0.5, 3), clock)
    for _ in range(3):
        assert buckets.wait("a") == 0
        buckets.take("a")
    assert buckets.wait("a") == 2
    assert buckets.wait("b") == 0
    clock.now += 2
    assert buckets.wait("a") == 0
    buckets.take("a")
    assert buckets.wait("a") == 2


@given(st.lists(st.floats(0, 20), max_size=60), st.integers(1, 5), st.floats(0.1, 3))
def test_never_more_is_allowed_than_the_rate_and_the_burst(pauses: list[float], burst: int, rate: float) -> None:
    clock, allowed = Clock(), 0
    buckets = Buckets(Rate(rate, burst), clock)
    for pause in pauses:
        clock.now += pause
        if buckets.wait("a") == 0:
            buckets.take("a")
            allowed += 1
    assert allowed <= burst + sum(pauses) * rate + 1e-6


def test_who_waits_as_long_as_told_may() -> None:
    clock = Clock()
    buckets = Buckets(Rate(0.3, 1), clock)
    buckets.take("a")
    clock.now += buckets.wait("a") + 1e-9
    assert buckets.wait("a") == 0


def test_so_many_buckets_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "MOST", 10)
    buckets = Buckets(Rate(0.001, 1), Clock())
    for number in range(100):
        buckets.take(number)
    assert len(buckets._left) == 10
    assert buckets.wait(99) > 0


@pytest.mark.parametrize(
    ("peer", "told", "caller"),
    [
        ("203.0.113.5", None, "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),  # nobody of ours: not believed
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        (
            "127.0.0.1",
            "6.6.6.6, 198.51.100.1",
            "198.51.100.1",
        ),  # what stands before the proxy's own word is the caller's
        ("127.0.0.1", "6.6.6.6, 198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1, nonsense", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_who_calls_is_said_by_our_own_proxies_only(peer: str, told: str | None, caller: str) -> None:
    assert Callers(["127.0.0.0/8", "::1/128", "10.0.0.0/8"]).told(peer, told) == caller

    headers = [] if told is None else [(b"x-forwarded-for", one.strip().encode()) for one in told.split(",")]
    scope = {"client": (peer, 1), "headers": [(b"host", b"crm"), *headers]}
    assert Callers(["127.0.0.0/8", "::1/128", "10.0.0.0/8"]).of(scope) == caller  # a line for each says the same


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_said_of_who_calls_somebody_does(peer: str, told: str) -> None:
    assert isinstance(Callers(["127.0.0.0/8"]).told(peer, told), str)
