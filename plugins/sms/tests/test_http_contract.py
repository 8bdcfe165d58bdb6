"""A gateway that is described in the configuration is held to what every gateway is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from crmkit import Call
from crmkit.testing import GatewayContract
from crmkit_sms.http import HttpGateway


class TestHttp(GatewayContract):
    adapter = HttpGateway
    settings = {
        "url": "https://api.pigeon.example/v1/send",
        "bearer": "b3arer-0123456789",
        "sender": "TEAHOUSE",
        "id": "data.id",
        "body": {"to": "{to}", "message": "{text}", "reference": "{key}", "from": "{sender}"},
        "success": {"path": "code", "equals": 0},
        "refusals": {
            "path": "code",
            "detail": "error",
            "values": {"21": "bad-address", "50": "retry", "60": "auth", "99": "other"},
            "status": {"402": "funds", "4xx": "other"},
        },
        "webhook": {
            "signature": {"header": "x-pigeon-signature", "secret": "hook-secret-0123456789"},
            "items": "reports",
        },
        "receipts": {
            "id": "msg.id",
            "key": "msg.reference",
            "status": "state",
            "detail": "why",
            "statuses": {"DELIVRD": "delivered", "SENT": "sent", "UNDELIV": "failed", "NOROUTE": "bad-address"},
        },
        "replies": {"id": "id", "sender": "from", "text": "body"},
    }
    fixtures = Path(__file__).parent / "http"
    headers = ("content-type", "authorization")
    signs_time = False  # by these settings: its service signs none

    def sign(self, call: Call, settings: Any) -> Call:
        signature, door = settings.webhook.door
        secret = door.secret[0] if isinstance(door.secret, list) else door.secret
        made = signature.written(secret.get_secret_value(), call.body)
        return replace(call, headers={**call.headers, "x-pigeon-signature": made})

    def with_webhook_secret(self, secret: Any) -> dict[str, Any]:
        webhook = self.settings["webhook"]
        return {"webhook": {**webhook, "signature": {**webhook["signature"], "secret": secret}}}
