"""SendGrid is held to what every gateway is."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crmkit import Call, secrets_of
from crmkit.testing.gateway_contract import GatewayContract
from crmkit_email import sendgrid_signature
from crmkit_email.sendgrid import SendgridGateway


def private_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int("1234567890abcdef" * 4, 16) + number, ec.SECP256R1())


def shown(key: ec.EllipticCurvePrivateKey) -> str:
    made = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(made).decode()


class TestSendgrid(GatewayContract):
    adapter = SendgridGateway
    settings = {
        "api_key": "SG.x0123456789abcdef",
        "sender": "Tea House <shop@tea.example>",
        "webhook_public_key": shown(private_key()),
    }
    fixtures = Path(__file__).parent / "sendgrid"
    headers = ("content-type", "authorization")
    webhook_secret = "webhook_public_key"
    signs_time = True
    lacks = {"unknown-code": "SendGrid's refusals have words and no codes"}

    def sign(self, call: Call, settings: Any) -> Call:
        at, shown_key = str(int(call.received_at.timestamp())), secrets_of(settings, "webhook_public_key")[0]
        key = next(key for key in map(private_key, range(3)) if shown(key) == shown_key)
        made = key.sign(at.encode() + call.body, ec.ECDSA(SHA256()))
        signed = {sendgrid_signature.SIGNATURE: base64.b64encode(made).decode(), sendgrid_signature.TIMESTAMP: at}
        return replace(call, headers={**call.headers, **signed})

    def another_secret(self, number: int = 1) -> Any:
        return shown(private_key(number))
