"""Exports are held to what every source is; there is no vendor, only a folder."""

import os
import shutil
from pathlib import Path
from typing import Any

from crmkit.testing import SourceContract
from crmkit_marketplace.files import FilesSource

HERE = Path(__file__).parent / "files"
#: When the exports were written.
WRITTEN = 1_778_500_000


class TestFiles(SourceContract):
    adapter = FilesSource
    settings = {
        "orders": {
            "file": "orders.csv",
            "columns": {
                "external_id": "id",
                "placed_at": "placed",
                "paid_at": "paid",
                "updated_at": "changed",
                "status": {
                    "column": "state",
                    "values": {"sent": "shipped", "done": "completed", "cancelled": "cancelled"},
                },
                "vendor_status": "state",
                "total": "total",
                "buyer": {"email": "mail", "phone": "phone", "name": "name"},
            },
        },
        "parcels": {
            "file": "parcels.csv",
            "order": "order",
            "columns": {
                "external_id": "id",
                "tracking_number": "tracking",
                "shipped_at": "sent",
                "delivered_at": "there",
            },
        },
        "reviews": {
            "file": "reviews.csv",
            "order": "order",
            "columns": {"external_id": "id", "rating": "stars", "text": "text", "posted_at": "at"},
        },
        "refunds": {
            "file": "refunds.csv",
            "order": "order",
            "columns": {"external_id": "id", "refunded": "back", "refunded_at": "at"},
        },
    }
    account = {"currency": "EUR"}
    fixtures = HERE
    lacks = {
        "shop": "an export is a photograph: it does not change while it is read",
        "faults": "there is no vendor that could fail; folders and files that cannot be read are in test_files",
        "vendor-account": "an export does not say whose it is",
        "streams customers payments returns": "they are read as the other tables are",
    }

    def make(self, *args: Any, **options: Any) -> Any:
        for file in (HERE / "exports").iterdir():
            copy = self.folder / file.name
            if not copy.exists():
                shutil.copy(file, copy)
                os.utime(copy, (WRITTEN, WRITTEN))
        return super().make(*args, **options)
