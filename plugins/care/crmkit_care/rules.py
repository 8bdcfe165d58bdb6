"""Rules of the configuration: on which event to send what, to whom, when."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, field_validator, model_validator

from crmkit import EVENTS, Action, Crm, Duration, Event, Handler, Later, Send, Shop, staff

from .condition import Condition, conditions

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class RuleDue(Event):
    """A delayed rule of care is due; `was_cancelled` is how the order stood when it was set."""

    rule: str
    was_cancelled: bool = False


class Rule(BaseModel):
    """One `[[care.rules]]`: on an event, send a template.

    Rules are tried in the order they are written; of several that would send one template to the same reader about one
    event, the first that applies does.
    """

    model_config = ConfigDict(extra="forbid")

    #: the event, by its wire name: `order-shipped`
    on: Name
    #: the template
    send: Name
    #: channels by preference: the first that can reach the reader
    via: Annotated[list[Name], Field(min_length=1)] = ["sms", "email"]
    #: `staff:TEAM` or `staff:PERSON`; the buyer where it is not given
    to: Annotated[str, StringConstraints(pattern=r"^staff:.+$")] | None = None
    #: conditions on the event, all of which must hold
    when: dict[str, Any] = {}
    #: send it this much later, if it still applies then
    delay: Duration = timedelta(0)
    #: wait so long for more of the kind (parcels of one order that leave one after the other) and send one message
    combine: Duration = timedelta(0)
    #: only for these shops
    shops: list[Name] = []
    #: `false` switches it off
    enabled: bool = True
    #: what the rule is called where two have the same event and template; delayed sends are kept under it
    name: Name | None = None

    _conditions: tuple[Condition, ...] = PrivateAttr(default=())

    @field_validator("on")
    @classmethod
    def _is_an_event(cls, on: str) -> str:
        if on not in EVENTS or EVENTS[on] is RuleDue:
            near = get_close_matches(on, EVENTS, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(EVENTS))}"
            raise ValueError(f"there is no event {on!r}; {hint}")
        return on

    @model_validator(mode="after")
    def _reads_when(self) -> "Rule":
        try:
            self._conditions = conditions(self.when, EVENTS[self.on])
        except ValueError as error:
            raise ValueError(f"when: {error}") from None
        return self

    @property
    def label(self) -> str:
        """What tells this rule from the others."""
        return self.name or ":".join(part for part in (self.on, self.send, self.to) if part)

    def is_for(self, shop: Shop | None) -> bool:
        """Whether the rule is switched on for a shop."""
        return not self.shops or (shop is not None and shop.name in self.shops)

    def applies(self, event: Event) -> bool:
        """Whether the rule has something to say to this event, now or after its delay."""
        if not self.is_for(event.shop):
            return False
        # what may change until it is due is looked at when it is due
        return all(item.holds(event) for item in self._conditions if not (self.delay and item.is_live))

    def still_applies(self, event: RuleDue) -> bool:
        """Whether a delayed rule that is due now is to be sent: the facts of now fit, nothing was cancelled since."""
        if event.order is not None and event.order.is_cancelled and not event.was_cancelled:
            return False
        return all(item.holds(event) for item in self._conditions if item.is_live)

    def message(self) -> Send:
        """What it sends."""
        to = staff(self.to.removeprefix("staff:")) if self.to else None
        return Send(self.send, via=tuple(self.via), to=to, combine=self.combine or None)


def handlers(rules: Sequence[Rule]) -> Iterator[Handler]:
    """One handler for each event that rules are on, and one for the delayed ones that are due."""
    live = [rule for rule in rules if rule.enabled]
    by_event: dict[str, list[Rule]] = defaultdict(list)
    for rule in live:
        by_event[rule.on].append(rule)
    for name, mine in by_event.items():
        yield Handler(EVENTS[name], _follower(name, mine))
    delayed = {rule.label: rule for rule in live if rule.delay}
    if delayed:

        def send_delayed(event: RuleDue, crm: Crm) -> Iterator[Action]:
            """Send what a rule delayed, if it still applies."""
            rule = delayed.get(event.rule)
            if rule is not None and rule.still_applies(event):
                yield rule.message()

        yield Handler(RuleDue, send_delayed)


def _follower(name: str, rules: Sequence[Rule]) -> Any:
    def follow(event: Event, crm: Crm) -> Iterator[Action]:
        """Send what the rules on this event say, or set the moment for it."""
        said: set[object] = set()
        for rule in rules:
            what = rule.label if rule.delay else (rule.send, rule.to)
            if what in said or not rule.applies(event):
                continue
            said.add(what)
            if not rule.delay:
                yield rule.message()
                continue
            at = event.at or crm.now
            if event.shop is not None and at < event.shop.announce_from:
                continue  # what happened before the shop was connected announces nothing, later either
            was_cancelled = event.order is not None and event.order.is_cancelled
            due = RuleDue(rule=rule.label, was_cancelled=was_cancelled)
            yield Later(due, at=at + rule.delay, key=f"rule:{rule.label}:{_subject(event)}")

    follow.__name__ = f"rules_on_{name.replace('-', '_')}"
    return follow


def _subject(event: Event) -> str:
    if event.order is not None:
        return f"order:{event.order.shop_id}:{event.order.external_id}"
    return f"customer:{event.customer.id}" if event.customer is not None else "shop"
