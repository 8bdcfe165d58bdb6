"""Adapters of a test: made as the host makes them, called through the real client, answered by whom the test chose."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from crmkit import AuthError, DoubtError, Gateway, GatewaySettings, Message, Receipt, RefusedError, RetryableError
from crmkit.testing import FAULTS, Vendor, make_adapter
from crmkit.testing.fault import Verdict
from crmkit.testing.ledger import Ledger

URL = "https://api.bird.example/messages"


class BirdGateway(Gateway):
    name = "bird"
    channel = "sms"
    reaches = ("phone",)

    class Settings(GatewaySettings):
        token: SecretStr
        within: float = 10.0

    async def open(self) -> None:
        self.http.headers["Authorization"] = f"Bearer {self.settings.token.get_secret_value()}"

    async def deliver(self, message: Message) -> Receipt:
        told, within = {"reference": message.key}, self.settings.within
        answer = await self.call("deliver", "POST", URL, json=told, read=dict[str, str], within=within)
        return message.accepted(vendor_id=answer["id"])


def message() -> Message:
    return Message(1, "k1", "sms", "phone", "+447911123456", "transactional", "t", "en", "Hello")


async def test_a_router_answers_through_the_real_client(make_adapter: Any, router: Any) -> None:
    route = router.post(URL).respond(json={"id": "v7"})
    gateway = make_adapter(BirdGateway, {"token": "t-1"}, at=router)
    await gateway.open()
    assert (await gateway.deliver(message())).vendor_id == "v7"
    assert route.calls.last.request.headers["authorization"] == "Bearer t-1"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"status_code": 401}, AuthError),
        ({"status_code": 422}, RefusedError),
        ({"status_code": 429}, RetryableError),
        ({"status_code": 502}, DoubtError),
        ({"json": []}, DoubtError),
    ],
)
async def test_errors_are_mapped_as_always(make_adapter: Any, router: Any, answer: Any, error: Any) -> None:
    router.post(URL).respond(**answer)
    with pytest.raises(error, match=r"^bird deliver: "):
        await make_adapter(BirdGateway, {"token": "t"}, at=router).deliver(message())


async def test_a_lost_connection_of_a_router_is_a_doubt(make_adapter: Any, router: Any) -> None:
    router.post(URL).mock(side_effect=httpx.ReadTimeout)
    with pytest.raises(DoubtError):
        await make_adapter(BirdGateway, {"token": "t"}, at=router).deliver(message())


def test_a_route_that_nobody_called_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(router):\n    router.get('https://bird.example/').respond(200)\n")
    result = pytester.runpytest("-q", "-p", "no:xdist", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)


def test_without_respx_the_test_says_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        sys.modules["respx"] = None

        def test_it(router):
            pass
        """
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:xdist", "-p", "no:respx")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the fixture `router` needs respx: pip install respx"])


async def test_an_adapter_at_nobody_says_so(make_adapter: Any) -> None:
    with pytest.raises(AssertionError, match=r"POST api.bird.example: nobody answers here; make .* with at="):
        await make_adapter(BirdGateway, {"token": "t"}).deliver(message())


def test_an_adapter_is_made_with_what_crmkit_toml_would_say() -> None:
    made = make_adapter(BirdGateway, {"token": "t"}, name="spare", timezone="Asia/Shanghai", memory={"a": 1})
    assert (made.account.name, made.account.timezone, made.memory["a"]) == ("spare", "Asia/Shanghai", 1)
    with pytest.raises(ValidationError, match="token"):
        make_adapter(BirdGateway, {})
    with pytest.raises(TypeError, match="answers no calls"):
        make_adapter(BirdGateway, {"token": "t"}, at=object())


async def test_what_an_adapter_keeps_is_found_in_its_memory(make_adapter: Any) -> None:
    made = make_adapter(BirdGateway, {"token": "t"})
    await made.memory.keep(token="fresh")
    assert made.memory["token"] == "fresh"


ERRORS = {
    Verdict.NOT_NOW: RetryableError,
    Verdict.NO: RefusedError,
    Verdict.STRANGER: AuthError,
    Verdict.DOUBT: DoubtError,
}


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.when != "way"])
async def test_every_fault_of_a_vendor_reaches_an_adapter_over_a_real_connection(
    make_adapter: Any, vendor: Vendor, name: str
) -> None:
    fault = FAULTS[name]
    within = 0.5 if fault.ends in {"hang", "drip"} else 10.0
    gateway = make_adapter(BirdGateway, {"token": "t", "within": within}, at=vendor)
    vendor.fail(name, at="connection" if fault.when == "connection" else "*")
    try:
        if fault.verdict is Verdict.TAKEN:
            assert (await gateway.deliver(message())).vendor_id == "v1"
        else:
            with pytest.raises(ERRORS[fault.verdict]):
                await gateway.deliver(message())
    finally:
        await gateway.http.aclose()
    assert Ledger(vendor.ledger.path).accepted()["k1"] == fault.takes


def test_an_installation_delivers_by_a_gateway_of_the_test(journey: Any, vendor: Vendor) -> None:
    import tests.testing.bird as bird

    tea = journey("care", bird, at=vendor, config=bird.CONFIG)
    vendor.fail("429-later")
    tea.order("1001", "paid", buyer=bird.BUYER)
    assert tea.waiting("template", "reason") == [("order-paid", "retry")]
    tea.passes("1h")
    assert tea.told("template", "state", "gateway", "vendor_id") == [("order-paid", "sent", "bird", "v1")]
    assert sum(vendor.ledger.requests().values()) == 2
