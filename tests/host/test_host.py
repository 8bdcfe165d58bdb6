from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from textwrap import dedent

import pytest

from crmkit.core.errors import PluginError
from crmkit.host.document import Misconfigured
from crmkit.host.host import Host

from .conftest import MAIL, PLAY, Shelf

Write = Callable[[str], Path]

WHOLE = """\
[crm]
locale = "zh-CN"
timezone = "Asia/Shanghai"
title = "Tea House"

[plugins]
use = ["greet"]

[shops.flagship]
use = "fake"
announce_from = 2026-05-07T00:00:00
region = "CN"
token = "env:FAKE_TOKEN"

[shops.asleep]
use = "not-even-installed"
enabled = false
token = "env:NOT_SET"

[[channels.email]]
use = "post"
shops = ["flagship"]
concurrency = 3

[greet]
greeting = "hi"

[[staff]]
name = "Chen"
teams = ["shipping"]
email = "chen@shop.example"
"""


def told(path: Path, shelf: Shelf, **options: object) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        Host.open(path, plugins=shelf.plugins, **options)  # type: ignore[arg-type]
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


def test_a_whole_configuration_makes_a_setup(
    shelf: Shelf, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_TOKEN", "hush")
    host = Host.open(write(WHOLE), plugins=shelf.plugins)
    assert list(host.shops) == ["flagship"]
    shop = host.shops["flagship"]
    assert shop.announce_from == datetime(2026, 5, 6, 16, tzinfo=UTC)
    assert shop.settings.token.get_secret_value() == "hush"
    assert (shop.title, shop.account.timezone, shop.account.region) == ("Tea House", "Asia/Shanghai", "CN")
    assert host.reports(shop) == {"placed", "shipped"}

    setup = host.setup(
        {"flagship": (7, datetime(2026, 5, 7, tzinfo=UTC)), "gone": (8, datetime(2026, 5, 7, tzinfo=UTC))}
    )
    assert list(setup.shops) == [7]
    assert setup.shops[7].locale == "zh-CN"
    assert "order-shipped" in setup.listened
    assert setup.plugins[0].settings.greeting == "hi"
    (entry,) = setup.channels["email"]
    assert (entry.name, entry.serves("flagship"), entry.serves("other")) == ("post", True, False)
    assert (host.gateway(entry).account.name, host.gateway(entry).account.folder) == (entry.name, tmp_path)
    assert setup.persons("shipping")[0].addresses == {"email": "chen@shop.example"}
    assert setup.absent == frozenset()


def test_settings_are_refused_at_their_line_and_secrets_stay_unsaid(
    shelf: Shelf, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGES", "a-secret-thing")
    path = write(
        """\
        [plugins]
        use = ["greet"]
        [shops.a]
        use = "fake"
        pages = "env:PAGES"
        tiemzone = "UTC"
        token = "env:NOT_SET"
        [[channels.email]]
        use = "post"
        hots = "mail"
        password = 5
        [greet]
        limit = "many"
        """
    )
    lines = told(path, shelf)
    assert lines[0] == "7: shops.a.token: env:NOT_SET: the environment variable NOT_SET is not set; set NOT_SET"
    assert lines[1].startswith("5: shops.a.pages: found a value that is not shown; input should be a valid integer")
    assert lines[2] == '6: shops.a.tiemzone: unknown key; did you mean "timezone"?'
    assert lines[3].startswith("11: channels.email[1].password: found a value that is not shown; ")
    assert lines[4] == '10: channels.email[1].hots: unknown key; did you mean "host"?'
    assert lines[5].startswith('13: greet.limit: found "many"; input should be a valid integer')
    assert len(lines) == 6


def test_a_secret_may_lie_in_a_file_beside_the_configuration(shelf: Shelf, write: Write, tmp_path: Path) -> None:
    path = write('[shops.a]\nuse = "fake"\ntoken = "file:secrets/token"\n')
    assert "there is no file" in told(path, shelf)[0]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("hush\n")
    host = Host.open(path, plugins=shelf.plugins)
    assert host.shops["a"].settings.token.get_secret_value() == "hush"
    assert host.problems == []


def test_a_literal_secret_is_warned_of(shelf: Shelf, write: Write) -> None:
    host = Host.open(write('[shops.a]\nuse = "fake"\ntoken = "hush"\n'), plugins=shelf.plugins)
    (problem,) = host.problems
    assert (problem.level, problem.line, problem.key) == ("warning", 3, "shops.a.token")
    assert "hush" not in str(problem)


def test_a_budget_without_a_price_is_warned_of_and_in_two_currencies_refused(shelf: Shelf, write: Write) -> None:
    entry = '[[channels.email]]\nuse = "post"\nbudget = "20 EUR/day"\n'
    host = Host.open(write(entry), plugins=shelf.plugins)
    (problem,) = host.problems
    assert (problem.level, problem.line, problem.key) == ("warning", 3, "channels.email[1].budget")
    assert "limits nothing where the vendor does not say" in str(problem)
    host = Host.open(write(f'{entry}price = "0.05 EUR"\n'), plugins=shelf.plugins)
    assert host.problems == []
    assert host.channels["email"][0].limits.price == Decimal("0.05")
    [line] = told(write(f'{entry}price = "0.05 USD"\n'), shelf)
    assert line == "4: channels.email[1].price: is in USD; write both in one currency; the budget is in EUR"


def test_unknown_sections_adapters_channels_and_playbooks_are_told_together(shelf: Shelf, write: Write) -> None:
    # SEMANTICS 33
    path = write(
        """\
        [plugins]
        use = ["gret", "nothing.py"]
        [shops.a]
        use = "fkae"
        [[channels.emial]]
        use = "post"
        [[channels.email]]
        use = "psot"
        [polcy]
        [greet]
        """
    )
    lines = told(path, shelf)
    assert lines[0].startswith('4: shops.a.use: there is no marketplace adapter "fkae"')
    assert lines[1] == '5: channels.emial: unknown channel "emial"; did you mean "email"?'
    assert lines[2].startswith('8: channels.email[1].use: there is no email gateway "psot"')
    assert lines[3].startswith('2: plugins.use[1]: there is no playbook "gret"')
    assert lines[4].startswith("2: plugins.use[2]: there is no file")
    assert lines[5] == '9: polcy: unknown section "polcy"; did you mean "policy"?'
    assert lines[6] == '10: greet: the playbook "greet" is not switched on; add "greet" to [plugins] use'
    assert len(lines) == 7


def test_broken_plugins_are_listed_and_the_rest_goes_on(shelf: Shelf, write: Write) -> None:
    shelf.add("marketplace.bad", "raise ValueError('no')")
    shelf.add("play.bad", "raise ValueError('no')")
    host = Host.open(
        write(
            """\
            [plugins]
            use = ["bad", "greet"]
            [shops.a]
            use = "bad"
            [shops.b]
            use = "fake"
            [bad]
            anything = 1
            """
        ),
        plugins=shelf.plugins,
    )
    assert [(one.name, one.needed_by) for one in host.broken] == [
        ("marketplace.bad", "shop a"),
        ("play.bad", "playbook bad"),
    ]
    assert list(host.shops) == ["b"]
    assert host.setup({}).absent == {"bad"}
    assert [plugin.name for plugin in host.setup({}).plugins] == ["greet"]


PAGES = """
    from crmkit import Routes, Survey, hookimpl
    @hookimpl
    def crmkit_web(settings):
        yield Routes("not.imported.yet", scope="look")
        yield Survey("{survey}", {{"en": "Well?"}}, ())
"""


def test_plugins_bring_pages_and_surveys_and_no_router_is_imported(shelf: Shelf, write: Write) -> None:
    shelf.add("play.desk", PAGES.format(survey="delivery"))
    shelf.add("play.poll", PAGES.format(survey="taste"))
    host = Host.open(write('[plugins]\nuse = ["desk", "poll"]\n'), plugins=shelf.plugins)
    assert [(slug, routes.scope) for slug, routes in host.routes] == [("desk", "look"), ("poll", "look")]
    assert set(host.surveys) == {"delivery", "taste"}
    assert host.surveys["taste"].title == {"en": "Well?"}
    assert host.broken == []


def test_a_router_that_cannot_be_imported_is_told_when_the_configuration_is_checked(shelf: Shelf, write: Write) -> None:
    shelf.add("play.desk", PAGES.format(survey="one"))
    host = Host.open(write('[plugins]\nuse = ["desk"]\n'), plugins=shelf.plugins)
    (told,) = (str(finding) for finding in host.findings())
    assert "the router not.imported.yet cannot be imported: ModuleNotFoundError" in told
    assert "without it: the pages of play.desk" in told


def test_an_adapter_may_bring_pages(shelf: Shelf, write: Write) -> None:
    shelf.add("email.paged", MAIL.replace("post", "paged") + PAGES.format(survey="mail"))
    host = Host.open(write('[[channels.email]]\nuse = "paged"\n'), plugins=shelf.plugins)
    assert [slug for slug, _ in host.routes] == ["paged"]
    assert [entry.name for entry in host.channels["email"]] == ["paged"]


def test_two_surveys_of_one_name_are_told_apart_by_both_plugins_names_and_handlers_stay(
    shelf: Shelf, write: Write
) -> None:
    shelf.add("play.desk", PAGES.format(survey="taste"))
    shelf.add("play.poll", PAGES.format(survey="taste") + PLAY)
    host = Host.open(write('[plugins]\nuse = ["desk", "poll"]\n'), plugins=shelf.plugins)
    assert [(one.name, one.needed_by) for one in host.broken] == [("play.poll", "the pages of play.poll")]
    assert 'its survey "taste" is called like one of plugin play.desk' in str(host.broken[0].error)
    assert [slug for slug, _ in host.routes] == ["desk"]
    assert host.setup({}).listened >= {"order-shipped"}
    assert host.absent == []


def test_two_plugins_may_not_have_their_pages_at_one_address(shelf: Shelf, write: Write) -> None:
    shelf.add("play.paged", PAGES.format(survey="one"))
    shelf.add("email.paged", MAIL.replace("post", "paged") + PAGES.format(survey="two"))
    text = '[plugins]\nuse = ["paged"]\n[[channels.email]]\nuse = "paged"\n'
    host = Host.open(write(text), plugins=shelf.plugins)
    assert [str(one.error) for one in host.broken] == [
        "plugin email.paged (shelf_email_paged) load: its pages are at /paged/, as those of plugin play.paged;"
        " switch one off, or rename it"
    ]


def test_plugins_can_be_left_out_for_a_run(shelf: Shelf, write: Write) -> None:
    path = write('[plugins]\nuse = ["greet"]\n[greet]\nlimit = 1\n')
    assert Host.open(path, plugins=shelf.plugins, no_plugins=True).setup({}).absent == {"greet"}
    assert Host.open(path, plugins=shelf.plugins, only_plugins=["greet"]).setup({}).absent == frozenset()
    assert "is not switched on" in told(path, shelf, only_plugins=["other"])[0]


def test_a_playbook_may_be_one_file_beside_the_configuration(shelf: Shelf, write: Write, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        dedent(
            """
            from crmkit import OrderPaid, Send, hookimpl, on
            @on(OrderPaid)
            def thank(event, crm):
                yield Send("thanks")
            @hookimpl
            def crmkit_handlers():
                yield thank
            """
        )
    )
    host = Host.open(write('[plugins]\nuse = ["./mine.py"]\n'), plugins=shelf.plugins)
    assert host.setup({}).plugins[0].name == "mine"
    assert told(write('[plugins]\nuse = ["./mine.py"]\n[mine]\nx = 1\n'), shelf)[0].endswith("remove the section")


def test_a_playbook_says_what_its_rules_need(shelf: Shelf, write: Write) -> None:
    shelf.add(
        "play.late",
        """
        from crmkit import hookimpl
        @hookimpl
        def crmkit_handlers():
            return ()
        def check(settings, shops, templates):
            for shop, reports in shops.items():
                if "delivered" not in reports:
                    yield f"late watch needs delivered, which {shop} does not report"
        """,
    )
    host = Host.open(write('[plugins]\nuse = ["late"]\n[shops.a]\nuse = "fake"\n[late]\n'), plugins=shelf.plugins)
    assert [str(one) for one in host.findings()] == [
        f"{host.config.path}:5: late: late watch needs delivered, which a does not report"
    ]


def test_an_adapter_that_cannot_be_made_is_named(shelf: Shelf, write: Write) -> None:
    shelf.add(
        "marketplace.raises",
        """
        from crmkit import Source, hookimpl
        class A(Source):
            name = "raises"
            def __init__(self, *args):
                raise KeyError("x")
        @hookimpl
        def crmkit_sources():
            yield A
        """,
    )
    host = Host.open(write('[shops.a]\nuse = "raises"\n'), plugins=shelf.plugins)
    with pytest.raises(PluginError, match="a open: cannot be set up: KeyError"):
        host.source(host.shops["a"])
    assert "cannot be set up" in str(host.findings()[0])


def test_an_adapter_may_bring_handlers(shelf: Shelf, write: Write) -> None:
    shelf.add(
        "marketplace.talks",
        """
        from crmkit import OrderPaid, Source, hookimpl, on
        class A(Source):
            name = "talks"
        @on(OrderPaid)
        def thank(event, crm): ...
        @hookimpl
        def crmkit_sources():
            yield A
        @hookimpl
        def crmkit_handlers():
            yield thank
        """,
    )
    host = Host.open(write('[shops.a]\nuse = "talks"\n'), plugins=shelf.plugins)
    assert [plugin.name for plugin in host.setup({}).plugins] == ["marketplace.talks"]


def test_a_preset_may_know_the_zone_and_currency_of_its_shop(shelf: Shelf, write: Write) -> None:
    shelf.add(
        "marketplace.preset",
        """
        from crmkit import Source, SourceSettings, hookimpl
        class A(Source):
            name = "preset"
            class Settings(SourceSettings):
                timezone: str | None = "America/Sao_Paulo"
                currency: str | None = "BRL"
        @hookimpl
        def crmkit_sources():
            yield A
        """,
    )
    text = '[crm]\ntimezone = "UTC"\n[shops.a]\nuse = "preset"\n[shops.b]\nuse = "preset"\ntimezone = "Asia/Tokyo"\n'
    shops = Host.open(write(text), plugins=shelf.plugins).shops
    assert (shops["a"].account.timezone, shops["a"].account.currency) == ("America/Sao_Paulo", "BRL")
    assert (shops["b"].account.timezone, shops["b"].settings.timezone) == ("Asia/Tokyo", "Asia/Tokyo")


def test_plugins_bring_commands(shelf: Shelf, write: Write) -> None:
    shelf.add(
        "play.talks",
        """
        import click
        from crmkit import hookimpl
        @click.command()
        def hello(): ...
        @click.command("good-bye")
        def bye(): ...
        @hookimpl
        def crmkit_commands():
            yield hello
            yield "shelf_play_talks:bye"
        """,
    )
    shelf.add(
        "play.mute", "from crmkit import hookimpl\n@hookimpl\ndef crmkit_commands():\n    yield 'no.such:thing'\n"
    )
    host = Host.open(write('[plugins]\nuse = ["talks", "mute"]\n'), plugins=shelf.plugins)
    assert sorted(host.commands()) == ["good-bye", "hello"]
    assert [one.name for one in host.broken] == ["play.mute"]


def test_templates_and_gateways_of_approved_texts_are_held_against_each_other(
    shelf: Shelf, write: Write, tmp_path: Path
) -> None:
    for slug in ("heron", "kite"):
        shelf.add(
            f"sms.{slug}",
            f"""
            from crmkit import Caution, Gateway, hookimpl
            class A(Gateway):
                name = "{slug}"
                channel = "sms"
                reaches = ("phone",)
                needs_form = True
                def check_template(self, wording):
                    if not wording.form.sign_name:
                        yield "it has no sign_name"
                    if wording.form.template_id == "2":
                        yield Caution("2 is nearly used up")
            @hookimpl
            def crmkit_gateways():
                yield A
            """,
        )
    folder = tmp_path / "templates"
    folder.mkdir()

    def template(name: str, front: str) -> None:
        (folder / f"{name}.zh-CN.sms.txt").write_text(f'---\npurpose = "transactional"\n{front}\n---\n您好', "utf-8")

    signed = '{ template_id = "1", sign_name = "示例" }'
    template("both", f"gateways = {{ heron = {signed}, second = {signed} }}")
    template("unsigned", f'gateways = {{ heron = {{ template_id = "1" }}, kite = {signed} }}')
    template("half", f"gateways = {{ heron = {signed} }}")
    template("none", "")
    template("old", f'gateways = {{ heron = {{ template_id = "2", sign_name = "示例" }}, second = {signed} }}')
    file = write('[[channels.sms]]\nuse = "heron"\n[[channels.sms]]\nuse = "kite"\nname = "second"\n')
    host = Host.open(file, plugins=shelf.plugins)
    (warned,) = [one for one in host.findings() if "old.zh-CN.sms.txt: heron: 2 is nearly used up" in str(one)]
    assert warned.level == "warning"
    told = [str(found) for found in host.findings() if found != warned]
    assert [text for text in told if "unsigned.zh-CN.sms.txt: heron: it has no sign_name" in text]
    assert [text for text in told if "half.zh-CN.sms.txt: says nothing of the gateway second" in text]
    assert [text for text in told if "the gateway heron sends approved texts only, and cannot send none" in text]
    assert [text for text in told if "the gateway second sends approved texts only, and cannot send none" in text]
    assert len(told) == 4, told
    assert {one.name for one in host.gateway(host.channels["sms"][1]).wordings if one.form} == {
        *("both", "unsigned", "old")
    }


# --- one connection for two accounts ----------------------------------------------------------------------------------


def _sharing(connection: str, use: str = "post", more: str = "") -> str:
    return f"""
[[channels.email]]
use = "post"
name = "first"
[[channels.email]]
use = "{use}"
name = "second"
connection = "{connection}"
{more}
"""


def test_an_entry_may_use_the_connection_of_an_account_of_its_vendor(shelf: Shelf, write: Write) -> None:
    host = Host.open(write(_sharing("first")), plugins=shelf.plugins)
    assert host.problems == []
    assert [entry.connection for entry in host.channels["email"]] == [None, "first"]


@pytest.mark.parametrize(
    ("text", "told_of"),
    [
        (_sharing("frist"), 'no account "frist" is switched on; did you mean "first"?'),
        (_sharing("second"), 'no account "second" is switched on'),
        (
            _sharing("stall", more='[shops.stall]\nuse = "fake"'),
            '"stall" is an account of fake (), and this one of post',
        ),
        (
            _sharing("first", more='[[channels.email]]\nuse = "post"\nname = "third"\nconnection = "second"'),
            '"second" has no connection of its own; write connection = "first"',
        ),
    ],
    ids=["unknown", "itself", "of another vendor", "borrowed"],
)
def test_a_connection_that_cannot_be_shared_is_refused_at_its_line(
    shelf: Shelf, write: Write, text: str, told_of: str
) -> None:
    (line,) = told(write(text), shelf)
    assert ".connection: " in line
    assert told_of in line


def test_an_account_that_has_to_remember_is_warned_of_where_there_is_no_key(
    shelf: Shelf, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add(
        "sms.heron",
        """
        from crmkit import Gateway, GatewaySettings, hookimpl

        class HeronGateway(Gateway):
            name = "heron"
            channel = "sms"
            reaches = ("phone",)

            class Settings(GatewaySettings):
                token: str | None = None

            def __init__(self, settings, account, http):
                super().__init__(settings, account, http)
                self.remembers = settings.token is None

        @hookimpl
        def crmkit_gateways():
            yield HeronGateway
        """,
    )
    monkeypatch.delenv("CRMKIT_KEY", raising=False)
    bare = '[[channels.sms]]\nuse = "heron"\n'
    (warned,) = Host.open(write(bare), plugins=shelf.plugins).findings()
    assert (warned.level, warned.key) == ("warning", "channels.sms")
    assert "heron has to remember what it signs in with, and there is no key" in warned.what
    assert Host.open(write(f'{bare}token = "t"\n'), plugins=shelf.plugins).findings() == []
    monkeypatch.setenv("CRMKIT_KEY", "k" * 43)
    assert Host.open(write(bare), plugins=shelf.plugins).findings() == []


def test_a_template_for_a_channel_that_is_not_switched_on_is_warned_of_where_it_is_the_only_text(
    shelf: Shelf, write: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    front = '---\npurpose = "transactional"\n{}---\nHello'
    for name, subject in (("news.en.sms", ""), ("both.en.sms", ""), ("both.en.email", 'subject = "Hi"\n')):
        (folder / f"{name}.txt").write_text(front.format(subject))
    (warned,) = Host.open(write('[[channels.email]]\nuse = "post"\n'), plugins=shelf.plugins).findings()
    assert warned.level == "warning"
    assert "news.en.sms.txt: news is written for sms alone, where no gateway is switched on" in warned.what
    assert Host.open(write(""), plugins=shelf.plugins).findings() == []
