"""Vendure is held to what every source is."""

from pathlib import Path

from crmkit.testing.source_contract import SourceContract
from crmkit_marketplace.vendure import VendureSource
from plugins.marketplace.tests.vendure.fake import PASSWORD, USER, VendureShop


class TestVendure(SourceContract):
    adapter = VendureSource
    settings = {
        "url": "https://shop.example.com/admin-api",
        "username": USER,
        "password": PASSWORD,
        "webhook_secret": "whsec_d2ViaG9vay1zZWNyZXQtMDEyMzQ1Njc4OQ==",
    }
    fixtures = Path(__file__).parent / "vendure" / "exchanges"
    headers = ("authorization", "cookie", "vendure-token", "vendure-api-key")
    shop = VendureShop
    shop_settings = {"per_page": 2}
    lacks = {"sentinel-dates": "Vendure writes null where there is no time"}

    def another_secret(self, number: int = 1) -> str:
        return f"whsec_YW5vdGhlci1zZWNyZXQtMDEyMzQ1Njc4{number}Q=="
