from collections.abc import Callable
from datetime import UTC, datetime, time
from pathlib import Path

import pytest

from crmkit.host.config import load

Write = Callable[[str], Path]


def complaints(path: Path) -> list[str]:
    return [str(problem).removeprefix(f"{path}:") for problem in load(path).problems]


def test_an_empty_file_is_a_configuration(write: Write) -> None:
    config = load(write(""))
    assert config.problems == ()
    assert config.database == f"sqlite:///{config.folder}/crm.db"


def test_everything_wrong_is_told_at_once_with_its_line(write: Write) -> None:
    path = write(
        """\
        [crm]
        databse = "sqlite:///crm.db"
        timezone = "Mars/Olympus"
        [policy]
        quiet_hours = "9-17"
        marketing_default = "maybe"
        [shops.a]
        use = "files"
        enabled = "yes"
        [[staff]]
        name = "Chen"
        email = "a@@b"
        phone = "12"
        """
    )
    told = complaints(path)
    assert any(one.startswith('2: crm.databse: unknown key; did you mean "database"?') for one in told)
    assert any(one.startswith('3: crm.timezone: found "Mars/Olympus"; should be a zone') for one in told)
    assert any(one.startswith('5: policy.quiet_hours: found "9-17"; should be local hours') for one in told)
    assert any(one.startswith("6: policy.marketing_default: found \"maybe\"; input should be 'deny'") for one in told)
    assert any(one.startswith('9: shops.a.enabled: found "yes"; input should be a valid boolean') for one in told)
    assert any(one.startswith('12: staff[1].email: found "a@@b"; is no e-mail address') for one in told)
    assert any(one.startswith('13: staff[1].phone: found "12"; is no phone number') for one in told)
    assert len(told) == 7


@pytest.mark.parametrize(
    ("written", "database"),
    [
        ("sqlite:///data/crm.db", "sqlite:///{folder}/data/crm.db"),
        ("sqlite:////var/crm.db", "sqlite:////var/crm.db"),
        ("postgresql://crm@host/crm", "postgresql://crm@host/crm"),
    ],
)
def test_a_relative_database_lies_beside_the_file(write: Write, written: str, database: str) -> None:
    config = load(write(f'[crm]\ndatabase = "{written}"'))
    assert (config.database, config.problems) == (database.format(folder=config.folder), ())


@pytest.mark.parametrize("written", ["crm.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://x/y"])
def test_other_databases_are_refused(write: Write, written: str) -> None:
    (told,) = complaints(write(f'[crm]\ndatabase = "{written}"'))
    assert told.startswith(f'2: crm.database: found "{written}"; no database that can be used; write sqlite:///crm.db')


def test_a_refused_database_address_keeps_its_password(write: Write) -> None:
    (told,) = complaints(write('[crm]\ndatabase = "mysql://me:hush@host/y"'))
    assert "hush" not in told


def test_the_database_may_be_a_reference(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_DB", "postgresql://crm:hush@host/crm")
    assert load(write('[crm]\ndatabase = "env:CRM_DB"')).database == "postgresql://crm:hush@host/crm"
    monkeypatch.delenv("CRM_DB")
    (told,) = complaints(write('[crm]\ndatabase = "env:CRM_DB"'))
    assert told == "2: crm.database: env:CRM_DB: the environment variable CRM_DB is not set; set CRM_DB"


def test_names_are_unique_over_shops_sources_and_gateways(write: Write) -> None:
    # SEMANTICS 33
    text = """\
        [shops.a]
        use = "files"
        [sources.a]
        use = "mailbox"
        [[channels.sms]]
        use = "twilio"
        [[channels.call]]
        use = "twilio"
        """
    told = complaints(write(text))
    assert told[0] == '3: sources.a: the name "a" is taken by shops.a (line 1); rename one'
    assert told[1].startswith('7: channels.call[1]: the name "twilio" is taken by channels.sms[1] (line 5); give one')


def test_a_gateway_serves_shops_that_exist(write: Write) -> None:
    text = '[shops.flagship]\nuse = "files"\n[[channels.sms]]\nuse = "x"\nshops = ["flagshp"]'
    assert complaints(write(text)) == ['5: channels.sms[1].shops: there is no shop "flagshp"; did you mean "flagship"?']


@pytest.mark.parametrize(
    ("written", "announced"),
    [
        ("2018-05-07T00:00:00-03:00", datetime(2018, 5, 7, 3, tzinfo=UTC)),
        ('"2018-05-07T00:00:00+00:00"', datetime(2018, 5, 7, tzinfo=UTC)),
        ("2018-05-07", None),
        ('"2018-05-07T08:00"', None),
    ],
)
def test_times_with_and_without_zone(write: Write, written: str, announced: datetime | None) -> None:
    config = load(write(f'[shops.a]\nuse = "files"\nannounce_from = {written}'))
    assert config.problems == ()
    found = config.accounts[0].core.announce_from
    assert found is not None
    assert found == announced if announced else found.tzinfo is None


def test_wrong_kinds_of_sections_are_told(write: Write) -> None:
    text = """\
        crm = 1
        shops = []
        staff = "Chen"
        [channels]
        email = "smtp"
        """
    assert complaints(write(text)) == [
        "1: crm: is not a table; write [crm]",
        "2: shops: is not a table; write [shops.NAME]",
        "5: channels.email: is not a list of gateways; write [[channels.email]]",
        "3: staff: is not a list of persons; write [[staff]]",
    ]


def test_quiet_hours_and_staff_are_read(write: Write) -> None:
    text = """\
        [policy]
        quiet_hours = "21:00-09:00"
        [[staff]]
        name = "Chen"
        teams = ["shipping"]
        email = "Chen@Shop.example"
        phone = "+86 138 1234 5678"
        """
    config = load(write(text))
    assert config.problems == ()
    assert config.policy.quiet_hours == (time(21), time(9))
    assert config.staff[0].email == "chen@shop.example"
    assert config.staff[0].phone == "+8613812345678"


def test_links_are_signed_by_the_key_of_the_installation_or_by_keys_of_their_own(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRMKIT_KEY", raising=False)
    monkeypatch.setenv("NEW_KEY", "the new key of all links")
    monkeypatch.setenv("OLD_KEY", "the old key of all links")
    web = '[web]\nurl = "https://crm.tea.example"\n'
    crm = '[crm]\nkey = "env:OLD_KEY"\n'
    path = write(web)
    assert load(path).links is None
    assert complaints(path) == [
        "2: web.url: there is no key to sign the links of customers with, so none are given; set [crm] key"
    ]
    before = load(write(crm + web)).links
    after = load(write(crm + web + 'link_keys = ["env:NEW_KEY", "env:OLD_KEY"]\n')).links
    assert before is not None
    assert after is not None
    now = datetime(2026, 3, 2, tzinfo=UTC)
    token = before.make("order", 7, now).rpartition("/")[2]
    assert after.read("o", token, now).profile_id == 7
    assert after.make("order", 7, now).rpartition("/")[2] != token


@pytest.mark.parametrize(
    ("keys", "what"),
    [('["short"]', "the key is written in the file"), ('["env:NOT_THERE"]', "the environment variable NOT_THERE")],
)
def test_keys_of_links_are_secrets_by_reference(write: Write, keys: str, what: str) -> None:
    told = complaints(write(f'[crm]\nkey = "env:PATH"\n[web]\nlink_keys = {keys}\n'))
    assert any(what in one and "link_keys" in one for one in told), told
