"""A small Taobao Open Platform: trades that change while they are listed, its signatures, its errors in HTTP 200.

It answers httpx requests (`httpx.MockTransport(platform.answer)`), and a socket (`async with platform.serving() as
url`). Signatures are checked by code of its own.
"""

import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

import httpx
from aiohttp import web

KEY, SECRET, SESSION, SELLER = "23000001", "s3cr3tTOP", "6100ffee", 2200000001
NOON = datetime(2026, 11, 1, 4, tzinfo=UTC)  # noon in China
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
#: What is listed of unless other types are asked for; `guarantee_trade` stands for two.
LISTED = {"guarantee_trade", "auto_delivery", "ec", "cod", "step"}
#: `oaid` is given only beside all of these.
FOR_TOKEN = {"receiver_name", "receiver_mobile", "receiver_phone", "receiver_address", "created"}


def written(moment: datetime) -> str:
    return (moment + timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S")


class Error(Exception):
    """An error the platform tells."""

    def __init__(self, code: int, sub_code: str = "", sub_msg: str = "") -> None:
        self.told = {"code": code, "msg": f"Error {code}", "sub_code": sub_code, "sub_msg": sub_msg}


class FakePlatform:
    """The platform, one application and one seller.

    Attributes:
        now: its clock.
        session: the seller's token that is good; `tokens` has those that were given before.
        trades, refunds, rates: by number.
        queue: messages of the message service; those taken out and not confirmed come again after `again`.
        signs, texts: {name or code: state} of what may be texted with.
        sent: what was texted, in order.
        forbidden: methods the application may not use.
        troubles: answers given instead, first one first: errors, whole answers, or None to let a request pass.
        between: called before each answer to a list, with the number of lists asked for so far.
    """

    def __init__(self) -> None:
        self.now = NOON
        self.session: str = SESSION
        self.skew = timedelta(0)
        self.trades: dict[int, dict[str, Any]] = {}
        self.refunds: dict[int, dict[str, Any]] = {}
        self.rates: dict[int, dict[str, Any]] = {}
        self.queue: dict[int, dict[str, Any]] = {}
        self.taken: dict[int, datetime] = {}
        self.confirmed: list[int] = []
        self.signs: dict[str, dict[str, Any]] = {}
        self.texts: dict[str, dict[str, Any]] = {}
        self.sent: list[dict[str, Any]] = []
        self.forbidden: set[str] = set()
        self.troubles: list[Error | httpx.Response | None] = []
        self.between: Callable[[int], None] = lambda number: None
        self.asked: list[dict[str, str]] = []
        self.renewable = True
        self.codes = {"good-code"}
        self._lists = 0

    # what is in it

    def put(self, number: int, **changed: Any) -> dict[str, Any]:
        """Add or change a trade; it was then changed now."""
        fresh = {"tid": number, "tid_str": str(number), "type": "fixed", "status": "WAIT_BUYER_PAY"}
        fresh |= {"created": written(self.now), "payment": "10.00", "total_fee": "10.00", "post_fee": "0.00"}
        fresh |= {"buyer_nick": "t**1", "buyer_open_uid": f"AAH{number}", "oaid": f"OAID-{number}"}
        fresh |= {"receiver_name": "张**", "receiver_mobile": "*******8000", "receiver_phone": ""}
        fresh |= {"receiver_address": "***", "receiver_state": "浙江省", "receiver_city": "杭州市"}
        fresh |= {"orders": {"order": [{"oid": number, "num": 1, "price": "10.00", "payment": "10.00", "title": "茶"}]}}
        trade = self.trades.setdefault(number, fresh)
        trade |= {"modified": written(self.now), **changed}
        return trade

    def ship(self, number: int, invoice: str = "SF100") -> None:
        """Send all of a trade."""
        trade = self.trades[number]
        at = written(self.now)
        for order in trade["orders"]["order"]:
            order |= {"invoice_no": invoice, "logistics_company": "顺丰速运", "consign_time": at}
        self.put(number, status="WAIT_BUYER_CONFIRM_GOODS", consign_time=at, pay_time=trade.get("pay_time", at))

    def refund(self, number: int, tid: int, **changed: Any) -> None:
        fresh = {"refund_id": str(number), "tid": tid, "oid": tid, "status": "WAIT_SELLER_AGREE", "refund_fee": "4.00"}
        fresh |= {"created": written(self.now), "has_good_return": False}
        known = self.refunds.setdefault(number, fresh)
        known |= {"modified": written(self.now), **changed}

    def rate(self, oid: int, tid: int, **changed: Any) -> None:
        fresh = {"oid": oid, "tid": tid, "nick": "t**1", "result": "good", "content": "好茶", "num_iid": 7}
        self.rates[oid] = fresh | {"created": written(self.now), **changed}

    def tell(self, topic: str, seller: int = SELLER, **content: Any) -> int:
        """Put a message in the queue."""
        number = len(self.queue) + len(self.confirmed) + 1
        self.queue[number] = {"id": number, "topic": topic, "user_id": seller, "content": json.dumps(content)}
        return number

    # answers

    @property
    def methods(self) -> Counter[str]:
        return Counter(one["method"].removeprefix("taobao.") for one in self.asked)

    def answer(self, request: httpx.Request) -> httpx.Response:
        form = dict(parse_qsl(request.content.decode(), keep_blank_values=True))
        self.asked.append(form)
        trouble = self.troubles.pop(0) if self.troubles else None
        if isinstance(trouble, httpx.Response):
            return trouble
        try:
            if trouble is not None:
                raise trouble
            self._let_in(request, form)
            said = self._said(form)
        except Error as error:
            return self._json({"error_response": error.told | {"request_id": "r1"}})
        root = form["method"].removeprefix("taobao.").replace(".", "_") + "_response"
        return self._json({root: said | {"request_id": "r1"}})

    def _json(self, said: Any) -> httpx.Response:
        head = {"date": format_datetime(self.now, usegmt=True)}
        return httpx.Response(200, json=said, headers=head)

    def _let_in(self, request: httpx.Request, form: Mapping[str, str]) -> None:
        """As the platform's document has it: every parameter but `sign` counts, and none is empty."""
        if request.url.query or request.method != "POST" or any(not value for value in form.values()):
            raise Error(41, "isv.invalid-parameter")
        if form.get("app_key") != KEY:
            raise Error(29)
        base = "".join(name + form[name] for name in sorted(form) if name != "sign").encode()
        made = {
            "md5": lambda: hashlib.md5(SECRET.encode() + base + SECRET.encode()).hexdigest(),
            "hmac": lambda: hmac.new(SECRET.encode(), base, "md5").hexdigest(),
            "hmac-sha256": lambda: hmac.new(SECRET.encode(), base, "sha256").hexdigest(),
        }[form["sign_method"]]()
        if form.get("sign") != made.upper():
            raise Error(25)
        stamp = datetime.strptime(form["timestamp"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) - timedelta(hours=8)
        if abs(stamp.timestamp() + self.skew.total_seconds() - time.time()) > 600:
            raise Error(31)
        if form["v"] != "2.0" or form["format"] != "json":
            raise Error(33)
        needs_no_seller = form["method"].startswith(("taobao.time", "taobao.top.auth"))
        if not needs_no_seller and "session" not in form:
            raise Error(26)
        if not needs_no_seller and form["session"] != self.session:
            raise Error(27, "invalid-sessionkey")
        if form["method"] in self.forbidden:
            raise Error(11, "isv.permission-api-package-limit")

    def _said(self, form: Mapping[str, str]) -> dict[str, Any]:
        match form["method"].removeprefix("taobao."):
            case "time.get":
                return {"time": written(self.now)}
            case "user.seller.get":
                return {"user": {"user_id": SELLER, "nick": "s**p"}}
            case "trades.sold.increment.get":
                return self._listed(form, self._asked_for(form), "modified", "trades", "trade", 1)
            case "trades.sold.get":
                if form["start_created"] < written(self.now - 90 * DAY):
                    raise Error(15, "isv.invalid-parameter:start_created")
                return self._listed(form, self._asked_for(form), "created", "trades", "trade", 90)
            case "trade.fullinfo.get":
                trade = self.trades.get(int(form["tid"]))
                if trade is None:
                    raise Error(15, "isv.trade-not-exist", "交易不存在")
                return {"trade": _only(trade, form["fields"])}
            case "refunds.receive.get":
                return self._listed(form, self.refunds.values(), "modified", "refunds", "refund", 90)
            case "refund.get":
                return {"refund": _only(self.refunds[int(form["refund_id"])], form["fields"])}
            case "traderates.get" if "tid" in form:
                found = [row for row in self.rates.values() if form["tid"] in (str(row["oid"]), str(row["tid"]))]
                return {"trade_rates": {"trade_rate": found}} if found else {}
            case "traderates.get":
                return self._listed(form, self.rates.values(), "date", "trade_rates", "trade_rate", 180)
            case "tmc.messages.consume":
                return self._consumed(int(form["quantity"]))
            case "tmc.messages.confirm":
                for number in map(int, form["s_message_ids"].split(",")):
                    self.queue.pop(number, None)
                    self.confirmed.append(number)
                return {"is_success": True}
            case "tmc.user.get":
                return {"tmc_user": {"user_id": SELLER, "is_valid": True, "group_name": "default"}}
            case "top.auth.token.create":
                if form.get("code") not in self.codes:
                    raise Error(15, "isv.code-invalid", "code is wrong")
                self.codes.remove(form["code"])
                return self._token("6100aaaa")
            case "top.auth.token.refresh":
                if form["refresh_token"] != "renewal" or not self.renewable:
                    raise Error(15, "isv.refresh-token-invalid")
                return self._token("6100bbbb")
            case "jst.sms.signname.query":
                found = self.signs.get(json.loads(form["query_sms_sign_request"])["sign_name"])
                return {"r_success": True, "module": found} if found else {"r_code": "sign_name_not_found"}
            case "jst.sms.template.query":
                found = self.texts.get(json.loads(form["query_sms_template_request"])["template_code"])
                return {"r_success": True, "module": found} if found else {"r_code": "template_not_found"}
            case "jst.sms.oaid.message.send":
                return self._text(json.loads(form["param_send_message_by_o_a_i_d_request"]))
        raise Error(22)

    def _token(self, session: str) -> dict[str, Any]:
        self.session = session
        lasts = 31_536_000 if self.renewable else 86_400
        token: dict[str, Any] = {"access_token": session, "refresh_token": "renewal", "expires_in": lasts}
        token |= {"re_expires_in": lasts if self.renewable else 0, "taobao_user_id": str(SELLER)}
        return {"token_result": json.dumps(token | {"expire_time": int(self.now.timestamp() + lasts) * 1000})}

    def _asked_for(self, form: Mapping[str, str]) -> list[dict[str, Any]]:
        """Trades of the types that are asked for; of the others nothing is told."""
        types = set(form["type"].split(",")) if "type" in form else LISTED
        types |= {"fixed", "auction"} if "guarantee_trade" in types else set()
        return [trade for trade in self.trades.values() if trade["type"] in types]

    def _listed(
        self, form: Mapping[str, str], rows: Iterable[dict[str, Any]], by: str, outer: str, inner: str, days: int
    ) -> dict[str, Any]:
        """The latest first, as they stand at this moment."""
        self._lists += 1
        self.between(self._lists)
        start, end = form[f"start_{by}"], form[f"end_{by}"]
        length = datetime.fromisoformat(end) - datetime.fromisoformat(start)
        if length > timedelta(days=days) or not 1 <= int(form.get("page_size", "40")) <= 100:
            raise Error(15, "isv.invalid-parameter")
        key = "created" if by == "date" else by
        within = [row for row in rows if start <= row[key] <= end]
        within.sort(key=lambda row: row[key], reverse=True)
        number, size = int(form.get("page_no", "1")), int(form.get("page_size", "40"))
        shown = [_only(row, form["fields"]) for row in within[(number - 1) * size : number * size]]
        said: dict[str, Any] = {outer: {inner: shown}} if shown else {}
        if form.get("use_has_next") == "true":
            return said | {"has_next": len(within) > number * size}
        return said | {"total_results": len(within)}

    def _consumed(self, quantity: int) -> dict[str, Any]:
        if not 10 <= quantity <= 200:
            raise Error(41)
        waiting = [n for n in self.queue if n not in self.taken or self.now - self.taken[n] >= 10 * MINUTE][:quantity]
        self.taken.update(dict.fromkeys(waiting, self.now))
        return {"messages": {"tmc_message": [self.queue[number] for number in waiting]}} if waiting else {}

    def _text(self, said: Mapping[str, Any]) -> dict[str, Any]:
        trade = self.trades.get(int(said["order_id"]))
        if trade is None or trade["oaid"] != said["oaid"]:
            raise Error(15, "isv.oaid-not-match", f"{said['oaid']} is not of {said['order_id']}")
        if self.texts.get(said["template_code"], {}).get("template_status") != 1:
            raise Error(15, "isv.SMS_TEMPLATE_ILLEGAL", "模板不合法")
        self.sent.append({**said, "params": json.loads(said["params"])})
        return {"module": f"{900 + len(self.sent)}^0", "req_id": "q1"}

    # on a socket

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a free port of 127.0.0.1; gives the platform's address."""

        async def handle(request: web.Request) -> web.StreamResponse:
            url, body = f"http://{request.host}{request.raw_path}", await request.read()
            said = self.answer(httpx.Request(request.method, url, headers=dict(request.headers), content=body))
            head = {name: value for name, value in said.headers.items() if name != "content-length"}
            return web.Response(status=said.status_code, body=said.content, headers=head)

        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/router/rest"
        finally:
            await runner.cleanup()


def _only(row: Mapping[str, Any], fields: str) -> dict[str, Any]:
    """The fields that are asked for; some come only beside others."""
    asked = set(fields.split(","))
    if not asked >= FOR_TOKEN:
        asked.discard("oaid")
    if "buyer_nick" not in asked:
        asked.discard("buyer_open_uid")
    found = {name: value for name, value in row.items() if name in asked}
    inner = {name.removeprefix("orders.") for name in asked if name.startswith("orders.")}
    if "orders" in row and (inner or "orders" in asked):
        orders = row["orders"]["order"]
        found["orders"] = {"order": [{k: v for k, v in one.items() if not inner or k in inner} for one in orders]}
    return found
