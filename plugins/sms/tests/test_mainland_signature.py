"""Signatures as the vendors publish them (vectors of Alibaba Cloud), and as both describe them (vectors of our own).

Tencent Cloud's published example hides its key, so nobody can recompute it.
"""

import hashlib
from datetime import UTC, datetime

import httpx
import pytest

from crmkit_sms.aliyun_signature import Acs3, encoded
from crmkit_sms.aliyun_signature import authorization as acs3
from crmkit_sms.tencent_signature import Tc3
from crmkit_sms.tencent_signature import authorization as tc3

EMPTY = hashlib.sha256(b"").hexdigest()
#: official: published by Alibaba Cloud; own: made after its description, and by its SDK.
ACS3 = {
    "official": (
        "YourAccessKeySecret",
        {"ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd", "RegionId": "cn-shanghai"},
        {
            "host": "ecs.cn-shanghai.aliyuncs.com",
            "x-acs-action": "RunInstances",
            "x-acs-content-sha256": EMPTY,
            "x-acs-date": "2023-10-26T10:22:32Z",
            "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
            "x-acs-version": "2014-05-26",
        },
        "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
    ),
    "own": (
        "crmkit-demo-secret",
        {
            "OutId": "msg-0001",
            "PhoneNumbers": "13800138000",
            "SignName": "示例商城",
            "TemplateCode": "SMS_100000001",
            "TemplateParam": '{"name":"小明"}',
        },
        {
            "host": "dysmsapi.aliyuncs.com",
            "x-acs-action": "SendSms",
            "x-acs-content-sha256": EMPTY,
            "x-acs-date": "2026-01-02T03:04:05Z",
            "x-acs-signature-nonce": "nonce-0001",
            "x-acs-version": "2017-05-25",
        },
        "53a655941998512620841b87c643c91fc2116c0b7ca532156a634ffffe507169",
    ),
}
BODY = (
    '{"PhoneNumberSet":["+8613800138000"],"SmsSdkAppId":"1400000001","TemplateId":"1000001","SignName":"示例商城",'
    '"TemplateParamSet":["小明","128.00"],"SessionContext":"msg-0001"}'
)


@pytest.mark.parametrize("name", ACS3)
def test_aliyun_signs_as_it_is_published(name: str) -> None:
    secret, query, headers, signature = ACS3[name]
    made = acs3("KEY", secret, "POST", "/", encoded(query), headers, b"")
    signed = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
    assert made == f"ACS3-HMAC-SHA256 Credential=KEY,SignedHeaders={signed},Signature={signature}"


def test_tencent_signs_as_it_is_described() -> None:
    made = tc3(
        "AKIDcrmkitdemo", "crmkit-demo-secret", 1767323045, "sms.tencentcloudapi.com", "application/json", BODY.encode()
    )
    scope = "AKIDcrmkitdemo/2026-01-02/sms/tc3_request"
    assert made == (
        f"TC3-HMAC-SHA256 Credential={scope}, SignedHeaders=content-type;host, "
        "Signature=a6a3564fc36c48a3b984b4bc497a26581ee365607b4431b1ea056129b461ffea"
    )


@pytest.mark.parametrize("way", [Acs3, Tc3], ids=["aliyun", "tencent"])
def test_every_try_is_signed_anew(way: type[Acs3 | Tc3]) -> None:
    times = iter([datetime(2026, 5, 7, 9, 30, second, tzinfo=UTC) for second in (0, 1)])
    auth = way("key-id", "s", lambda: next(times))
    request = httpx.Request("POST", "https://vendor.example/?a=b", json={})
    found = [next(auth.auth_flow(request)).headers["authorization"] for _ in range(2)]
    assert found[0] != found[1]


def test_a_query_is_signed_as_it_is_spelt() -> None:
    assert encoded({"b": "a b*~+", "a": "é/&="}) == "a=%C3%A9%2F%26%3D&b=a%20b%2A~%2B"
