"""The whole of crmkit.toml: the core's sections checked, the others kept for the adapters and plugins that own them."""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from crmkit.core.link import Links, key_of
from crmkit.host.document import Document, Place, Problem, field_names, nearest
from crmkit.host.reference import References
from crmkit.host.sections import (
    AccountSection,
    CrmSection,
    EntrySection,
    PluginsSection,
    PolicySection,
    RetentionSection,
    StaffSection,
    StagingSection,
    WebSection,
)

#: The core's sections, and what each is.
CORE: dict[str, type[BaseModel]] = {
    "crm": CrmSection,
    "plugins": PluginsSection,
    "shops": AccountSection,
    "sources": AccountSection,
    "channels": EntrySection,
    "policy": PolicySection,
    "staging": StagingSection,
    "web": WebSection,
    "retention": RetentionSection,
    "staff": StaffSection,
}
#: The section accounts of a kind stand in -> the family of their adapters.
FAMILIES = {"shops": "marketplace", "sources": "source"}

#: A key that is shorter can be guessed.
SHORTEST_KEY = 16

_NAME = re.compile(r"\w[\w-]*")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Account:
    """A configured shop or source: the core's keys, and the adapter's own as written."""

    name: str
    kind: str
    at: Place
    core: AccountSection
    rest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A configured gateway: the core's keys, and the adapter's own as written."""

    name: str
    channel: str
    at: Place
    core: EntrySection
    rest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration says, so far as it can be understood; `problems` is what cannot.

    Attributes:
        database: the database's address; a file's is absolute.
        use: the playbooks that are switched on, as written: slugs, and paths of one-file plugins.
        key: the secret what is remembered is encrypted with: `[crm] key`, else the environment's `CRMKIT_KEY`; or None.
        link_keys: the secrets the links of customers are signed with: `[web] link_keys`, else made of `key`; the first
            signs.
        sections: {name: table} of every section that is not the core's.
    """

    document: Document
    crm: CrmSection
    database: str
    key: SecretStr | None
    link_keys: tuple[SecretStr, ...]
    use: tuple[str, ...]
    accounts: tuple[Account, ...]
    entries: tuple[Entry, ...]
    policy: PolicySection
    staging: StagingSection | None
    web: WebSection
    retention: RetentionSection
    staff: tuple[StaffSection, ...]
    sections: Mapping[str, Any]
    references: References
    problems: tuple[Problem, ...]

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.document.path

    @property
    def folder(self) -> Path:
        """Relative paths in the configuration are relative to it."""
        return self.document.folder

    @property
    def links(self) -> Links | None:
        """Makes and reads the links customers are given; None where `[web] url` or a secret to sign with is missing."""
        if self.web.url is None or not self.link_keys:
            return None
        return Links(self.web.url, tuple(key_of(key.get_secret_value()) for key in self.link_keys))

    def webhook_url(self, account: str) -> str | None:
        """Where an account's webhooks come in; None where `[web] url` is not set."""
        return None if self.web.url is None else f"{self.web.url.rstrip('/')}/webhooks/{account}"


def load(path: Path) -> Config:
    """Read a configuration and check the core's part of it. What is wrong is in `problems`, all of it.

    Raises:
        Misconfigured: the file cannot be read or is not TOML.
    """
    return _Reading(Document.read(path)).config()


