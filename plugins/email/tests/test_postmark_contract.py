"""Postmark is held to what every gateway is."""

from pathlib import Path

from crmkit.testing.gateway_contract import GatewayContract
from crmkit_email.postmark import PostmarkGateway


class TestPostmark(GatewayContract):
    adapter = PostmarkGateway
    settings = {
        "server_token": "4d1e3f0a-x0123456789",
        "sender": "Tea House <shop@tea.example>",
        "webhook_secret": "s3cret-0123456789abcdef",
    }
    fixtures = Path(__file__).parent / "postmark"
    headers = ("content-type", "x-postmark-server-token")
