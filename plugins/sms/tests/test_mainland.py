"""What goes for mainland China: numbers, times, what each code comes to, and what goes in one call."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

import httpx
import pytest

from crmkit import (
    AdapterError,
    AuthError,
    Caution,
    DoubtError,
    Form,
    FormSpec,
    Message,
    Reason,
    Receipt,
    RetryableError,
    Wording,
)
from crmkit.testing import make_adapter
from crmkit_sms import aliyun_code, bundle, mainland, tencent_code
from crmkit_sms.aliyun import AliyunGateway
from crmkit_sms.tencent import TencentGateway
from plugins.sms.tests.conftest import make_message

FORM = Form("SMS_1", "示例", {"name": "李雷"})
SETTINGS: dict[type[Any], dict[str, str]] = {
    AliyunGateway: {"access_key_id": "LTAI5tEXAMPLE", "access_key_secret": "s"},
    TencentGateway: {"secret_id": "AKIDexample", "secret_key": "s", "app_id": "1400000001"},
}


@pytest.mark.parametrize(
    ("number", "country", "value"),
    [
        ("13800138000", "", "+8613800138000"),
        ("8613800138000", "", "+8613800138000"),
        ("+8613800138000", "86", "+8613800138000"),
        ("0014155550100", "", "+14155550100"),
        ("4915112345678", "", "+4915112345678"),
        ("13800138000", "86", "+8613800138000"),
        ("4155550100", "1", "+14155550100"),
        ("15112345678", "+49", "+4915112345678"),
    ],
)
def test_numbers_are_read_as_they_are_told(number: str, country: str, value: str) -> None:
    assert (mainland.address(number, country).kind, mainland.address(number, country).value) == ("phone", value)


def test_what_is_no_number_is_kept_as_it_came() -> None:
    assert mainland.address("1069").kind == "sms_sender"


def test_times_are_those_of_shanghai() -> None:
    assert mainland.moment("2026-01-02 11:04:05") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (mainland.moment(""), mainland.moment(None), mainland.moment(7)) == (None, None, None)
    now = datetime(2026, 12, 31, 15, 30, tzinfo=UTC)  # half past eleven at night, there
    assert mainland.until(time(0), now) == timedelta(minutes=30)
    assert mainland.until(time(8), now) == timedelta(hours=8, minutes=30)
    assert mainland.until_next_month(now) == timedelta(minutes=30)
    assert mainland.until_next_month(datetime(2026, 2, 10, 16, tzinfo=UTC)) == timedelta(days=18)


async def came(make: Any, kind: type[Any], document: Any, message: Message) -> Receipt | AdapterError:
    """What a vendor's answer comes to."""
    gateway = make(kind, SETTINGS[kind])
    answer = httpx.Response(200, json=document, headers={"Date": "Thu, 07 May 2026 09:30:00 GMT"})
    gateway.http = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: answer))
    try:
        receipt: Receipt = await gateway.deliver(message)
        return receipt
    except AdapterError as error:
        return error


def no(kind: type[Any], code: str) -> Any:
    """A call that was refused."""
    told = {"Code": code, "Message": "no"}
    return told if kind is AliyunGateway else {"Response": {"Error": told}}


def not_to(code: str) -> Any:
    """A number that was refused, in a call that was not."""
    return {"Response": {"SendStatusSet": [{"Code": code, "Message": "no", "PhoneNumber": "+8613800138000"}]}}


CODES = [
    *[(AliyunGateway, no(AliyunGateway, code), code, r) for code, r in aliyun_code.REASONS.items() if "isv" in code],
    *[(TencentGateway, no(TencentGateway, code), code, r) for code, r in tencent_code.REASONS.items()],
    *[(TencentGateway, not_to(code), code, r) for code, r in tencent_code.REASONS.items()],
]


@pytest.mark.parametrize(("kind", "document", "code", "reason"), CODES)
async def test_a_refusal_has_the_reason_of_its_code(make, message, kind, document, code, reason) -> None:
    receipt = await came(make, kind, document, message(form=FORM))
    assert isinstance(receipt, Receipt)
    assert (receipt.outcome, receipt.reason) == ("rejected", reason)
    assert receipt.detail is not None
    assert receipt.detail.startswith(f"{code} no")


