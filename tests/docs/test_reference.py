"""The reference pages say all there is: what is written by hand is compared with the models, the rest is generated."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import crmkit
from crmkit.cli import words
from crmkit.flow.context import OWN
from crmkit.flow.template import Front
from crmkit.flow.wording import filters_of
from crmkit.host import sections
from crmkit_care import Digest, Late, Rule, Silence
from crmkit_care import Settings as CareSettings
from crmkit_email.folder import FolderGateway
from crmkit_email.postmark_settings import PostmarkSettings
from crmkit_email.sendgrid_settings import SendgridSettings
from crmkit_email.smtp import SmtpGateway
from crmkit_marketplace.files.mapping import FilesSettings
from crmkit_marketplace.taobao.settings import TaobaoSettings, TaobaoSmsSettings
from crmkit_marketplace.vendure.settings import VendureSettings
from crmkit_marketplace.woocommerce.settings import WooSettings
from crmkit_sms import http_settings
from crmkit_sms.aliyun_settings import AliyunSettings
from crmkit_sms.tencent_settings import TencentSettings
from crmkit_sms.twilio_settings import TwilioSettings
from tests.docs.snippet import PAGES, ROOT, fences

DOCS = ROOT / "docs"

SETTINGS: dict[str, type[BaseModel]] = {
    "[crm]": sections.CrmSection,
    "[plugins]": sections.PluginsSection,
    "[shops.NAME], [sources.NAME]": sections.AccountSection,
    "[[channels.CHANNEL]]": sections.EntrySection,
    "[policy]": sections.PolicySection,
    "[policy.pause]": sections.PauseSection,
    "[staging]": sections.StagingSection,
    "[web]": sections.WebSection,
    "[retention]": sections.RetentionSection,
    "[[staff]]": sections.StaffSection,
    "marketplace.files": FilesSettings,
    "marketplace.taobao": TaobaoSettings,
    "marketplace.vendure": VendureSettings,
    "marketplace.woocommerce": WooSettings,
    "email.smtp": SmtpGateway.Settings,
    "email.folder": FolderGateway.Settings,
    "email.sendgrid": SendgridSettings,
    "email.postmark": PostmarkSettings,
    "sms.twilio": TwilioSettings,
    "sms.aliyun": AliyunSettings,
    "sms.tencent": TencentSettings,
    "sms.taobao": TaobaoSmsSettings,
    "sms.http": http_settings.HttpSettings,
    "sms.http: success": http_settings.Success,
    "sms.http: refusals": http_settings.Refusals,
    "sms.http: webhook": http_settings.Webhook,
    "sms.http: signature": http_settings.BodySignature,
    "sms.http: receipts": http_settings.Receipts,
    "sms.http: replies": http_settings.Replies,
    "[care]": CareSettings,
    "[[care.rules]]": Rule,
    "[care.late]": Late,
    "[care.silence]": Silence,
    "[care.digest]": Digest,
}


def named_in_tables(text: str) -> dict[str, list[str]]:
    """{heading: what the first column of the table below it names}."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| `"):
            found.setdefault(heading, []).extend(re.findall(r"`([^`]+)`", line.split("|")[1]))
    return found


def test_the_generated_tables_are_what_the_code_says() -> None:
    result = subprocess.run(
        [sys.executable, str(DOCS / "reference.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{result.stdout}{result.stderr}run python docs/reference.py"


@pytest.mark.parametrize("heading", SETTINGS)
def test_every_setting_is_documented_and_no_other(heading: str) -> None:
    documented = named_in_tables((DOCS / "configuration.md").read_text("utf-8"))
    assert sorted(documented[heading]) == sorted(SETTINGS[heading].model_fields)


def test_every_section_with_settings_is_tested() -> None:
    assert set(named_in_tables((DOCS / "configuration.md").read_text("utf-8"))) == set(SETTINGS)


def test_the_templates_page_names_all_a_template_finds() -> None:
    named = named_in_tables((DOCS / "templates.md").read_text("utf-8"))
    assert sorted(named["What stands at the top"]) == sorted(Front.model_fields)
    assert sorted(named["What stands below"]) == sorted([*OWN, *filters_of("en")])


def test_every_state_and_reason_has_words() -> None:
    assert set(words.STATES) == set(crmkit.State)
    assert set(words.REASONS) == set(crmkit.Reason)


#: How the page on Olist calls what the independent script counts.
OLIST = {
    "orders": "orders",
    "lines": "order_lines",
    "customers (people: `customer_unique_id`)": "customers",
    "reviews (review and order together)": "reviews",
    "placed": "order-placed",
    "paid": "order-paid",
    "shipped": "order-shipped",
    "delivered": "order-delivered",
    "cancelled": "order-cancelled",
    "shipping mails": "shipping mails",
    "late mails": "late mails",
}


@pytest.mark.shared
def test_the_figures_of_olist_are_those_counted(shared_data: Path) -> None:
    """That crmkit comes to the same is tested in tests/olist."""
    import tests.olist.count as independent

    folder, text = shared_data / "olist", (DOCS / "olist.md").read_text("utf-8")
    counted = independent.counts(folder)
    counted["shipping mails"] = len(independent.shipped_in_week(folder))
    counted["late mails"] = len(independent.late_in_week(folder))
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \| ([\d,]+) \|$", text, re.MULTILINE)
    assert {name: mine for name, mine, _ in rows} == {name: f"{counted[key]:,}" for name, key in OLIST.items()}
    assert {name: theirs for name, _, theirs in rows} == {name: mine for name, mine, _ in rows}
    printed = re.findall(r"[\d,]{3,}", "\n".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL)))
    total = counted["shipping mails"] + counted["late mails"]
    assert set(printed) - {"2018", "14", "000", "00"} <= {f"{count:,}" for count in [*counted.values(), total]}


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def test_the_plugins_of_the_page_work() -> None:
    found: dict[str, dict[str, Any]] = {}
    for fence in fences((DOCS / "plugins.md").read_text("utf-8")):
        if fence.info[:1] == ["python"] and "served" not in fence.info:  # that one is in tests/web/test_extension.py
            found[fence.info[1]] = {"__name__": fence.info[1].removesuffix(".py")}
            exec(compile("\n".join(fence.lines), fence.info[1], "exec"), found[fence.info[1]])  # the page's own code
    [gateway] = found["crmkit_pigeon.py"]["crmkit_gateways"]()
    assert gateway.Settings(loft="north").loft == "north"
    [heron] = found["crmkit_heron.py"]["crmkit_gateways"]()
    said = heron.records(heron, crmkit.Call(b'{"id": "7", "state": "arrived"}', received_at=datetime.now(UTC)))
    assert [(one.vendor_id, one.state) for one in said] == [("7", "delivered")]
    [source] = found["crmkit_bazaar.py"]["crmkit_sources"]()
    assert source.streams() == ["orders"]
    record = found["crmkit_bazaar.py"]["to_order"](found["crmkit_bazaar.py"]["SOLD"][0])
    assert (record.external_id, record.status, record.buyer.email) == ("7", "placed", "ann@buyers.example")
