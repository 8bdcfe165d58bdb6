"""What `crmkit config check` tells of care's settings: templates that are not there, facts that no shop reports."""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from .rules import Rule

#: What a shop has to report for an event to ever happen there.
NEEDS = {
    "order-placed": "placed",
    "order-paid": "paid",
    "order-shipped": "shipped",
    "order-delivered": "delivered",
    "order-completed": "completed",
    "order-cancelled": "cancelled",
    "parcel-shipped": "parcels",
    "parcel-delivered": "parcels",
    "refund-requested": "refunds",
    "order-refunded": "refunds",
    "review-posted": "reviews",
    "shipment-late": "delivered",
}


def of_rule(
    number: int, rule: Rule, shops: Mapping[str, Collection[str]], templates: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """What is wrong with one rule, beside what its own reading told."""
    where = f"rules[{number}]"
    channels = templates.get(rule.send)
    if channels is None:
        near = get_close_matches(rule.send, templates, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(templates))}"
        yield f"{where}.send: there is no template {rule.send!r}; {hint}"
    elif not set(rule.via) & set(channels):
        yield f"{where}: the template {rule.send} is for {', '.join(sorted(channels))}, not for {', '.join(rule.via)}"
    for shop in rule.shops:
        if shop not in shops:
            yield f"{where}.shops: no shop {shop!r} is switched on"
    fact = NEEDS.get(rule.on)
    for shop in rule.shops or shops:
        if fact is not None and shop in shops and fact not in shops[shop]:
            yield (
                f"{where}: {rule.on} never happens at the shop {shop}, which does not report {fact};"
                f" name the shops it is for with shops = [...]"
            )