OURS = [
    *[(AliyunGateway, no(AliyunGateway, code), do) for code, do in aliyun_code.OURS.items()],
    *[(TencentGateway, no(TencentGateway, code), do) for code, do in tencent_code.OURS.items()],
    *[(TencentGateway, not_to(code), do) for code, do in tencent_code.OURS.items()],
    (TencentGateway, no(TencentGateway, "AuthFailure.SomethingNew"), "look into the console"),
]


@pytest.mark.parametrize(("kind", "document", "do"), OURS)
async def test_what_only_the_operator_can_mend_pauses_the_account_and_says_how(
    make, message, kind, document, do
) -> None:
    error = await came(make, kind, document, message(form=FORM))
    assert isinstance(error, AuthError)
    assert error.do == f"{do}, then `crmkit resume gateway texts`"


@pytest.mark.parametrize(
    ("kind", "document", "wait"),
    [
        (AliyunGateway, no(AliyunGateway, "Throttling"), timedelta(seconds=1)),
        (AliyunGateway, no(AliyunGateway, "Throttling.Api"), timedelta(seconds=1)),
        (AliyunGateway, no(AliyunGateway, "isv.MONTH_LIMIT_CONTROL"), timedelta(days=24, hours=6, minutes=30)),
        (TencentGateway, no(TencentGateway, "RequestLimitExceeded"), timedelta(seconds=1)),
        (TencentGateway, not_to("LimitExceeded.AppMainlandChinaDailyLimit"), timedelta(hours=6, minutes=30)),
    ],
)
async def test_the_account_waits_as_long_as_its_limit_lasts(make, message, kind, document, wait) -> None:
    error = await came(make, kind, document, message(form=FORM))
    assert isinstance(error, RetryableError)
    assert error.retry_after == wait


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        *[(AliyunGateway, no(AliyunGateway, code)) for code in ("isp.GATEWAY_ERROR", "isp.NEW", "SignatureNonceUsed")],
        (AliyunGateway, {"Code": "isv.SMS_TEMPLATE_ILLEGAL", "BizId": "9^0"}),
        (AliyunGateway, {"Message": "OK"}),
        (AliyunGateway, []),
        *[(TencentGateway, no(TencentGateway, f"InternalError.{c}")) for c in ("SendAndRecvFail", "UnknownError")],
        (TencentGateway, not_to("InternalError.OtherError")),
        (TencentGateway, {"Response": {"SendStatusSet": []}}),
        (TencentGateway, {"Response": {}}),
    ],
)
async def test_what_says_neither_yes_nor_no_is_in_doubt(make, message, kind, document) -> None:
    assert isinstance(await came(make, kind, document, message(form=FORM)), DoubtError)


@pytest.mark.parametrize(
    "status",
    [
        {"Code": "Ok", "PhoneNumber": "", "SerialNo": "2"},
        {"Code": "Ok", "PhoneNumber": None, "SerialNo": "2"},
        {"Code": "Ok", "SerialNo": "2"},
        {"Code": None, "PhoneNumber": "+8613800138002"},
        {"Code": "Ok", "PhoneNumber": {"number": 2}},
        None,
    ],
)
async def test_only_who_is_not_spoken_of_is_in_doubt(make, message, status) -> None:
    accepted = {"Code": "Ok", "PhoneNumber": "+8613800138001", "SerialNo": "1"}
    refused = {"Code": "FailedOperation.ContainSensitiveWord", "PhoneNumber": "+8613800138003", "SerialNo": None}
    gateway = make(TencentGateway, SETTINGS[TencentGateway])
    answer = httpx.Response(200, json={"Response": {"SendStatusSet": [accepted, status, refused]}})
    gateway.http = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: answer))
    found: dict[str, Receipt] = {}
    with pytest.raises(DoubtError, match="does not speak of this number"):
        async for one in gateway.deliver_many([message(n, address=f"+861380013800{n}", form=FORM) for n in (1, 2, 3)]):
            found[one.message.address] = one
    assert {number: (one.outcome, one.vendor_id) for number, one in found.items()} == {
        "+8613800138001": ("accepted", "1"),
        "+8613800138003": ("rejected", None),
    }