class _Reading:
    """One pass over a document, collecting problems."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.references = References(document)
        self.names: dict[str, Place] = {}

    def config(self) -> Config:
        values = self.document.values
        crm = self.section("crm", CrmSection)
        use = self.section("plugins", PluginsSection).use
        accounts = tuple(one for section in FAMILIES for one in self.accounts(section))
        entries = tuple(self.entries(tuple(one.name for one in accounts if one.kind == "shop")))
        key = self.key(crm.key)
        web = self.section("web", WebSection)
        link_keys = self.link_keys(web.link_keys) or (() if key is None else (key,))
        if web.url is not None and not link_keys:
            what, do = "there is no key to sign the links of customers with, so none are given", "set [crm] key"
            self.problems.append(self.document.problem(("web", "url"), what, do, level="warning"))
        return Config(
            document=self.document,
            crm=crm,
            database=self.database(crm.database),
            key=key,
            link_keys=link_keys,
            use=tuple(use),
            accounts=accounts,
            entries=entries,
            policy=self.section("policy", PolicySection),
            staging=self.section("staging", StagingSection) if "staging" in values else None,
            web=web,
            retention=self.section("retention", RetentionSection),
            staff=tuple(self.staff()),
            sections={name: value for name, value in values.items() if name not in CORE},
            references=self.references,
            problems=(*self.problems, *self.references.problems),
        )

    def complain(self, at: Place, what: str, do: str = "") -> None:
        self.problems.append(self.document.problem(at, what, do))

    def validate(self, model: type[M], value: Any, at: Place) -> M | None:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self.problems += self.document.problems_of(error, at, model)
            return None

    def section(self, name: str, model: type[M]) -> M:
        """One of the core's tables; its defaults where it is not there or wrong."""
        value = self.document.values.get(name, {})
        if not isinstance(value, dict):
            self.complain((name,), "is not a table", f"write [{name}]")
            return model()
        return self.validate(model, value, (name,)) or model()

    def split(self, model: type[M], value: Mapping[str, Any], at: Place) -> tuple[M | None, dict[str, Any]]:
        """The core's keys of a table, validated, and the rest of it."""
        own = set(field_names(model))
        core = self.validate(model, {key: item for key, item in value.items() if key in own}, at)
        return core, {key: item for key, item in value.items() if key not in own}

    def named(self, name: str, at: Place) -> bool:
        """Whether `name` may be this account's: names are unique over shops, sources and gateways."""
        if not _NAME.fullmatch(name):
            self.complain(at, f'the name "{name}" cannot be used', "use letters, digits, - and _")
            return False
        if name in self.names:
            other = self.document.problem(self.names[name], "")
            do = 'give one another name: name = "..."' if isinstance(at[-1], int) else "rename one"
            self.complain(at, f'the name "{name}" is taken by {other.key} (line {other.line})', do)
            return False
        self.names[name] = at
        return True

    def accounts(self, section: str) -> list[Account]:
        found = []
        for name, value in self.tables(section):
            at: Place = (section, name)
            if not isinstance(value, dict):
                self.complain(at, "is not a table", f"write [{section}.NAME] and below it its keys")
                continue
            core, rest = self.split(AccountSection, value, at)
            if self.named(name, at) and core is not None:
                found.append(Account(name, section.removesuffix("s"), at, core, rest))
        return found

    def entries(self, shops: tuple[str, ...]) -> list[Entry]:
        found = []
        for channel, value in self.tables("channels"):
            if not isinstance(value, list):
                self.complain(("channels", channel), "is not a list of gateways", f"write [[channels.{channel}]]")
                continue
            for number, table in enumerate(value):
                at: Place = ("channels", channel, number)
                if not isinstance(table, dict):
                    self.complain(at, "is not a table", f"write [[channels.{channel}]]")
                    continue
                core, rest = self.split(EntrySection, table, at)
                if core is None:
                    continue
                for shop in core.shops:
                    if shop not in shops:
                        self.complain((*at, "shops"), f'there is no shop "{shop}"', nearest(shop, shops))
                if self.named(core.name or core.use, at):
                    found.append(Entry(core.name or core.use, channel, at, core, rest))
        return found

    def tables(self, section: str) -> list[tuple[str, Any]]:
        value = self.document.values.get(section, {})
        if not isinstance(value, dict):
            self.complain((section,), "is not a table", f"write [{section}.NAME]")
            return []
        return list(value.items())

    def staff(self) -> list[StaffSection]:
        value = self.document.values.get("staff", [])
        if not isinstance(value, list):
            self.complain(("staff",), "is not a list of persons", "write [[staff]]")
            return []
        found: list[StaffSection] = []
        for number, table in enumerate(value):
            person = self.validate(StaffSection, table, ("staff", number))
            if person is None:
                continue
            if person.name in {other.name for other in found}:
                self.complain(("staff", number, "name"), f'there are two of "{person.name}"', "tell them apart")
                continue
            found.append(person)
        return found

    def database(self, written: str) -> str:
        """The database's address: a reference looked up, a relative file made absolute."""
        at: Place = ("crm", "database")
        address = str(self.references.resolve(written, at))
        scheme, there, rest = address.partition("://")
        if scheme.split("+")[0] in {"postgresql", "postgres"} and there:
            return address
        file, mark, options = rest.removeprefix("/").partition("?")
        if scheme != "sqlite" or not rest.startswith("/") or not file or file == ":memory:":
            if not any(problem.key == "crm.database" for problem in self.references.problems):
                shown = "" if "@" in address or at in self.references.written else f'found "{address}"; '
                self.complain(at, f"{shown}no database that can be used".strip(), _DATABASES)
            return address
        return f"sqlite:///{self.document.folder / file}{mark}{options}"

    def key(self, written: str | None) -> SecretStr | None:
        """The secret that what is remembered is encrypted with; it stands in the environment, or in a file."""
        at: Place = ("crm", "key")
        if written is not None:
            return self.secret(written, at)
        found = os.environ.get("CRMKIT_KEY", "")
        self.must_be_long(found, at)
        return SecretStr(found) if found else None

    def link_keys(self, written: list[str]) -> tuple[SecretStr, ...]:
        """The secrets links are signed with, the one that signs first."""
        found = [self.secret(one, ("web", "link_keys", number)) for number, one in enumerate(written)]
        return tuple(one for one in found if one is not None)

    def secret(self, written: str, at: Place) -> SecretStr | None:
        """A secret of the installation's own: it stands in the environment or in a file, and is long."""
        lost = len(self.references.problems)
        found = str(self.references.resolve(written, at))
        if at not in self.references.written:
            self.complain(at, "the key is written in the file", "write env:NAME or file:PATH")
        if len(self.references.problems) > lost:
            return None
        self.must_be_long(found, at)
        if written.startswith("file:"):
            self.must_be_hidden(self.references.file(written), at)
        return SecretStr(found) if found else None

    def must_be_hidden(self, file: Path, at: Place) -> None:
        """Warn of a key that every user of the machine can read."""
        if os.name == "posix" and file.stat().st_mode & stat.S_IROTH:
            what = f"every user of this machine can read the key in {file}"
            self.problems.append(self.document.problem(at, what, f"chmod o-rwx {file}", level="warning"))

    def must_be_long(self, key: str, at: Place) -> None:
        """Complain of a key that can be guessed."""
        if key and len(key) < SHORTEST_KEY:
            self.complain(at, f"the key is shorter than {SHORTEST_KEY} characters", "take a long random one")


_DATABASES = "write sqlite:///crm.db (beside this file), sqlite:////an/absolute/path.db or postgresql://user@host/name"
