import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent

import pytest

from crmkit.host.catalogue import Catalogue
from crmkit.host.plugins import Plugins

SHOP = """
    from crmkit import Source, SourceSettings, hookimpl
    from pydantic import SecretStr

    class FakeSource(Source):
        name = "fake"
        reports = {"placed", "shipped"}

        class Settings(SourceSettings):
            path: str = "."
            pages: int = 1
            token: SecretStr | None = None

    @hookimpl
    def crmkit_sources():
        yield FakeSource
"""
MAIL = """
    from crmkit import Gateway, GatewaySettings, hookimpl
    from pydantic import SecretStr

    class PostGateway(Gateway):
        name = "post"
        channel = "email"
        reaches = ("email",)

        class Settings(GatewaySettings):
            host: str = "localhost"
            password: SecretStr | None = None

    @hookimpl
    def crmkit_gateways():
        yield PostGateway
"""
PLAY = """
    from crmkit import OrderShipped, PluginSettings, Send, hookimpl, on

    class Settings(PluginSettings):
        greeting: str = "hello"
        limit: int = 3

    @on(OrderShipped)
    def tell(event, crm):
        yield Send("order-shipped")

    @hookimpl
    def crmkit_handlers(settings):
        yield tell
"""


class Shelf:
    """A set of installed plugins, made of text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.points: list[EntryPoint] = []

    def add(self, name: str, source: str, module: str | None = None) -> None:
        module = module or f"shelf_{name.replace('.', '_')}"
        (self.folder / f"{module}.py").write_text(dedent(source))
        self.points.append(EntryPoint(name, module, "crmkit"))

    @property
    def plugins(self) -> Plugins:
        return Plugins(Catalogue(self.points))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    made = Shelf(folder)
    made.add("marketplace.fake", SHOP)
    made.add("email.post", MAIL)
    made.add("play.greet", PLAY)
    yield made
    for name in set(sys.modules) - before:
        if name.startswith(("shelf_", "crmkit_plugin_")):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a crmkit.toml and gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "crmkit.toml"
        path.write_text(dedent(text), "utf-8")
        return path

    return write
