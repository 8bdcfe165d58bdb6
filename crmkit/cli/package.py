"""Which package is meant by a distribution's or a plugin's name, a folder or a file, and where its source lies."""

import json
import tomllib
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from crmkit.core.errors import ConfigError
from crmkit.host.catalogue import PLAY, Catalogue


@dataclass(frozen=True, slots=True)
class Package:
    """What is looked at: an installed distribution, or a file.

    Attributes:
        names: its plugins, `FAMILY.SLUG`.
        folder: where its source and its tests lie, as far as that is known.
    """

    label: str
    names: tuple[str, ...]
    dist: Distribution | None = None
    folder: Path | None = None
    file: Path | None = None


def package_of(named: str) -> Package:
    """The package that is meant by a distribution's or a plugin's name, a folder or a file.

    Raises:
        ConfigError: there is none, or it is not installed.
    """
    path = Path(named)
    if path.suffix == ".py" and path.is_file():
        return Package(named, (f"{PLAY}.{path.stem}",), file=path.resolve())
    if path.is_dir():
        try:
            name = tomllib.loads((path / "pyproject.toml").read_text("utf-8"))["project"]["name"]
        except (OSError, KeyError, tomllib.TOMLDecodeError):
            raise _refused(f"{path / 'pyproject.toml'} names no project", "name the folder of a package") from None
        return _installed(str(name), path.resolve())
    points = {found.name: found for found in Catalogue().every()}
    meant = [found for found in points.values() if named in {found.name, found.slug}]
    if len({found.distribution for found in meant}) > 1:
        raise _refused(f"{named!r} is several plugins", f"say {' or '.join(found.name for found in meant)}")
    return _installed(meant[0].distribution if meant else named, None, only=named if meant else None)


def _installed(name: str, folder: Path | None, only: str | None = None) -> Package:
    try:
        dist = distribution(name)
    except PackageNotFoundError:
        do = f"pip install -e {folder}" if folder else "name a distribution, a plugin, a folder or a .py file"
        raise _refused(f"{name} is not installed", do) from None
    names = [point.name for point in dist.entry_points if point.group == "crmkit"]
    if only is not None:
        names = [one for one in names if only in {one, one.partition(".")[2]}]
    return Package(name, tuple(names), dist, folder or _source_of(dist))


def _source_of(dist: Distribution) -> Path | None:
    """Where an editable distribution lies."""
    try:
        url = json.loads(dist.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    where = urlsplit(url.get("url", ""))
    return Path(unquote(where.path)) if where.scheme == "file" and url.get("dir_info", {}).get("editable") else None


def _refused(what: str, do: str) -> ConfigError:
    return ConfigError(what, who="plugins", operation="check", do=do)
