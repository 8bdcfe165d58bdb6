"""What every playbook is held to, whether it handles events or judges messages: its settings, its season.

`HandlerContract` and `PolicyContract` inherit this; a test file inherits one of them, or both, and names the playbook.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from crmkit.core.events import Event
from crmkit.core.hooks import PluginSettings
from crmkit.flow.setup import Plugin
from crmkit.host.catalogue import PLAY
from crmkit.host.document import Document
from crmkit.host.plugins import Loaded
from crmkit.testing.clock import Clock
from crmkit.testing.installation import Installation, Named
from crmkit.testing.journey import Journey
from crmkit.testing.life import Life
from crmkit.testing.secrecy import secrets_in, told
from crmkit.testing.stand_in import SLUG
from crmkit.testing.watch import Watch

T = TypeVar("T")
#: A setting whose name holds one of these is a secret.
_TELLING = ("secret", "password", "passwd", "passphrase", "private_key", "access_token", "auth_token", "api_key")
#: Who else writes into logs, of what is not the playbook's doing.
_LOUD = ("sqlalchemy", "alembic", "asyncio", "aiohttp", "httpx", "httpcore", "faker", "hypothesis")
KEY = "a key that is long enough for contracts"


@dataclass
class Lived:
    """A season a playbook was put through.

    Attributes:
        printed: what was logged or printed meanwhile.
        messages: (key, template, recipient, state, text) of all messages at its end.
    """

    journey: Journey
    life: Life
    watch: Watch
    printed: str
    messages: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def crmkit(self) -> Installation:
        """Where."""
        return self.journey.crmkit


class Lives:
    """What the tests of a class share: each season is lived once.

    Args:
        install: installs crmkit.
    """

    def __init__(self, install: Callable[..., Installation]) -> None:
        self.install = install
        self._lived: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gave when it was asked first."""
        if name not in self._lived:
            self._lived[name] = make()
        found: T = self._lived[name]
        return found


