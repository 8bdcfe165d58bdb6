"""Alibaba Cloud and Tencent Cloud on this machine, as their documentation describes them: they keep what they took.

Each looks at the signature of every call with code of its own, written after the vendor's description of it.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

from plugins.sms.tests.conftest import CLOSE, Request, Vendor

KEY, SECRET = "LTAI5tCRMKITDEMO", "crmkit-demo-secret"
SECRET_ID, APP = "AKIDcrmkitdemo", "1400000001"
CST = timedelta(hours=8)


def hexed(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()


@dataclass
class Text:
    """A message that was taken."""

    number: str
    text: str
    template: str
    call: str
    given: str


@dataclass
class FakeCloud(Vendor):
    """What both have in common.

    Attributes:
        templates: {id: (how it stands, of what type, its text)}.
        signs: {sign: how it stands}.
        sent: what was taken, in order.
        refuses: what calls to send are refused with, in turn; None takes one.
        loses: whether it takes what it is sent and then says nothing.
        drops: whether it takes nothing and says nothing.
    """

    templates: dict[str, tuple[Any, str, str]] = field(default_factory=dict)
    signs: dict[str, int] = field(default_factory=dict)
    sent: list[Text] = field(default_factory=list)
    refuses: list[Any] = field(default_factory=list)
    loses: bool = False
    drops: bool = False
    bad_numbers: set[str] = field(default_factory=set)
    nonces: set[str] = field(default_factory=set)
    unsigned: int = 0
    actions: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["FakeCloud"]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    def answer(self, request: Request) -> Any:
        if not self.is_signed(request):
            self.unsigned += 1
            return self.forged()
        return self.told(request)

    def is_signed(self, request: Request) -> bool:
        raise NotImplementedError

    def forged(self) -> Any:
        raise NotImplementedError

    def told(self, request: Request) -> Any:
        raise NotImplementedError

    def take(self, texts: list[Text], answer: Any) -> Any:
        """Keep messages, and answer; or lose one of the two."""
        if self.drops:
            return CLOSE
        self.sent += texts
        return CLOSE if self.loses else (200, answer)


@dataclass
class FakeAliyun(FakeCloud):
    """Alibaba Cloud's text messages, `dysmsapi` 2017-05-25."""

    def is_signed(self, request: Request) -> bool:
        given = request.headers["authorization"]
        algorithm, _, rest = given.partition(" ")
        parts = dict(one.split("=", 1) for one in rest.split(","))
        pairs = sorted(one.split("=", 1) for one in request.target.partition("?")[2].split("&") if one)
        query = "&".join(f"{quote(unquote(k), safe='-_.~')}={quote(unquote(v), safe='-_.~')}" for k, v in pairs)
        names = parts["SignedHeaders"].split(";")
        lines = [f"{name}:{request.headers[name].strip()}" for name in names]
        body = hashlib.sha256(request.body).hexdigest()
        canonical = "\n".join([request.method, "/", query, *lines, "", ";".join(names), body])
        text = f"ACS3-HMAC-SHA256\n{hexed(canonical)}"
        made = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        at = datetime.fromisoformat(request.headers["x-acs-date"])
        nonce = request.headers["x-acs-signature-nonce"]
        is_new = nonce not in self.nonces
        self.nonces.add(nonce)
        wanted = {"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce"}
        return (
            algorithm == "ACS3-HMAC-SHA256"
            and parts["Credential"] == KEY
            and hmac.compare_digest(parts["Signature"], made)
            and request.headers["x-acs-content-sha256"] == body
            and wanted | {"x-acs-content-sha256"} <= set(names)
            and abs(datetime.now(UTC) - at) < timedelta(minutes=15)
            and is_new
        )

    def forged(self) -> Any:
        return self.no("SignatureDoesNotMatch", "Specified signature is not matched with our calculation.", 400)

    def no(self, code: str, message: str = "no", status: int = 200) -> Any:
        return status, {"Code": code, "Message": message, "RequestId": "R"}

    def told(self, request: Request) -> Any:
        action, query = request.headers["x-acs-action"], request.query
        assert request.headers["x-acs-version"] == "2017-05-25"
        self.actions.append(action)
        match action:
            case "SendSms":
                texts = [(n, query["SignName"], query.get("TemplateParam")) for n in query["PhoneNumbers"].split(",")]
                return self.send(query["TemplateCode"], texts, query.get("OutId", ""))
            case "SendBatchSms":
                form = {name: json.loads(value) for name, value in request.form.items()}
                columns = form["PhoneNumberJson"], form["SignNameJson"], form["TemplateParamJson"]
                assert len({len(one) for one in columns}) == 1
                assert len(columns[0]) <= 100
                texts = [(n, sign, json.dumps(params)) for n, sign, params in zip(*columns, strict=True)]
                return self.send(query["TemplateCode"], texts, query.get("OutId", ""))
            case "QuerySendDetails":
                return self.log(query)
            case "GetSmsTemplate":
                found = self.templates.get(query["TemplateCode"])
                if found is None:
                    return self.no("isv.TEMPLATE_NOT_EXIST")
                status, kind, content = found
                document = {"TemplateStatus": status, "TemplateType": kind, "TemplateContent": content}
                return 200, {
                    "Code": "OK",
                    **document,
                    "AuditInfo": {"RejectInfo": "变量不规范" if status == "2" else ""},
                }
            case "GetSmsSign":
                if query["SignName"] not in self.signs:
                    return self.no("isv.SIGN_NOT_EXIST")
                filed = self.signs[query["SignName"]]
                filings = [
                    {"OperatorCode": "mobile", "RegisterStatus": 3},
                    {"OperatorCode": "unicom", "RegisterStatus": filed},
                ]
                return 200, {"Code": "OK", "SignStatus": 1, "SignIspRegisterDetailList": filings}
        return self.no("InvalidAction.NotFound", status=404)

    def send(self, template: str, texts: list[tuple[str, str, str | None]], given: str) -> Any:
        assert len(given) < 256
        if self.refuses and (refused := self.refuses.pop(0)) is not None:
            return refused
        if template not in self.templates or self.templates[template][0] != "1":
            return self.no("isv.SMS_TEMPLATE_ILLEGAL")
        if any(sign not in self.signs for _, sign, _ in texts):
            return self.no("isv.SMS_SIGNATURE_ILLEGAL")
        if any(number in self.bad_numbers or len(number) != 11 for number, _, _ in texts):
            return self.no("isv.MOBILE_NUMBER_ILLEGAL")
        call = f"{9006197469364984 + len(self.sent)}^0"
        made = []
        for number, sign, params in texts:
            text = self.templates[template][2]
            for name, value in json.loads(params or "{}").items():
                assert isinstance(value, str)
                text = text.replace(f"${{{name}}}", value)
            if "${" in text:
                return self.no("isv.TEMPLATE_MISSING_PARAMETERS")
            made.append(Text(number, f"【{sign}】{text}", template, call, given))
        return self.take(made, {"Code": "OK", "Message": "OK", "BizId": call, "RequestId": "R"})

    def log(self, query: dict[str, str]) -> Any:
        assert self.now is not None
        assert int(query["PageSize"]) <= 50
        is_today = query["SendDate"] == f"{self.now + CST:%Y%m%d}"
        found = [one for one in self.sent if is_today and one.number == query["PhoneNumber"]]
        rows = [
            {"OutId": one.given, "TemplateCode": one.template, "Content": one.text, "SendStatus": 1, "ErrCode": ""}
            for one in found
        ]
        details = {"SmsSendDetailDTO": rows if query["CurrentPage"] == "1" else []}
        return 200, {"Code": "OK", "TotalCount": str(len(rows)), "SmsSendDetailDTOs": details}

    def report(self, one: Text, **more: Any) -> dict[str, Any]:
        """What it calls with when a carrier has answered."""
        return {
            "phone_number": one.number,
            "send_time": "2026-05-08 20:00:00",
            "report_time": "2026-05-08 20:00:04",
            "success": True,
            "err_code": "DELIVERED",
            "err_msg": "用户接收成功",
            "sms_size": "1",
            "biz_id": one.call,
            "out_id": one.given,
        } | more


