"""Schedules of plugins that are loaded: each is listed once, and a plugin that did not come up keeps its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from crmkit.core.errors import PluginError
from crmkit.host.document import Misconfigured
from crmkit.host.host import Host

from .conftest import Shelf

MORNING = """
    from crmkit import every, hookimpl

    @every("1d", at="09:00")
    def greet(event, crm): ...

    @hookimpl
    def crmkit_handlers():
        yield greet
"""


def test_a_schedule_is_a_handler(shelf: Shelf) -> None:
    shelf.add("play.morning", MORNING)
    [greet] = shelf.plugins.load("play", "morning").handlers(None)
    assert (greet.name, str(greet.schedule)) == ("greet", "every 1d at 09:00")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            MORNING.replace("yield greet", "return ()"),
            r"the handler greet \(@every\(1d at 09:00\)\) is yielded by no hook; yield it from crmkit_handlers",
        ),
        (
            MORNING.replace("yield greet", 'yield greet; yield every("1h")(greet.function)'),
            r"two functions marked with @every are called greet; rename one",
        ),
        (
            MORNING.replace('at="09:00"', 'at="9 am"'),
            r"shelf_play_morning.greet every: at='9 am' is no time of the day; write it like 09:00",
        ),
        (MORNING.replace('every("1d", at="09:00")', "every"), r"shelf_play_morning.greet every: @every says not how"),
    ],
)
def test_one_that_is_wrong_is_named(shelf: Shelf, source: str, why: str) -> None:
    shelf.add("play.morning", source)
    with pytest.raises(PluginError, match=why):
        shelf.plugins.load("play", "morning").handlers(None)


WEB = """
    from crmkit import Gateway, every, hookimpl

    class LameGateway(Gateway):
        name = "lame"
        channel = "sms"
        reaches = ("phone",)

    @every("1h")
    def look(event, crm): ...

    @hookimpl
    def crmkit_gateways():
        yield LameGateway

    @hookimpl
    def crmkit_handlers():
        yield look

    @hookimpl
    def crmkit_web():
        yield "no page"
"""


def test_an_adapter_of_which_only_the_pages_are_broken_is_there(shelf: Shelf, write: Callable[[str], Path]) -> None:
    shelf.add("sms.lame", WEB)
    path = write("""
        [crm]
        database = "sqlite:///crm.db"
        [[channels.sms]]
        use = "lame"
    """)
    host = Host.open(path, plugins=shelf.plugins)
    assert [one.name for one in host.broken] == ["sms.lame"]
    setup = host.setup({})
    assert [plugin.name for plugin in setup.plugins] == ["sms.lame"]
    assert not setup.away


def test_who_is_not_loaded_is_known_to_the_steps(shelf: Shelf, write: Callable[[str], Path]) -> None:
    shelf.add("play.morning", MORNING)
    shelf.add("sms.torn", "import no_such_module")
    path = write("""
        [crm]
        database = "sqlite:///crm.db"
        [plugins]
        use = ["morning"]
        [[channels.sms]]
        use = "torn"
    """)
    setup = Host.open(path, plugins=shelf.plugins).setup({})
    assert [handler.name for plugin in setup.plugins for handler in plugin.handlers] == ["greet"]
    assert not setup.absent
    assert setup.away == {"sms.torn"}
    assert Host.open(path, plugins=shelf.plugins, no_plugins=True).setup({}).away >= {"morning", "sms.torn"}


def test_in_safe_mode_an_adapters_package_decides_nothing_and_its_work_waits(
    shelf: Shelf, write: Callable[[str], Path]
) -> None:
    shelf.add("sms.lame", WEB.replace('yield "no page"', 'raise SystemExit("asked")'))
    shelf.add("play.morning", MORNING)
    path = write("""
        [crm]
        database = "sqlite:///crm.db"
        [plugins]
        use = ["morning"]
        [[channels.sms]]
        use = "lame"
    """)

    def opened(*only: str) -> Host:
        return Host.open(path, plugins=shelf.plugins, only_plugins=only)

    host = opened()
    setup = host.setup({})
    assert [entry.name for entry in host.channels["sms"]] == ["lame"]
    assert (setup.plugins, setup.absent, host.broken) == ([], {"morning", "sms.lame"}, [])
    setup = opened("morning").setup({})
    assert ([plugin.name for plugin in setup.plugins], setup.absent) == (["morning"], {"sms.lame"})
    host = opened("sms.lame")
    assert ([plugin.name for plugin in host.setup({}).plugins], host.absent) == (["sms.lame"], ["morning"])
    assert [one.name for one in host.broken] == ["sms.lame"]  # its pages were asked for
    with pytest.raises(Misconfigured, match=r"sms\.other. is not switched on"):
        opened("sms.other")
