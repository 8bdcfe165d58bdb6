"""Text messages by order token: what keeps one from leaving, and the way from a trade to its receiver's telephone."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crmkit import AuthError, FormSpec, Reason, Wording
from crmkit.core.message import MessageRow
from crmkit.engine.local import Local
from crmkit.host.host import Host
from crmkit.store import tables as t
from crmkit_marketplace.taobao.reason import MONTH_LIMIT, OURS, REASONS, lasts, name_of, reason_of
from plugins.marketplace.tests.taobao.desk import gateway
from plugins.marketplace.tests.taobao.fake import DAY, HOUR, MINUTE, Error, FakePlatform, written

APPROVED = {"template_status": 1, "template_type": 1, "template_content": "您的订单${number}已由${carrier}发出"}


def wording(
    purpose: str = "transactional", sign: str | None = "茶铺", code: str | None = "SMS_1", **params: str
) -> Wording:
    given = params or {"number": "order.number", "carrier": "parcel.carrier"}
    form = FormSpec(code, sign, given)
    return Wording("order-shipped", "zh-CN", "sms", "order-shipped.zh-CN.sms.txt", purpose, "您的订单已发出", form)


@pytest.mark.parametrize(
    ("one", "settings", "says"),
    [
        (wording(), {}, []),
        (wording(sign=None), {}, []),
        (wording(sign=None), {"sign_name": None}, ["no sign_name, neither in the template nor in the gateway's entry"]),
        (wording(code=None), {}, ["no template_id of a text that Taobao approved"]),
        (wording(code="1001"), {}, ["template_id is '1001'; those of Taobao look like SMS_123456789"]),
        (wording(sign="【茶铺】"), {}, ["sign_name should be 2 to 16 characters without spaces, without 【 and 】"]),
        (wording("marketing"), {}, ["order tokens are for news of the order, not for marketing"]),
    ],
)
def test_a_template_that_cannot_be_sent_is_told_without_the_network(
    one: Wording, settings: dict[str, Any], says: list[str]
) -> None:
    assert list(gateway(FakePlatform(), **settings).check_template(one)) == says


async def test_the_doctor_tells_what_is_not_approved_and_what_nothing_fills() -> None:
    platform = FakePlatform()
    texts = gateway(platform)
    texts.wordings = [
        wording(),
        wording(code="SMS_2"),
        wording(code="SMS_3"),
        wording(number="order.number", day="now"),
    ]
    platform.signs = {"茶铺": {"sign_name": "茶铺", "sign_status": 2, "reason": "未提供授权书"}}
    platform.texts = {"SMS_1": APPROVED, "SMS_2": APPROVED | {"template_status": 0, "template_type": 2}}
    file = "of order-shipped.zh-CN.sms.txt"
    assert list(await texts.check()) == [
        "texts check: the signature '茶铺' was refused: 未提供授权书",
        f"texts check: the text SMS_2 {file} waits to be approved",
        f"texts check: the text SMS_2 {file} is approved for advertising, not for news of an order",
        f"texts check: the text SMS_3 {file} is not known to Taobao; have it approved in the console of Ju Shi Ta",
        f"texts check: the text SMS_1 {file} has places nothing fills: carrier",
        f"texts check: the text SMS_1 {file} has no places for day",
    ]
    platform.signs["茶铺"]["sign_status"] = 1
    texts.wordings = [wording()]
    assert list(await texts.check()) == []


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"sign_name": "【茶铺】"}, "without 【 and 】"),
        ({"url": "http://gw.api.taobao.com/router/rest"}, "would send the seller's token in the clear; use https"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        gateway(FakePlatform(), **said)


def test_every_reason_is_found_however_its_code_is_written() -> None:
    for name, reason in REASONS.items():
        assert reason_of(f"isv.{name}") is reason_of(f"isv.{name.lower().replace('_', '-')}") is reason
    assert not set(REASONS) & set(OURS)


def test_the_services_codes_mean_what_they_mean_to_the_same_vendors_own_gateway() -> None:
    ours = {"isv.BLACK_LIST", "isv.oaid-not-match", "isv.oaid-invalid"}
    assert {reason_of(code) for code in ours} == {Reason.BLOCKED, Reason.OTHER, Reason.BAD_ADDRESS}
    assert reason_of("isv.SMS_TEMPLATE_ILLEGAL") is Reason.VENDOR_POLICY
    assert reason_of("isv.MOBILE_IN_BLACK") is reason_of("isv.CUSTOMER_REFUSED") is Reason.OPTED_OUT


async def test_who_may_not_ask_is_not_told_that_nothing_is_known() -> None:
    platform = FakePlatform()
    texts = gateway(platform)
    texts.wordings = [wording(), wording(code="SMS_2")]
    platform.signs = {"茶铺": {"sign_status": 1}}
    platform.forbidden = {"taobao.jst.sms.template.query"}
    [said] = await texts.check()
    assert "texts check templates: the application may not use this (code 11" in said and "known" not in said
    platform.forbidden = {"taobao.jst.sms.signname.query", "taobao.jst.sms.template.query"}
    assert len(list(await texts.check())) == 2


async def test_a_gateway_nobody_connected_pauses_and_sends_nothing() -> None:
    platform = FakePlatform()
    with pytest.raises(AuthError, match="texts ask: no seller authorized this application; run crmkit connect texts"):
        await gateway(platform, session=None).top.ask("ask", "taobao.user.seller.get")
    assert platform.asked == []


# the way through

CONFIG = """\
[crm]
database = "sqlite:///crm.db"
timezone = "Asia/Shanghai"
locale = "zh-CN"

