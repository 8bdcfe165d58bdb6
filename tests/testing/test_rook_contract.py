"""A gateway to a vendor of XML is held to what every gateway is."""

from pathlib import Path

from crmkit.testing import GatewayContract
from tests.testing.rook import RookGateway


class TestRook(GatewayContract):
    adapter = RookGateway
    settings = {"token": "t0ken-0123456789"}
    fixtures = Path(__file__).parent / "rook_exchanges"
    lacks = {"log-lag": "its log has a message before it answers"}
