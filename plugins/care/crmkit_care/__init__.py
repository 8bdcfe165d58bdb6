"""What to tell a buyer about an order, and when: rules from the configuration, and a watch for late shipments.

`rules` are `[[care.rules]]`, `late` is `[care.late]`; `condition` reads a rule's `when`; `findings` is what
`config check` tells of them. `proof` sends the codes that prove an address. `silence` is `[care.silence]` and `digest`
`[care.digest]`: what the team hears of the shop itself. The texts lie in `templates/`.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from pydantic import model_validator

from crmkit import Handler, PluginSettings, hookimpl

from . import digest as _digest
from . import findings as _findings
from . import late as _late
from . import proof as _proof
from . import rules as _rules
from . import silence as _silence
from .digest import Digest
from .late import Late, ShipmentCheck
from .rules import Rule, RuleDue
from .silence import Silence

__all__ = ["Digest", "Late", "Rule", "RuleDue", "Settings", "ShipmentCheck", "Silence", "check", "crmkit_handlers"]


class Settings(PluginSettings):
    """`[care]`: what is sent on which event, the late-shipment watch, and what the team hears of the shop itself."""

    rules: list[Rule] = []
    late: Late = Late()
    silence: Silence = Silence()
    digest: Digest = Digest()

    @model_validator(mode="after")
    def _tells_delayed_rules_apart(self) -> "Settings":
        count = Counter(rule.label for rule in self.rules if rule.delay)
        for label, times in count.items():
            if times > 1:
                raise ValueError(f'rules: {times} delayed rules are called {label}; give each a name = "..."')
        return self


@hookimpl
def crmkit_handlers(settings: Settings) -> Iterator[Handler]:
    """A handler for each event that rules are on, the late watch, codes that prove addresses, silences, the digest."""
    yield from _rules.handlers(settings.rules)
    on_late = [rule for rule in settings.rules if rule.enabled and rule.on == "shipment-late"]
    yield from _late.handlers(settings.late, on_late)
    yield _proof.send_code
    yield from _silence.handlers(settings.silence, settings.rules)
    yield from _digest.handlers(settings.digest, settings.late.grace)


def check(
    settings: Settings, shops: Mapping[str, Collection[str]], templates: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """What `config check` tells: rules whose template is not there, or whose event never happens at their shops.

    Args:
        settings: care's section.
        shops: {shop: what it reports}.
        templates: {template: the channels there is one for}.
    """
    for number, rule in enumerate(settings.rules, 1):
        if rule.enabled:
            yield from _findings.of_rule(number, rule, shops, templates)
