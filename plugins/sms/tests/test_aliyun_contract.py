"""Alibaba Cloud is held to what every gateway is."""

from pathlib import Path
from typing import Any

from crmkit.testing.gateway_contract import GatewayContract
from crmkit_sms.aliyun import AliyunGateway

FORM = {"template_id": "SMS_100000001", "sign_name": "示例商城", "params": {"name": "李雷", "no": "1017"}}


class TestAliyun(GatewayContract):
    adapter = AliyunGateway
    settings = {
        "access_key_id": "LTAI5tCRMKITDEMO",
        "access_key_secret": "crmkit-demo-secret",
        "webhook_secret": "0123456789abcdef0123",
    }
    fixtures = Path(__file__).parent / "aliyun"
    message = {"text": "李雷，您的订单1017已发货。", "locale": "zh-CN", "form": FORM}
    headers = ("content-type", "x-acs-action", "x-acs-version", "x-acs-date", "authorization")
    open_settings = ("access_key_id",)
    lacks = {"log-lag": "it is asked ten minutes after a try (look_up_after), when its log is complete"}

    def pin(self, adapter: Any) -> None:
        super().pin(adapter)
        adapter.signature.nonce = lambda: "nonce-0001"
