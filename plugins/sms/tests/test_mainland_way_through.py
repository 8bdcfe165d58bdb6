"""From an export to a text message in mainland China and back, by two vendors on this machine: AliyunGateway and
TencentGateway, the second of which takes over where the first cannot, and never where it may have sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from crmkit.cli import cli
from crmkit.engine.local import Local
from crmkit.host.host import Host
from plugins.sms.tests.mainland_fake import FakeAliyun, FakeTencent
from plugins.sms.tests.place import NOW, Place

CHANNELS = """\
[[channels.sms]]
use = "aliyun"
access_key_id = "LTAI5tCRMKITDEMO"
access_key_secret = "crmkit-demo-secret"
webhook_secret = "0123456789abcdef0123"
base_url = "{aliyun}"
price = "0.045 CNY"
budget = "100 CNY/day"

[[channels.sms]]
use = "tencent"
secret_id = "AKIDcrmkitdemo"
secret_key = "crmkit-demo-secret"
app_id = "1400000001"
webhook_secret = "0123456789abcdef0123"
base_url = "{tencent}"
"""
TEMPLATE = """\
---
purpose = "transactional"

[gateways.aliyun]
template_id = "SMS_100000001"
sign_name = "示例商城"
params = { name = "customer.name", no = "order.number" }

