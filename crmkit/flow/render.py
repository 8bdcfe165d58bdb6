"""Templates by name: which file speaks to a reader of some language, over some channel, for some shop.

A template is a file `<name>.<locale>.<channel>.txt`, for e-mail with an `.html` beside it. It is looked for in
`templates/<SHOP>/` and `templates/` beside crmkit.toml, then in the `templates/` of each plugin. Language goes before
place: a reader is told in the own language by a plugin's template rather than in another by the shop's.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from crmkit.core.errors import ConfigError
from crmkit.flow.context import context_of
from crmkit.flow.sandbox import MissingVariable
from crmkit.flow.template import Rendered, Template

__all__ = ["MissingVariable", "Rendered", "Template", "Templates", "context_of", "locale_chain"]


@lru_cache(maxsize=1024)
def locale_chain(*wanted: str | None) -> tuple[str, ...]:
    """The locales to try, each followed by what it is a case of; English comes last: ("zh-CN", "zh", "en")."""
    chain: dict[str, None] = {}
    for locale in (*wanted, "en"):
        parts = canonical(locale).split("-") if locale else []
        for length in range(len(parts), 0, -1):
            chain["-".join(parts[:length])] = None
    return tuple(chain)


def canonical(locale: str) -> str:
    """`zh_hans_cn` as it is usually written: `zh-Hans-CN`. An encoding (`.UTF-8`) or modifier (`@euro`) is dropped."""
    language, *rest = locale.strip().partition(".")[0].partition("@")[0].replace("_", "-").split("-")
    return "-".join([language.lower(), *(part.title() if len(part) == 4 else part.upper() for part in rest if part)])


class Templates:
    """Every template of an installation: listed at once, read and compiled when first asked for.

    Args:
        folders: the plugins' folders of templates; earlier ones go first.
        root: the folder of crmkit.toml; None where there is none.
    """

    def __init__(self, folders: Sequence[Path], root: Path | None) -> None:
        self._own = None if root is None else root / "templates"
        self._folders = list(folders)
        #: {(name, channel): {(shop or None, place): {locale: file}}}
        self._files: dict[tuple[str, str], dict[tuple[str | None, int], dict[str, Path]]] = defaultdict(dict)
        self._read: dict[Path, Template] = {}
        self._found: dict[tuple[str, str, tuple[str, ...], str | None], Path | None] = {}
        self._strays: list[ConfigError] = []
        if self._own is not None and self._own.is_dir():
            for folder in sorted(path for path in self._own.iterdir() if path.is_dir()):
                self._list(folder, (folder.name, 0))
            self._list(self._own, (None, 1))
        for place, folder in enumerate(self._folders, 2):
            self._list(folder, (None, place))

    def _list(self, folder: Path, place: tuple[str | None, int]) -> None:
        if not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if path.suffix == ".html" and not path.with_suffix(".txt").is_file():
                self._stray(path, "HTML without the text beside it", f"add {path.with_suffix('.txt').name}")
            elif path.suffix == ".txt":
                name, *rest = path.stem.rsplit(".", 2)
                if len(rest) != 2 or not all((name, *rest)):
                    self._stray(path, "no name of a template", "call it <name>.<locale>.<channel>.txt")
                    continue
                self._files[name, rest[1]].setdefault(place, {}).setdefault(canonical(rest[0]), path)

    def _stray(self, path: Path, what: str, do: str) -> None:
        self._strays.append(ConfigError(what, who=str(path), operation="template", do=do))

    def find(self, name: str, channel: str, locales: Sequence[str], shop: str | None = None) -> Template | None:
        """The template for a reader of `locales` (see `locale_chain`); None if there is none in any of them.

        A language without a region (`zh`) is also answered by a template for one of its regions (`zh-CN`).

        Raises:
            ConfigError: it was found and cannot be used.
        """
        wanted = (name, channel, tuple(locales), shop)
        if wanted not in self._found:
            self._found[wanted] = next(self._candidates(*wanted), None)
        path = self._found[wanted]
        return None if path is None else self._template(path)

    def _candidates(self, name: str, channel: str, locales: tuple[str, ...], shop: str | None) -> Iterator[Path]:
        places = self._files.get((name, channel), {})
        files = [places[place] for place in sorted(places, key=lambda at: at[1]) if place[0] in (None, shop)]
        for locale in locales:
            yield from (found[locale] for found in files if locale in found)
            if "-" not in locale:
                for found in files:
                    yield from (found[other] for other in sorted(found) if other.startswith(f"{locale}-"))

    def _template(self, path: Path) -> Template:
        if path not in self._read:
            name, locale, channel = path.stem.rsplit(".", 2)
            self._read[path] = Template.from_file(path, name=name, locale=canonical(locale), channel=channel)
        return self._read[path]

    def names(self) -> list[str]:
        """The names of all templates."""
        return sorted({name for name, _ in self._files})

    def channels(self, name: str) -> list[str]:
        """The channels there is a template `name` for."""
        return sorted(channel for known, channel in self._files if known == name)

    def own(self) -> dict[str, list[Path]]:
        """The files of the configuration's own templates, by name."""
        found: dict[str, list[Path]] = {}
        for (name, _), places in self._files.items():
            found.setdefault(name, []).extend(p for (_, at), files in places.items() if at <= 1 for p in files.values())
        return {name: sorted(files) for name, files in found.items() if files}

    def places(self, shop: str | None = None) -> list[Path]:
        """Where a template is looked for, in order: what an error about a missing one says."""
        own = [] if self._own is None else [*([self._own / shop] if shop else []), self._own]
        return [*own, *self._folders]

    def every(self, channel: str) -> list[Template]:
        """All templates for a channel; those that cannot be used are left out (`check` names them)."""
        found = []
        for path in self._paths(channel):
            try:
                found.append(self._template(path))
            except ConfigError:
                continue
        return found

    def _paths(self, channel: str | None = None) -> Iterator[Path]:
        for (_, known), places in self._files.items():
            if channel in (None, known):
                yield from (path for files in places.values() for path in files.values())

    def missing_locales(self, name: str, channel: str, locales: Iterable[str], shop: str | None = None) -> list[str]:
        """Those of `locales` whose readers would be told in another language, or not at all."""
        return [
            locale
            for locale in locales
            if not any(self._candidates(name, channel, locale_chain(locale)[: 1 + canonical(locale).count("-")], shop))
        ]

    def check(self) -> list[ConfigError]:
        """What is wrong with any template, each with its file: for `config check`."""
        found = list(self._strays)
        for path in self._paths():
            try:
                self._template(path)
            except ConfigError as error:
                found.append(error)
        return found
