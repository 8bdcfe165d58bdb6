"""Twilio is held to what every gateway is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from crmkit import Call, secrets_of
from crmkit.testing import GatewayContract
from crmkit_sms import twilio_signature
from crmkit_sms.twilio import TwilioGateway


class TestTwilio(GatewayContract):
    adapter = TwilioGateway
    settings = {"account_sid": "AC" + "0" * 31 + "1", "auth_token": "t0ken-0123456789", "sender": "+15005550006"}
    fixtures = Path(__file__).parent / "twilio"
    headers = ("content-type", "authorization")
    webhook_secret = "auth_token"
    signs_time = False

    def sign(self, call: Call, settings: Any) -> Call:
        token = secrets_of(settings, "auth_token")[0]
        made = twilio_signature.signature(token, call.url, twilio_signature.fields_of(call.body))
        return replace(call, headers={**call.headers, twilio_signature.HEADER: made})