@dataclass
class FakeTencent(FakeCloud):
    """Tencent Cloud's text messages, `sms` 2021-01-11.

    Attributes:
        packages: how many messages are left in each package of a thousand.
    """

    packages: list[int] = field(default_factory=list)

    def is_signed(self, request: Request) -> bool:
        at = request.headers["x-tc-timestamp"]
        day = datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%d")
        lines = f"content-type:{request.headers['content-type']}\nhost:{request.headers['host']}\n"
        canonical = f"POST\n/\n\n{lines}\ncontent-type;host\n{hashlib.sha256(request.body).hexdigest()}"
        scope = f"{day}/sms/tc3_request"
        text = f"TC3-HMAC-SHA256\n{at}\n{scope}\n{hexed(canonical)}"
        key = b"TC3" + SECRET.encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        made = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        head = f"TC3-HMAC-SHA256 Credential={SECRET_ID}/{scope}, SignedHeaders=content-type;host, Signature={made}"
        is_fresh = abs(datetime.now(UTC).timestamp() - int(at)) < 300
        return hmac.compare_digest(request.headers["authorization"], head) and is_fresh and request.target == "/"

    def forged(self) -> Any:
        return self.no("AuthFailure.SignatureFailure")

    def no(self, code: str, message: str = "no") -> Any:
        return 200, {"Response": {"Error": {"Code": code, "Message": message}, "RequestId": "R"}}

    def told(self, request: Request) -> Any:
        asked, action = request.json, request.headers["x-tc-action"]
        assert request.headers["x-tc-version"] == "2021-01-11"
        assert request.headers["x-tc-region"]
        self.actions.append(action)
        match action:
            case "SendSms":
                return self.send(asked)
            case "DescribeSmsTemplateList":
                rows = [
                    {
                        "TemplateId": int(one),
                        "StatusCode": state,
                        "ReviewReply": "变量不规范",
                        "TemplateContent": content,
                    }
                    for one, (state, _, content) in self.templates.items()
                    if int(one) in asked["TemplateIdSet"]
                ]
                return 200, {"Response": {"DescribeTemplateStatusSet": rows, "RequestId": "R"}}
            case "DescribeSmsSignList":
                rows = (
                    [{"SignId": 7, "SignName": "示例", "StatusCode": 0, "ReviewReply": ""}]
                    if 7 in asked["SignIdSet"]
                    else []
                )
                return 200, {"Response": {"DescribeSignListStatusSet": rows, "RequestId": "R"}}
            case "SmsPackagesStatistics":
                assert asked["EndTime"] > asked["BeginTime"]
                rows = [
                    {"PackageAmount": 1_000, "CurrentUsage": 1_000 - left, "PackageExpiredTime": 1 << 33}
                    for left in self.packages
                ]
                return 200, {"Response": {"SmsPackagesStatisticsSet": rows, "RequestId": "R"}}
            case "PullSmsSendStatusByPhoneNumber":
                rows = [
                    {
                        "SerialNo": one.call,
                        "PhoneNumber": one.number,
                        "ReportStatus": "SUCCESS",
                        "SessionContext": one.given,
                    }
                    for one in self.sent
                    if one.number == asked["PhoneNumber"]
                ]
                return 200, {"Response": {"PullSmsSendStatusSet": rows, "RequestId": "R"}}
        return self.no("InvalidAction")

    def send(self, asked: dict[str, Any]) -> Any:
        assert asked["SmsSdkAppId"] == APP
        assert len(asked["PhoneNumberSet"]) <= 200
        if self.refuses and (refused := self.refuses.pop(0)) is not None:
            return refused
        statuses, made = [], []
        for number in asked["PhoneNumberSet"]:
            code, serial = "Ok", f"5000:{1045710669157053 + len(self.sent) + len(made)}"
            template = self.templates.get(asked["TemplateId"])
            values = asked.get("TemplateParamSet", [])
            if template is None or template[0] != 0 or template[2].count("{") != len(values):
                code = "FailedOperation.TemplateIncorrectOrUnapproved"
            elif asked.get("SignName") not in self.signs:
                code = "FailedOperation.SignatureIncorrectOrUnapproved"
            elif number in self.bad_numbers:
                code = "InvalidParameterValue.IncorrectPhoneNumber"
            else:
                text = template[2]
                for place, value in enumerate(values, 1):
                    text = text.replace(f"{{{place}}}", value)
                given = asked.get("SessionContext", "")
                made.append(Text(number, f"【{asked['SignName']}】{text}", asked["TemplateId"], serial, given))
            statuses.append(
                {"SerialNo": serial if code == "Ok" else "", "PhoneNumber": number, "Code": code, "Message": code}
            )
        return self.take(made, {"Response": {"SendStatusSet": statuses, "RequestId": "R"}})
