"""Tencent Cloud is held to what every gateway is."""

from pathlib import Path

from crmkit.testing.gateway_contract import GatewayContract
from crmkit_sms.tencent import TencentGateway

FORM = {"template_id": "1000001", "sign_name": "示例商城", "params": {"name": "李雷", "number": "1017"}}


class TestTencent(GatewayContract):
    adapter = TencentGateway
    settings = {
        "secret_id": "AKIDcrmkitdemo",
        "secret_key": "crmkit-demo-secret",
        "app_id": "1400000001",
        "webhook_secret": "0123456789abcdef0123",
    }
    fixtures = Path(__file__).parent / "tencent"
    message = {"text": "李雷，您的订单1017已发货。", "locale": "zh-CN", "form": FORM}
    headers = ("content-type", "x-tc-action", "x-tc-version", "x-tc-region", "x-tc-timestamp", "authorization")
    open_settings = ("secret_id",)
    lacks = {"not-there": "its log holds only what carriers spoke of"}
