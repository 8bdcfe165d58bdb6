"""A new plugin, as a whole package that passes its own tests: what `crmkit plugins new` writes.

The files lie beside this one as they will be, with `.tmpl` at the end: those of `package/` for every kind, and a folder
for each. In them stand `$slug`, `$Name`, `$package` and the like, in names of folders `PACKAGE` and `SLUG`.
"""

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

from crmkit import __version__
from crmkit.core.errors import ConfigError
from crmkit.host.catalogue import PLAY, SOURCES, Catalogue
from crmkit.host.config import CORE
from crmkit.host.plugins import PATHS

#: So many characters, and lines of what is written stay within their length.
_LONGEST = 24
_HERE = Path(__file__).parent
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
#: Where a word begins within `MyHeron`.
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: Names our own packages have, installed or not.
_OURS = frozenset("bridge call campaign care chat cluster console email insight loyalty marketplace sales".split())
_TAKEN = _OURS | {"service", "sms", "survey", "testing", "voice"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of plugin.

    Attributes:
        family: of its entry point.
        about: its description, with `$Name`.
        requires: what of crmkit it needs.
    """

    family: str
    about: str
    requires: str = "crmkit"


KINDS = {
    "sms": Kind("sms", "Text messages through $Name: a gateway of crmkit"),
    "email": Kind("email", "E-mail through $Name: a gateway of crmkit"),
    "source": Kind(SOURCES[0], "Orders of shops at $Name: a source of crmkit"),
    "playbook": Kind(PLAY, "$Name: a playbook of crmkit", "crmkit[web]"),
}


def write(kind: str, name: str, into: Path) -> Path:
    """Write a package.

    Args:
        kind: of `KINDS`.
        name: its slug.
        into: the folder that the package's own folder goes into.

    Returns:
        The package's folder, `crmkit-NAME`.

    Raises:
        ConfigError: the name cannot be used, or something lies there already; nothing is written.
    """
    known = KINDS[kind]
    _check(known, name)
    values = _values(known, name)
    target = into / values["distribution"]
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise _refused(f"{target} is there already, and not empty", "name another folder with --into, or remove it")
    files = list(_files(kind, values))
    try:
        into.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=into) as place:  # whole, or not at all
            made = Path(place) / target.name
            for path, text in files:
                file = made / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, "utf-8", newline="\n")
            made.rename(target)  # an empty folder there gives way
    except OSError as error:
        raise _refused(f"{error.filename} cannot be written ({error.strerror})", "name another folder") from error
    return target


def _values(kind: Kind, name: str) -> dict[str, str]:
    title = "".join(part.capitalize() for part in name.split("_"))
    major, minor, *_ = __version__.split(".")
    return {
        "slug": name,
        "SLUG": name.upper(),
        "Name": title,
        "package": f"crmkit_{name}",
        "distribution": f"crmkit-{name.replace('_', '-')}",
        "family": kind.family,
        "about": Template(kind.about).substitute(Name=title),
        "requires": kind.requires,
        "version": f"{major}.{minor}",
    }


def _files(kind: str, values: dict[str, str]) -> Iterator[tuple[Path, str]]:
    """(path within the package's folder, its text)."""
    for root in (_HERE / "package", _HERE / kind):
        for file in sorted(root.rglob("*.tmpl")):
            parts = [
                part.replace("PACKAGE", values["package"]).replace("SLUG", values["slug"])
                for part in file.relative_to(root).parts
            ]
            name = parts[-1].removesuffix(".tmpl")
            parts[-1] = ".gitignore" if name == "gitignore" else name
            yield Path(*parts), Template(file.read_text("utf-8")).substitute(values)


def _check(kind: Kind, name: str) -> None:
    """Refuse a name that could not be used."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        near = re.sub(r"[^a-z0-9]+", "_", _WORD.sub("_", name).lower()).lstrip("_0123456789")[:_LONGEST].strip("_")
        do = "write a-z, 0-9 and _, a letter first" + (f": {near}" if _NAME.fullmatch(near) else "")
        raise _refused(f"{name!r} cannot be the name of a plugin", do)
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or len(name) < 2:
        raise _refused(f"{name!r} cannot be the name of a plugin", "take another, of at least two letters")
    if kind.family == PLAY and (name in CORE or name in PATHS):
        what = "a section of crmkit.toml" if name in CORE else "a path of crmkit's own pages"
        raise _refused(f"{name!r} is {what}", "take another")
    found = next((one for one in Catalogue().every() if one.name == f"{kind.family}.{name}"), None)
    if found is not None:
        raise _refused(f"the plugin {found.name} is installed already, from {found.origin}", "take another name")
    if name in _TAKEN or find_spec(f"crmkit_{name}") is not None:
        raise _refused(f"there is a package crmkit_{name} already", "take another name")


def _refused(what: str, do: str) -> ConfigError:
    return ConfigError(what, who="plugins", operation="new", do=do)