# what goes in one call


async def handed(messages: Sequence[Message], hand: Any) -> tuple[dict[int, Any], AdapterError | None]:
    found: dict[int, Any] = {}
    try:
        async for receipt in bundle.handed_over(messages, hand):
            found[receipt.message.id] = "untried" if receipt.is_untried else receipt.outcome
    except AdapterError as error:
        return found, error
    return found, None


async def test_where_one_is_in_doubt_the_others_are_put_off_and_not_doubted() -> None:
    one, two, three = (make_message(n, address=f"+861380013800{n}") for n in (1, 2, 3))

    async def hand(group: Sequence[Message]) -> list[bundle.Came]:
        return [(one, one.accepted()), (two, AuthError("no")), (three, DoubtError("lost"))]

    found, error = await handed([one, two, three], hand)
    assert found == {1: "accepted", 2: "deferred"}
    assert isinstance(error, DoubtError)


async def test_after_credentials_were_refused_nothing_more_is_handed_over() -> None:
    twice = [make_message(1), make_message(2), make_message(3)]  # all to one number: three calls
    calls = []

    async def hand(group: Sequence[Message]) -> list[bundle.Came]:
        calls.append([message.id for message in group])
        return [(message, AuthError("no")) for message in group]

    found, error = await handed(twice, hand)
    assert (calls, found) == ([[1]], {})
    assert isinstance(error, AuthError)


async def test_a_refused_call_is_halved_until_the_culprit_is_alone() -> None:
    messages = [make_message(n, address=f"+8613800138{n:03}") for n in range(100)]
    calls = []

    async def hand(group: Sequence[Message]) -> list[bundle.Came] | None:
        calls.append(len(group))
        if any(message.id == 37 for message in group) and len(group) > 1:
            return None
        return [(m, m.rejected(Reason.BAD_ADDRESS, "no") if m.id == 37 else m.accepted()) for m in group]

    found, error = await handed(messages, hand)
    assert error is None
    assert [number for number, outcome in found.items() if outcome == "rejected"] == [37]
    assert len(found) == 100
    assert len(calls) <= 2 * 7 + 1


async def test_messages_that_are_all_refused_take_no_more_calls_than_a_try_has_time_for() -> None:
    waiting = [make_message(n, address=f"+8613800138{n:03}") for n in range(200)]
    turns = []

    async def hand(group: Sequence[Message]) -> list[bundle.Came] | None:
        calls.append(len(group))
        return None if len(group) > 1 else [(m, m.rejected(Reason.CONTENT, "no")) for m in group]

    while waiting:
        calls: list[int] = []
        found, error = await handed(waiting, hand)
        assert error is None
        assert set(found) == {message.id for message in waiting}
        turns.append(len(calls))
        assert set(found.values()) <= {"rejected", "untried"}
        waiting = [message for message in waiting if found[message.id] == "untried"]
    assert max(turns) <= 80
    assert len(turns) <= 7


@pytest.mark.parametrize(
    ("step", "expected"),
    [(50, ["deferred"] * 4), (39, ["accepted", "untried", "untried", "untried"])],
    ids=["nobody has a verdict", "one has"],
)
async def test_a_slow_vendor_is_handed_the_rest_another_time(monkeypatch, step, expected) -> None:
    """That costs no try, unless the turn came to nothing at all."""
    messages, seconds = [make_message(n, address=f"+861380013800{n}") for n in range(4)], iter(range(0, 1000, step))
    monkeypatch.setattr(bundle.time, "monotonic", lambda: next(seconds))

    async def hand(group: Sequence[Message]) -> list[bundle.Came] | None:
        return None if len(group) > 1 else [(m, m.accepted()) for m in group]

    found, error = await handed(messages, hand)
    assert (found, error) == (dict(enumerate(expected)), None)


