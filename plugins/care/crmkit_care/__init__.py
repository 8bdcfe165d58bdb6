"""What to tell a buyer about an order, and when: rules from the configuration, and a watch for late shipments.

`rules` are `[[care.rules]]`, `late` is `[care.late]`; `condition` reads a rule's `when`; `findings` is what
`config check` tells of them. `proof` sends the codes that prove an address. The texts lie in `templates/`.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from pydantic import model_validator

from crmkit import Handler, PluginSettings, hookimpl

from . import findings as _findings
from . import late as _late
from . import proof as _proof
from . import rules as _rules
from .late import Late, ShipmentCheck
from .rules import Rule, RuleDue

__all__ = ["Late", "Rule", "RuleDue", "Settings", "ShipmentCheck", "check", "crmkit_handlers"]


class Settings(PluginSettings):
    """`[care]`: what is sent on which event, and the late-shipment watch."""

    rules: list[Rule] = []
    late: Late = Late()

    @model_validator(mode="after")
    def _tells_delayed_rules_apart(self) -> "Settings":
        count = Counter(rule.label for rule in self.rules if rule.delay)
        for label, times in count.items():
            if times > 1:
                raise ValueError(f'rules: {times} delayed rules are called {label}; give each a name = "..."')
        return self


@hookimpl
def crmkit_handlers(settings: Settings) -> Iterator[Handler]:
    """One handler for each event that rules are on, the late watch, and the codes that prove an address."""
    yield from _rules.handlers(settings.rules)
    on_late = [rule for rule in settings.rules if rule.enabled and rule.on == "shipment-late"]
    yield from _late.handlers(settings.late, on_late)
    yield _proof.send_code


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
