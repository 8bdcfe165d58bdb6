"""Which plugins are installed, found by their entry points in the group `crmkit`, named `<family>.<slug>`.

Nothing is imported here. What is not installed is answered with what was looked for, what there is, and what to
install.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from crmkit.core.errors import ConfigError, PluginError
from crmkit.core.hooks import GROUP
from crmkit.host.document import nearest

PLAY = "play"
#: Families whose adapters are sources; `play` has playbooks, and every other family is a channel's gateways.
SOURCES = ("marketplace", "source")
#: The channels there are without any plugin.
CHANNELS = ("sms", "email", "call", "chat")

#: What we ship, by the distribution that brings it.
_OURS = {
    "marketplace.files": "crmkit-marketplace",
    "marketplace.woocommerce": "crmkit-marketplace",
    "email.smtp": "crmkit-email",
    "email.folder": "crmkit-email",
    "sms.twilio": "crmkit-sms",
    "sms.http": "crmkit-sms",
    "play.care": "crmkit-care",
}


@dataclass(frozen=True, slots=True)
class Found:
    """An installed plugin, not loaded."""

    family: str
    slug: str
    entry_point: EntryPoint
    distribution: str = ""
    version: str = ""

    @property
    def name(self) -> str:
        """`<family>.<slug>`."""
        return f"{self.family}.{self.slug}"

    @property
    def origin(self) -> str:
        """The distribution it comes with, and its version."""
        return f"{self.distribution} {self.version}".strip() or self.entry_point.value


class Catalogue:
    """The installed plugins.

    Args:
        points: the entry points to look among; by default those of this environment.
    """

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        self._found: dict[str, Found] = {}
        #: {name: distributions that each bring a plugin of this name}
        self._twice: dict[str, list[str]] = {}
        for point in entry_points(group=GROUP) if points is None else points:
            family, dot, slug = point.name.partition(".")
            if not dot or not slug:
                continue
            dist = point.dist
            found = Found(family, slug, point, dist.name if dist else "", dist.version if dist else "")
            known = self._found.setdefault(found.name, found)
            if known.entry_point.value != point.value:
                self._twice.setdefault(found.name, [known.origin]).append(found.origin)

    def every(self) -> list[Found]:
        """All that is installed, by name."""
        return [self._found[name] for name in sorted(self._found)]

    def slugs(self, family: str) -> list[str]:
        """What is installed of a family."""
        return sorted(found.slug for found in self._found.values() if found.family == family)

    def families(self) -> Mapping[str, list[str]]:
        """{slug: the families it is installed in}."""
        found: dict[str, list[str]] = {}
        for one in self.every():
            found.setdefault(one.slug, []).append(one.family)
        return found

    def channels(self) -> list[str]:
        """The channels a gateway may serve."""
        return sorted({*CHANNELS, *(f.family for f in self._found.values() if f.family not in {PLAY, *SOURCES})})

    def find(self, family: str, slug: str) -> Found:
        """The installed plugin of this name.

        Raises:
            ConfigError: it is not installed; its text says what to do.
            PluginError: it is installed twice, and nobody can say which one is meant.
        """
        name = f"{family}.{slug}"
        if name in self._twice:
            by = self._twice[name]
            what = f"is brought by {', '.join(by[:-1])} and by {by[-1]}"
            raise PluginError(what, who=f"plugin {name}", operation="load", do="uninstall one")
        if name not in self._found:
            raise self._missing(family, slug)
        return self._found[name]

    def _missing(self, family: str, slug: str) -> ConfigError:
        kind = {PLAY: "playbook", "marketplace": "marketplace adapter", "source": "source adapter"}.get(
            family, f"{family} gateway"
        )
        there = self.slugs(family)
        installed = f"installed are {', '.join(there)}" if there else "none is installed"
        what = f'there is no {kind} "{slug}" (looked for the entry point {family}.{slug} in group {GROUP}; {installed})'
        elsewhere = [other for other in self.families().get(slug, ()) if other != family]
        if elsewhere:
            return ConfigError(what, do=f'"{slug}" is installed for {_section(elsewhere[0])}')
        distribution = _OURS.get(f"{family}.{slug}")
        if distribution is not None:
            return ConfigError(what, do=f"pip install {distribution}")
        ours = {name.partition(".")[2]: dist for name, dist in _OURS.items() if name.startswith(f"{family}.")}
        advice = nearest(slug, {*there, *ours})
        if not advice.startswith("did you mean"):
            return ConfigError(what, do="install the distribution that brings it, or take one that is there")
        meant = advice.split('"')[1]
        install = f" (pip install {ours[meant]})" if meant not in there else ""
        return ConfigError(what, do=advice + install)


def _section(family: str) -> str:
    sections = {PLAY: "[plugins] use", "marketplace": "[shops.NAME]", "source": "[sources.NAME]"}
    return sections.get(family, f"[[channels.{family}]]")