async def test_what_was_not_handed_over_before_a_doubt_and_a_limit_costs_no_try() -> None:
    messages = [make_message(n, address=f"+861380013800{n % 2}") for n in (0, 1, 2, 4, 6)]  # 0 2 4 6: to one number

    async def hand(group: Sequence[Message]) -> list[bundle.Came]:
        doubt = {0, 1} & {message.id for message in group}
        return [(message, DoubtError("lost") if doubt else RetryableError("busy")) for message in group]

    found, error = await handed(messages, hand)
    assert found == {2: "deferred", 4: "untried", 6: "untried"}
    assert isinstance(error, DoubtError)


@pytest.mark.parametrize(
    ("several", "longest", "strangers"), [(2, 255, 0), (31, 255, 0), (100, 255, 25), (200, 511, 45)]
)
def test_marks_fit_and_find_their_message_and_hardly_another(several, longest, strangers) -> None:
    messages = [make_message(n) for n in range(several)]
    made = bundle.marks(messages, longest)
    assert len(made) <= longest
    assert bundle.is_marks(made)
    assert all(bundle.has_mark(made, message.key) for message in messages)
    assert sum(bundle.has_mark(made, f"other:{n}") for n in range(5_000)) <= strangers


@pytest.mark.parametrize("repeated", ["", "~", "~A", "~AAAA", "~P", "~P*", "~w", "31:care:x"])
def test_what_is_cut_short_or_no_mark_finds_nothing(repeated) -> None:
    assert not bundle.has_mark(repeated, "31:care:x")


@pytest.mark.parametrize("content", ["【示例】别的", None])
async def test_a_message_that_may_be_another_is_not_said_to_be_ours_or_not(make, message, content) -> None:
    one = message(form=FORM)
    detail = {"OutId": bundle.marks([one], 255), "TemplateCode": "SMS_1", "Content": content, "SendStatus": 1}
    document = {"Code": "OK", "TotalCount": "1", "SmsSendDetailDTOs": {"SmsSendDetailDTO": [detail]}}
    gateway = make(AliyunGateway, SETTINGS[AliyunGateway])
    answer = httpx.Response(200, json=document, headers={"Date": "Thu, 07 May 2026 09:30:00 GMT"})
    gateway.http = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: answer))
    with pytest.raises(DoubtError, match="could be it, or another"):
        await gateway.look_up(one)


@pytest.mark.parametrize("at", ["2026-05-07T09:36:00+00:00", "2026-06-10T09:30:00+00:00"])
async def test_by_another_clock_or_too_late_nothing_is_certain(make, message, at) -> None:
    document = {"Code": "OK", "TotalCount": "0", "SmsSendDetailDTOs": {"SmsSendDetailDTO": []}}
    gateway = make(AliyunGateway, SETTINGS[AliyunGateway])
    answer = httpx.Response(200, json=document, headers={"Date": "Thu, 07 May 2026 09:30:00 GMT"})
    gateway.http = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: answer))
    with pytest.raises(DoubtError):
        await gateway.look_up(message(form=FORM, leaves_at=datetime.fromisoformat(at)))


def test_values_that_tencent_may_find_too_long_are_warned_of_unless_the_account_takes_them() -> None:
    cut = "customer.name[:6]", "order.note | truncate(6, true, '', 0)"
    whole = "order.number", "order.note | truncate(6)", "order.total | money"
    form = FormSpec("1000001", "示例", dict(zip("abcde", (*cut, *whole), strict=True)))
    wording = Wording("news", "zh-CN", "sms", "news.zh-CN.sms.txt", "transactional", "{% if 1 %}您好{% endif %}", form)

    def cautions(**settings: Any) -> list[str]:
        gateway = make_adapter(TencentGateway, {**SETTINGS[TencentGateway], **settings})
        return [what for what in gateway.check_template(wording) if isinstance(what, Caution)]

    (told,) = cautions()
    assert told.startswith("c, d, e may have more than 6 characters")
    assert cautions(long_values=True) == []