[plugins]
use = ["care"]

[shops.tea]
use = "taobao"
app_key = "23000001"
app_secret = "env:TOP_SECRET"
session = "env:TOP_SESSION"
url = "{url}"
messages = "default"
announce_from = 2026-11-01

[[channels.sms]]
use = "taobao"
shops = ["tea"]
app_key = "23000001"
app_secret = "env:TOP_SECRET"
session = "env:TOP_SESSION"
sign_name = "茶铺"
url = "{url}"

[[care.rules]]
on = "order-shipped"
send = "order-shipped"
via = ["sms"]
"""
TEMPLATE = """\
---
purpose = "transactional"

[gateways.taobao]
template_id = "SMS_1"
params = { number = "order.number", carrier = "order.parcels[0].carrier" }
---
您的订单{{ order.number }}已由{{ order.parcels[0].carrier }}发出
"""


class Place:
    """An installation in a folder, and its engine."""

    def __init__(self, folder: Path, platform: FakePlatform, url: str) -> None:
        (folder / "templates").mkdir()
        (folder / "templates" / "order-shipped.zh-CN.sms.txt").write_text(TEMPLATE, "utf-8")
        (folder / "crmkit.toml").write_text(CONFIG.replace("{url}", url), "utf-8")
        self.folder, self.platform = folder, platform
        self.host = Host.open(folder / "crmkit.toml")
        self.store = self.host.store()
        self.engine = Local(self.host, self.store)

    async def go(self, later: timedelta = 5 * MINUTE) -> list[Any]:
        """A sync and a dispatch some time later; what went wrong."""
        self.platform.now += later
        runs = await self.engine.sync(now=self.platform.now)
        await self.engine.dispatch(now=self.platform.now)
        return [error for run in runs for error in run.errors]

    @property
    def messages(self) -> list[tuple[str, str | None, str | None]]:
        table = t.table_of(MessageRow)
        with self.store.read() as tx:
            rows = tx.execute(table.select().order_by(table.c.id)).all()
        return [(row.state, row.reason, row.address) for row in rows]


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setenv("TOP_SECRET", "s3cr3tTOP")
    monkeypatch.setenv("TOP_SESSION", "6100ffee")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    platform = FakePlatform()
    platform.texts = {"SMS_1": APPROVED}
    platform.signs = {"茶铺": {"sign_status": 1}}
    async with platform.serving() as url:
        made = Place(tmp_path, platform, url)
        yield made
        made.store.close()


def bought(platform: FakePlatform, number: int, **changed: Any) -> None:
    platform.put(
        number, buyer_open_uid="AAHann", status="WAIT_SELLER_SEND_GOODS", pay_time=written(platform.now), **changed
    )


async def test_a_buyer_is_told_once_through_the_token_of_the_order_that_shipped(place: Place) -> None:
    platform = place.platform
    bought(platform, 7)
    assert await place.go() == []
    assert platform.sent == []

    platform.ship(7)
    assert await place.go() == []
    assert [(one["order_id"], one["oaid"]) for one in platform.sent] == [("7", "OAID-7")]
    [said] = platform.sent
    assert (said["sms_free_sign_name"], said["template_code"]) == ("茶铺", "SMS_1")
    assert said["params"] == {"number": "7", "carrier": "顺丰速运"}
    assert "order-shipped" in said["extend"]
    for _ in range(3):
        assert await place.go() == []
    assert len(platform.sent) == 1

    # the same buyer, days later: another order, and its own token
    platform.now += 3 * DAY
    bought(platform, 8)
    assert await place.go() == []
    platform.ship(8, "SF200")
    platform.tell("taobao_trade_TradeSellerShip", tid=8)
    assert await place.go(HOUR) == []
    assert [(one["order_id"], one["oaid"]) for one in platform.sent] == [("7", "OAID-7"), ("8", "OAID-8")]
    assert [state for state, _, _ in place.messages] == ["sent", "sent"]
    assert await place.go() == [] and platform.confirmed == [1]
    with place.store.read() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM profile").scalar() == 1

    assert await reached(place) == {
        "customers": 1,
        "transactional": {"sms (order_token)": 1},
        "marketing": {"no-consent": 1},
    }


async def reached(place: Place) -> Any:
    """What `crmkit customers reach` prints."""
    words = ["--config", "crmkit.toml", "--now", place.platform.now.isoformat(), "customers", "reach", "--json"]
    command = [sys.executable, "-c", "from crmkit.cli import main; main()", *words]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=place.folder, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def test_an_order_without_a_token_says_so(place: Place) -> None:
    bought(place.platform, 8, oaid="")
    assert await place.go() == []
    place.platform.ship(8)
    assert await place.go() == []
    assert [(state, reason) for state, reason, _ in place.messages] == [("suppressed", "no-address")]


async def test_a_receiver_who_moved_is_texted_by_the_fresh_token(place: Place) -> None:
    platform = place.platform
    bought(platform, 7)
    assert await place.go() == []
    platform.trades[7]["oaid"] = "OAID-other"  # the receiver moved after it was read
    platform.ship(7)
    assert await place.go() == []
    assert platform.sent[-1]["oaid"] == "OAID-other"


async def shipped(place: Place, trouble: Error | None, number: int = 7) -> None:
    """An order of which a text is due, to which the platform says that; None lets it pass."""
    platform = place.platform
    bought(platform, number)
    assert await place.go() == []
    platform.ship(number)
    platform.now += 5 * MINUTE
    await place.engine.sync(now=platform.now)
    platform.troubles = [trouble]
    await place.engine.dispatch(now=platform.now)


@pytest.mark.parametrize(
    ("code", "comes_to", "is_suppressed"),
    [
        ("isv.oaid-invalid", ("bounced", "bad-address"), True),
        ("isv.oaid-not-match", ("failed", "other"), False),
        ("isv.SMS_TEMPLATE_ILLEGAL", ("failed", "vendor-policy"), False),
        ("isv.MOBILE_IN_BLACK", ("failed", "opted-out"), False),
    ],
)
async def test_a_token_that_ended_is_given_up_and_one_of_another_order_is_not(
    place: Place, code: str, comes_to: tuple[str, str], is_suppressed: bool
) -> None:
    await shipped(place, Error(15, code))
    assert [(state, reason) for state, reason, _ in place.messages] == [comes_to]
    with place.store.read() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM suppression").scalar() == int(is_suppressed)


async def test_when_the_money_is_used_up_texts_wait_until_somebody_resumes(place: Place) -> None:
    await shipped(place, Error(15, "isv.AMOUNT_NOT_ENOUGH"))
    bought(place.platform, 8)
    place.platform.ship(8)
    for _ in range(12):
        await place.go(HOUR)
    assert [state for state, _, _ in place.messages] == ["queued", "queued"]
    assert place.platform.methods["jst.sms.oaid.message.send"] == 1
    code, text = await crmkit(place.folder, "resume", "gateway", "taobao")
    assert code == 0, text
    await place.engine.dispatch(now=place.platform.now)
    assert [state for state, _, _ in place.messages] == ["sent", "sent"]


@pytest.mark.parametrize(
    ("code", "waits", "then"), [("isv.DAY_LIMIT_CONTROL", 11, "sent"), ("isv.MONTH_LIMIT_CONTROL", 23, "queued")]
)
async def test_a_limit_of_the_account_costs_no_text(place: Place, code: str, waits: int, then: str) -> None:
    """It is noon in China. What has to wait for the next month is asked about each day."""
    await shipped(place, Error(15, code))
    for _ in range(waits):
        place.platform.now += HOUR
        await place.engine.dispatch(now=place.platform.now)
    assert place.platform.methods["jst.sms.oaid.message.send"] == 1
    assert [(state, reason) for state, reason, _ in place.messages] == [("queued", "retry")]
    place.platform.troubles = [] if then == "sent" else [Error(15, code)]
    place.platform.now += 2 * HOUR
    await place.engine.dispatch(now=place.platform.now)
    assert place.platform.methods["jst.sms.oaid.message.send"] == 2
    assert [state for state, _, _ in place.messages] == [then]


@pytest.mark.parametrize(
    ("code", "wait"),
    [
        ("isv.DAY_LIMIT_CONTROL", timedelta(hours=8, minutes=30)),
        ("isv.MONTH_LIMIT_CONTROL", timedelta(days=29, hours=8, minutes=30)),
    ],
)
def test_a_limit_lasts_to_the_end_of_its_day_or_month_in_china(code: str, wait: timedelta) -> None:
    now = datetime(2026, 11, 1, 7, 30, tzinfo=UTC)
    assert lasts(name_of(code), now) == wait
    assert now + lasts(MONTH_LIMIT, now) == datetime(2026, 11, 30, 16, tzinfo=UTC)


async def test_a_message_lost_on_its_way_stays_in_doubt_and_is_not_sent_twice(place: Place) -> None:
    await shipped(place, Error(15, "isp.remote-service-timeout"))
    for _ in range(3):
        await place.go(HOUR)
    assert [state for state, _, _ in place.messages] == ["in-doubt"]
    assert place.platform.methods["jst.sms.oaid.message.send"] == 1


async def test_when_the_authorization_ends_messages_wait_for_it(place: Place) -> None:
    platform = place.platform
    bought(platform, 7)
    assert await place.go() == []
    platform.ship(7)
    platform.now += 5 * MINUTE
    await place.engine.sync(now=platform.now)
    platform.session = "another"
    await place.engine.dispatch(now=platform.now)
    assert [state for state, _, _ in place.messages] == ["queued"]
    assert platform.sent == []


# as an operator does it


async def crmkit(folder: Path, *words: str, said: str = "") -> tuple[int, str]:
    """Exit code and what was printed."""
    command = [sys.executable, "-c", "from crmkit.cli import main; main()", *words]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await process.communicate(said.encode())
    return process.returncode or 0, f"{out.decode()}{err.decode()}"


async def test_an_operator_connects_shop_and_texts_and_the_doctor_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TOP_SECRET": "s3cr3tTOP", "CRMKIT_KEY": "k" * 43, "NO_COLOR": "1", "COLUMNS": "500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "order-shipped.zh-CN.sms.txt").write_text(TEMPLATE, "utf-8")
    platform = FakePlatform()
    platform.texts = {"SMS_1": APPROVED | {"template_status": 0}}
    platform.signs = {"茶铺": {"sign_status": 1}}
    platform.codes = {"code-one", "code-two"}
    async with platform.serving() as url:
        told = CONFIG.replace("{url}", url).replace('session = "env:TOP_SESSION"\n', "")
        (tmp_path / "crmkit.toml").write_text(told, "utf-8")
        code, text = await crmkit(tmp_path, "config", "check")
        assert code == 0, text
        for account, answer in (("tea", "code-one"), ("taobao", "code-two")):
            code, text = await crmkit(tmp_path, "connect", account, said=f"{answer}\n")
            assert code == 0, text
            assert "https://oauth.taobao.com/authorize?" in text and f"{account} is connected" in text
        platform.session = "6100aaaa"
        code, text = await crmkit(tmp_path, "doctor")
        assert "the text SMS_1 of" in text and "waits to be approved" in text
        code, text = await crmkit(tmp_path, "sync")
        assert code == 0, text
    assert "6100aaaa" not in (tmp_path / "crm.db").read_bytes().decode("latin-1")