[gateways.tencent]
template_id = "1000001"
sign_name = "示例"
params = ["customer.name", "order.number"]
---
{{ customer.name }}，您的订单{{ order.number }}已发货。
"""
HEAD = "external_id,number,status,placed_at,paid_at,shipped_at,customer_id,name,phone,total,updated_at"
ROW = "{0},{0},shipped,2026-05-07T10:00Z,2026-05-07T10:05Z,2026-05-08T11:59Z,{1},{2},{3},10.00,2026-05-08T11:59Z"
LI, HAN = ("T1", "c1", "李雷", "+8613800138000"), ("T2", "c2", "韩梅梅", "+8613900139000")
MINUTE = timedelta(minutes=1)


class Mainland(Place):
    """Texts through two vendors on this machine."""

    def __init__(self, folder: Path, aliyun: FakeAliyun, tencent: FakeTencent) -> None:
        channels = CHANNELS.format(aliyun=aliyun.url, tencent=tencent.url)
        super().__init__(folder, channels, locale="zh-CN", timezone="Asia/Shanghai", currency="CNY")
        self.aliyun, self.tencent = aliyun, tencent
        self.template(TEMPLATE)

    def begin(self, *orders: tuple[str, str, str, str]) -> None:
        self.open("\n".join([HEAD, *(ROW.format(*order) for order in orders or [LI])]))

    @property
    def messages(self) -> list[tuple[Any, ...]]:
        return self.columns("state", "gateway")

    async def send(self, now: datetime = NOW) -> None:
        self.aliyun.now = self.tencent.now = now
        await self.engine.sync(now=now)
        await self.engine.dispatch(now=now)

    async def called(self, account: str, document: Any, secret: str = "0123456789abcdef0123") -> tuple[int, bytes]:
        """A vendor calls; what it said is taken in."""
        headers = {"Content-Type": "application/json"}
        reply = await self.engine.accept(account, headers, json.dumps(document).encode(), path_secret=secret, now=NOW)
        await self.take_in()
        return reply.status, reply.body

    async def doctor(self, *more: str) -> tuple[int, list[dict[str, Any]]]:
        """What `crmkit doctor` says, and its exit code, beside vendors that answer meanwhile."""
        said = ["--config", str(self.folder / "crmkit.toml"), "doctor", "--json", *more]
        done = await asyncio.to_thread(CliRunner().invoke, cli, said)
        return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()]

    def check(self) -> str:
        return CliRunner().invoke(cli, ["--config", str(self.folder / "crmkit.toml"), "config", "check"]).output


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mainland]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    aliyun, tencent = FakeAliyun(now=NOW), FakeTencent(now=NOW)
    aliyun.templates["SMS_100000001"] = ("1", "1", "${name}，您的订单${no}已发货。")
    tencent.templates["1000001"] = (0, "1", "{1}，您的订单{2}已发货。")
    aliyun.signs["示例商城"], tencent.signs["示例"] = 3, 0
    async with aliyun.listening(), tencent.listening():
        made = Mainland(tmp_path, aliyun, tencent)
        yield made
        assert (aliyun.unsigned, tencent.unsigned) == (0, 0)
        made.close()


def texts(vendor: FakeAliyun | FakeTencent) -> list[str]:
    return [one.text for one in vendor.sent]


async def test_a_message_is_sent_told_delivered_and_its_reader_wants_no_more_marketing(place) -> None:
    place.begin()
    await place.send()
    assert texts(place.aliyun) == ["【示例商城】李雷，您的订单T1已发货。"]
    report = place.aliyun.report(place.aliyun.sent[0])
    assert await place.called("aliyun", [report], secret="another-secret-0123") == (401, b"unverified")
    assert place.messages == [("sent", "aliyun")]
    assert await place.called("aliyun", [report]) == (200, b'{"code":0,"msg":"ok"}')
    assert place.messages == [("delivered", "aliyun")]
    up = {"phone_number": "13800138000", "send_time": "2026-05-08 20:10:00", "content": "R", "sequence_id": 1}
    assert (await place.called("aliyun", [up]))[0] == 200
    with place.store.read() as tx:
        rows = tx.exec_driver_sql("SELECT state, channel, purpose, wording FROM consent").all()
    assert set(rows) == {("withdrawn", "sms", "marketing", "R")}
    assert texts(place.tencent) == []


async def test_several_leave_in_one_call_and_receipts_find_each(place) -> None:
    place.begin(LI, HAN)
    await place.send()
    assert place.aliyun.actions == ["SendBatchSms"]
    assert sorted(texts(place.aliyun)) == [
        "【示例商城】李雷，您的订单T1已发货。",
        "【示例商城】韩梅梅，您的订单T2已发货。",
    ]
    first, second = sorted(place.aliyun.sent, key=lambda one: one.number)
    await place.called(
        "aliyun",
        [place.aliyun.report(first), place.aliyun.report(second, success=False, err_code="MOBILE_NOT_ON_SERVICE")],
    )
    assert sorted(state for state, _ in place.messages) == ["delivered", "failed"]


async def test_one_bad_number_harms_only_itself(place) -> None:
    place.begin(LI, HAN)
    place.aliyun.bad_numbers.add("13900139000")
    await place.send()
    assert place.aliyun.actions == ["SendBatchSms", "SendSms", "SendSms"]
    assert texts(place.aliyun) == ["【示例商城】李雷，您的订单T1已发货。"]
    assert sorted(state for state, _ in place.messages) == ["bounced", "sent"]


NO_MONEY = (200, {"Code": "isv.OUT_OF_SERVICE", "Message": "业务停机", "RequestId": "R"})
UNKNOWN = (200, {"Code": "isv.SMS_TEMPLATE_ILLEGAL", "Message": "模板不合法", "RequestId": "R"})


@pytest.mark.parametrize(("refusal", "pauses"), [(NO_MONEY, True), (UNKNOWN, False)])
async def test_what_one_vendor_refuses_the_other_sends_in_its_own_form_once(place, refusal, pauses) -> None:
    place.begin()
    place.aliyun.refuses = [refusal]
    await place.send()
    await place.send(NOW + 2 * MINUTE)
    assert texts(place.aliyun) == []
    assert texts(place.tencent) == ["【示例】李雷，您的订单T1已发货。"]
    assert place.messages == [("sent", "tencent")]
    with place.store.read() as tx:
        paused = tx.exec_driver_sql("SELECT name, reason FROM pause").all()
    assert [name for name, _ in paused] == (["aliyun"] if pauses else [])
    assert all("top up the account" in reason for _, reason in paused)
    report = {
        "mobile": "13800138000",
        "nationcode": "86",
        "report_status": "SUCCESS",
        "sid": place.tencent.sent[0].call,
    }
    assert await place.called("tencent", [report]) == (200, b'{"result":0,"errmsg":"OK"}')
    assert place.messages == [("delivered", "tencent")]


async def test_who_is_refused_for_a_list_gets_it_by_no_other_and_his_consent_stands(place) -> None:
    place.begin()
    place.aliyun.refuses = [(200, {"Code": "isv.CUSTOMER_REFUSED", "Message": "用户已退订", "RequestId": "R"})]
    await place.send()
    await place.send(NOW + 60 * MINUTE)
    assert (place.messages, texts(place.aliyun), texts(place.tencent)) == ([("failed", "aliyun")], [], [])
    with place.store.read() as tx:
        assert tx.exec_driver_sql("SELECT reason FROM message").scalars().all() == ["opted-out"]
        assert tx.exec_driver_sql("SELECT count(*) FROM consent").scalar_one() == 0


async def test_a_phone_that_takes_nothing_from_abroad_is_written_to_again(place) -> None:
    place.begin()
    await place.send()
    report = place.aliyun.report(place.aliyun.sent[0], success=False, err_code="SP_NOT_BY_INTER_SMS")
    await place.called("aliyun", [report])
    assert place.messages == [("failed", "aliyun")]
    with place.store.read() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM suppression").scalar_one() == 0


async def test_what_one_vendor_cannot_take_now_the_other_sends_once(place) -> None:
    place.begin(LI, HAN)
    config = (place.folder / "crmkit.toml").read_text("utf-8").replace(place.aliyun.url, "http://127.0.0.1:9")
    (place.folder / "crmkit.toml").write_text(config, "utf-8")
    place.begin(LI, HAN)
    for minutes in (0, 5, 15, 30, 60):
        await place.send(NOW + minutes * MINUTE)
    assert sorted(texts(place.tencent)) == ["【示例】李雷，您的订单T1已发货。", "【示例】韩梅梅，您的订单T2已发货。"]
    assert place.messages == [("sent", "tencent")] * 2


async def test_when_the_limit_of_the_day_is_reached_the_other_sends(place) -> None:
    place.begin(LI, HAN)
    place.aliyun.refuses = [(200, {"Code": "isv.DAY_LIMIT_CONTROL", "Message": "no", "RequestId": "R"})]
    await place.send()
    assert sorted(texts(place.tencent)) == ["【示例】李雷，您的订单T1已发货。", "【示例】韩梅梅，您的订单T2已发货。"]
    assert (place.aliyun.actions, place.messages) == (["SendBatchSms"], [("sent", "tencent")] * 2)


# SEMANTICS 23, 24
@pytest.mark.parametrize("orders", [[LI], [LI, HAN]], ids=["alone", "together"])
async def test_what_was_lost_after_it_was_taken_is_found_and_sent_by_nobody_else(place, orders) -> None:
    place.begin(*orders)
    place.aliyun.loses = True
    await place.send()
    assert place.messages == [("in-doubt", "aliyun")] * len(orders)
    place.aliyun.loses = False
    await place.send(NOW + 11 * MINUTE)
    assert place.messages == [("sent", "aliyun")] * len(orders)
    assert len(place.aliyun.sent) == len(orders)
    assert texts(place.tencent) == []


# SEMANTICS 24
async def test_what_was_lost_before_it_was_taken_is_sent_again_by_the_same_vendor(place) -> None:
    place.begin()
    place.aliyun.drops = True
    await place.send()
    assert place.messages == [("in-doubt", "aliyun")]
    place.aliyun.drops = False
    await place.send(NOW + 5 * MINUTE)
    assert (place.messages, place.aliyun.actions) == ([("in-doubt", "aliyun")], ["SendSms"])  # it is too soon to ask
    await place.send(NOW + 11 * MINUTE)
    assert place.messages == [("sent", "aliyun")]
    assert len(place.aliyun.sent) == 1
    assert texts(place.tencent) == []


# SEMANTICS 24
async def test_tencent_finds_what_its_log_repeats(place) -> None:
    place.begin()
    place.aliyun.refuses, place.tencent.loses = [UNKNOWN], True
    await place.send()
    assert place.messages == [("in-doubt", "tencent")]
    place.tencent.loses = False
    await place.send(NOW + 11 * MINUTE)
    assert place.messages == [("sent", "tencent")]
    assert (len(place.tencent.sent), texts(place.aliyun)) == (1, [])


async def test_a_plan_shows_segments_with_the_sign_and_sends_nothing(place) -> None:
    place.template(TEMPLATE.rstrip() + "好" * 60)
    place.begin(LI, ("T2", "c2", "Ann", "+8613900139000"))
    await place.engine.sync(now=NOW)
    rows = place.engine.plan(now=NOW).rows
    assert {(row["segments"], row["encoding"]) for row in rows} == {(2, "ucs2")}
    place.template(TEMPLATE)
    assert {
        row["segments"] for row in Local(Host.open(place.folder / "crmkit.toml"), place.store).plan(now=NOW).rows
    } == {1}
    assert (place.aliyun.requests, place.tencent.requests) == ([], [])


async def test_a_budget_counts_segments_times_the_price(place) -> None:
    place.template(TEMPLATE.rstrip() + "好" * 60)
    place.begin()
    place.aliyun.templates["SMS_100000001"] = ("1", "1", "${name}，您的订单${no}已发货。")
    await place.send()
    with place.store.read() as tx:
        assert tx.exec_driver_sql("SELECT spent FROM quota WHERE name = 'aliyun'").scalar_one() == "0.090"


HALF = TEMPLATE.replace("[gateways.tencent]", "[gateways.other]")
WRONG = """\
---
purpose = "marketing"
[gateways.aliyun]
template_id = "1"
sign_name = "【示例】"
params = ["links.order", "customer.name | upper", "order.total | money"]
international = { template_id = "x" }
internationl = 1
[gateways.tencent]
template_id = "1000001"
sign_name = "a sign that is too long"
params = ["customer.name", "order.number"]
---
{{ customer.name }}，满减，回T退订
"""


async def test_config_check_tells_what_no_vendor_would_send(place) -> None:
    place.template(HALF)
    place.template(WRONG, "sale")
    said = place.check()
    for part in (
        "order-shipped.zh-CN.sms.txt: says nothing of the gateway tencent",
        "aliyun: template_id should be the id of the approved text, like SMS_100000001",
        "aliyun: sign_name should be 2 to 16 characters",
        "aliyun: international.template_id should be",
        "aliyun: internationl is nothing this gateway reads; perhaps international",
        "aliyun: the value order is an address of the web",
        "aliyun: the value '2' has no name the approved text could know",
        "aliyun: marketing has to end with 拒收请回复R",
        "aliyun: params gives 3 (order.total), which its text does not show",
        "tencent: sign_name should be 2 to 12 Chinese characters",
        "tencent: marketing has to end with 拒收请回复R",
        "tencent: params gives number (order.number), which its text does not show",
    ):
        assert part in said, f"{part}\n{said}"


async def test_config_check_has_nothing_against_a_template_both_can_send(place) -> None:
    assert "0 errors" in place.check()


async def problems(place: Mainland, name: str) -> list[str]:
    place.begin()
    entry = next(one for one in place.host.channels["sms"] if one.name == name)
    gateway = place.host.gateway(entry)
    await gateway.open()
    try:
        return list(await gateway.check())
    finally:
        await gateway.http.aclose()


async def test_the_doctor_finds_nothing_where_all_is_approved(place) -> None:
    assert await problems(place, "aliyun") == []
    assert await problems(place, "tencent") == []


async def test_the_doctor_says_how_templates_and_signs_stand_at_aliyun(place) -> None:
    place.aliyun.templates = {
        "SMS_100000001": ("2", "2", "${name}，您的订单${number}已发货。"),
        "SMS_3": ("0", "2", "新品上架，拒收请回复R"),
        "SMS_4": ("1", "1", "您好${name}"),
    }
    sale = 'sign_name = "示例商城"\n---\n新品上架，拒收请回复R'
    place.template(f'---\npurpose = "marketing"\n[gateways.aliyun]\ntemplate_id = "SMS_3"\n{sale}', "sale")
    other = (
        'template_id = "SMS_4"\nsign_name = "别的"\nparams = { name = "customer.name" }\n---\n{{ customer.name }}您好'
    )
    place.template(f'---\npurpose = "transactional"\n[gateways.aliyun]\n{other}', "other")
    gone = 'template_id = "SMS_5"\nsign_name = "示例商城"\n---\n您好'
    place.template(f'---\npurpose = "transactional"\n[gateways.aliyun]\n{gone}', "gone")
    place.aliyun.signs["示例商城"] = -1
    said = "\n".join(await problems(place, "aliyun"))
    for part in (
        "template SMS_100000001 (order-shipped.zh-CN) was refused (变量不规范); word it otherwise",
        "was approved as marketing (推广短信); its purpose is transactional",
        "wants a value number; add it to params",
        "has no place for the value no; take it out",
        "template SMS_3 (sale.zh-CN) is in review; wait",
        "template SMS_4 (other.zh-CN) was approved with another text",
        "SMS_5 is not known there (isv.TEMPLATE_NOT_EXIST); check how it is written",
        "别的 is not known there",
        "sign 示例商城 is not filed (实名报备): China Unicom has not answered yet",
    ):
        assert part in said, f"{part}\n{said}"


async def test_the_doctor_says_how_templates_and_signs_stand_at_tencent(place) -> None:
    place.tencent.templates = {"1000001": (-1, "1", "{1}，您的订单已发货。"), "2": (0, "1", "{1}您好")}
    place.template(TEMPLATE.replace('sign_name = "示例"', 'sign_name = "示例"\nsign_id = 8'))
    other = (
        'template_id = "2"\nsign_name = "别的"\nsign_id = 7\nparams = ["customer.name"]\n---\n您好{{ customer.name }}'
    )
    place.template(f'---\npurpose = "transactional"\n[gateways.tencent]\n{other}', "other")
    said = "\n".join(await problems(place, "tencent"))
    for part in (
        "template 1000001 (order-shipped.zh-CN) was refused (变量不规范); change it in the console",
        "template 1000001 (order-shipped.zh-CN) has 1 places for values, and params has 2",
        "template 2 (other.zh-CN) was approved with another text",
        "sign 8 is not known there; check sign_id",
        "sign 7 is 示例 there, and sign_name says 别的; make the two agree",
    ):
        assert part in said, f"{part}\n{said}"


async def test_the_doctor_itself_names_a_template_that_is_not_approved_and_signs_what_it_asks(place) -> None:
    place.begin()
    code, found = await place.doctor()
    assert code == 0, found
    place.tencent.templates["1000001"] = (1, "1", "{1}，您的订单{2}已发货。")
    place.aliyun.templates["SMS_100000001"] = ("2", "2", "${name}，您的订单${no}已发货。")
    code, found = await place.doctor()
    bad = [f"{one['part']}: {one['text']}" for one in found if one["level"] == "bad"]
    assert code == 1
    for says in (
        "gateway tencent: tencent check: template 1000001 (order-shipped.zh-CN) is in review",
        "gateway aliyun: aliyun check: template SMS_100000001 (order-shipped.zh-CN) was refused (变量不规范)",
    ):
        assert any(one.startswith(says) for one in bad), bad
    code, found = await place.doctor("--offline")
    assert not any("in review" in one["text"] for one in found)


@pytest.mark.parametrize(
    ("packages", "low", "level", "says"),
    [
        ([200, 100], "500", "bad", "300 messages left on its account, less than 500 messages (balance_low)"),
        ([200, 300], "500", "ok", "500 messages left on its account"),
        ([200, 100], '"20 CNY"', "note", "and balance_low is 20 CNY; write a number of messages"),
        ([1], None, "ok", "1 message left on its account"),
        ([], "500", None, ""),  # paid for afterwards: there is no such thing
    ],
)
async def test_the_doctor_says_how_many_messages_are_left(place, packages, low, level, says) -> None:
    if low is not None:
        file = place.folder / "crmkit.toml"
        file.write_text(file.read_text("utf-8").replace('use = "tencent"', f'use = "tencent"\nbalance_low = {low}'))
    place.begin()
    place.tencent.packages = packages
    code, found = await place.doctor()
    told = [one for one in found if one["part"] == "gateway tencent" and "left" in one["text"]]
    assert [one["level"] for one in told] == ([level] if level else [])
    assert all(says in one["text"] and one["facts"]["balance"] == sum(packages) for one in told)
    assert code == (1 if level == "bad" else 0)


async def test_only_companies_are_told_how_their_templates_stand(place) -> None:
    template = place.tencent.no("FailedOperation.NotEnterpriseCertification")
    place.tencent.told = lambda request: (  # type: ignore[method-assign]
        template if "List" in request.headers["x-tc-action"] else (200, {"Response": {"SmsPackagesStatisticsSet": []}})
    )
    (said,) = await problems(place, "tencent")
    assert said == "tencent check: how templates and signs stand is told to companies only; look into the console"