class PlaybookContract:
    """What handlers and policies have in common.

    Class attributes:
        plugin: the playbook: its slug, the path of its file, or its module.
        config: TOML; its section, and whatever else it needs.
        templates: {`news.en.email`: its text} that are the shop's to write, and not in the playbook's `templates/`.
        locales: the languages it promises; the first is the shop's.
        channels: the stand-in gateways there are.
        events: what must happen, beside what always does, for all of it to be asked: events of the core's or its own,
            which happen to customers of all kinds. One that can be made up need not be named.
        lacks: {what it need not keep: why}; the tests of it are skipped and say so. What may stand there is told where
            a test asks for it.
    """

    plugin: ClassVar[Named]
    config: ClassVar[str] = ""
    templates: ClassVar[Mapping[str, str]] = {}
    locales: ClassVar[Sequence[str]] = ("en",)
    channels: ClassVar[Sequence[str]] = ("email", "sms")
    events: ClassVar[Sequence[Event]] = ()
    lacks: ClassVar[Mapping[str, str]] = {}

    lives: Lives
    monkeypatch: pytest.MonkeyPatch

    # --- what a test file may say otherwise -------------------------------------------------------------------------

    def live(self, life: Life) -> None:
        """What the playbook is put through: a season at a shop; a test file may let more happen (`life.journey`)."""
        life.live()

    # --- at work ----------------------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _at_work(self, crmkit_lives: Lives) -> None:
        self.lives = crmkit_lives

    def installed(self, *, clock: Clock | None = None, watch: Watch | None = None) -> Installation:
        """The playbook in an installation of its own, to which nothing has happened yet."""
        there = {line.partition("]")[0].strip(" [") for line in self.config.splitlines() if line.startswith("[")}
        parts = [self.config]
        if "crm" not in there:
            parts.append(f'[crm]\nlocale = "{self.locales[0]}"')
        if "web" not in there:
            parts.append('[web]\nurl = "https://crm.shop.example"\nlink_keys = ["env:CRMKIT_CONTRACT_KEY"]')
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CRMKIT_CONTRACT_KEY", KEY)
            return self.lives.install(
                self.plugin,
                clock=clock or Clock(),
                config="\n".join(parts),
                templates=self.templates,
                channels=self.channels,
                watch=watch,
                is_patient=True,
            )

    def lived(self, name: str = "first", *, is_strict: bool = True) -> Lived:
        """A season of this name, lived when it is first asked for."""
        return self.lives.once(name, lambda: self._live(is_strict=is_strict))

    def _live(self, *, is_strict: bool) -> Lived:
        watch = Watch(is_strict=is_strict)
        crmkit = self.installed(watch=watch)
        life = Life(Journey(crmkit), self.locales, self.events)
        with overheard() as heard:
            self.live(life)
        return Lived(life.journey, life, watch, heard.getvalue(), told_in(life.journey))

    def _loaded(self, crmkit: Installation) -> Loaded:
        """The playbook as it was loaded."""
        mine = [one for one in crmkit.host.plugins.loaded() if one.slug != SLUG]
        found = sorted(mine, key=lambda one: one.family != PLAY)
        assert found, f"{self.plugin} was not loaded"
        return found[0]

    def _plugin(self, crmkit: Installation) -> Plugin:
        loaded = self._loaded(crmkit)
        return next(
            (one for one in crmkit.host.playbooks if one.name in (loaded.slug, loaded.name)), Plugin(loaded.slug)
        )

    def needs(self, topic: str) -> None:
        """Skip a test that need not be kept: `lacks` says why."""
        if topic in self.lacks:
            pytest.skip(f"{self.plugin}: {self.lacks[topic]}")

    # --- settings ---------------------------------------------------------------------------------------------------

    def test_settings_hide_their_secrets(self) -> None:
        """Neither shown, nor dumped, nor told in what is wrong with the others."""
        crmkit = self.lives.once("settings", self.installed)
        settings = self._plugin(crmkit).settings
        if settings is None:
            pytest.skip(f"{self.plugin} takes no settings")
        for name in type(settings).model_fields:
            sounds = any(word in name.lower() for word in _TELLING)
            if sounds and isinstance(getattr(settings, name), str):
                pytest.fail(f"{self.plugin}: the setting {name} is shown; make it a SecretStr")
        secrets = list(secrets_in(settings))
        shown = "\n".join([repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()])
        assert told(shown, secrets) == [], f"{self.plugin}: its settings show a secret"
        given = _as_written(settings)
        for name in type(settings).model_fields:
            found = "\n".join(_problems(type(settings), {**given, name: object()}))
            assert told(found, secrets) == [], f"{self.plugin}: what is wrong with {name} shows a secret"

    def test_settings_name_what_is_missing(self) -> None:
        """Each required setting left out, and one too many."""
        crmkit = self.lives.once("settings", self.installed)
        settings = self._plugin(crmkit).settings
        if settings is None:
            pytest.skip(f"{self.plugin} takes no settings")
        assert isinstance(settings, PluginSettings)
        model, given = type(settings), _as_written(settings)
        for name, info in model.model_fields.items():
            if info.is_required():
                left = {key: value for key, value in given.items() if key not in (name, info.alias)}
                found = _problems(model, left)
                assert any((info.alias or name) in line for line in found), f"without {name}: {found}"
        found = _problems(model, {**given, "nonsense_key": 1})
        assert any("nonsense_key" in line for line in found), f"{self.plugin}: an unknown setting is taken: {found}"


def told_in(journey: Journey) -> list[tuple[Any, ...]]:
    """What a journey told and did not tell, to be compared."""
    return sorted((one.key, one.template, one.to or "", one.state, one.text or "") for one in journey.messages)


@contextlib.contextmanager
def overheard() -> Iterator[io.StringIO]:
    """What is logged or printed meanwhile."""
    heard = io.StringIO()
    handler, root = logging.StreamHandler(heard), logging.getLogger()
    handler.addFilter(lambda record: not record.name.startswith(_LOUD))
    before = root.level, root.handlers
    root.handlers = [handler]  # pytest would show all of it with whatever fails
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            yield heard
    finally:
        root.setLevel(before[0])
        root.handlers = before[1]


def _as_written(settings: BaseModel) -> dict[str, Any]:
    """Settings as they could stand in a file."""

    def plain(value: Any) -> Any:
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    fields = type(settings).model_fields
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return {fields[name].alias or name: plain(value) for name, value in given.items()}


def _problems(model: type[BaseModel], values: Mapping[str, Any]) -> list[str]:
    """What `crmkit config check` says of settings."""
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        document = Document(Path("crmkit.toml"), "", {}, {})
        return [str(one) for one in document.problems_of(error, ("section",), model)]
    except Exception as error:  # a validator that raises what it should not
        return [str(error)]
    return []
