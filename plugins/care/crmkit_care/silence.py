"""Silence: the team is told once when a shop or a gateway is silent for longer than usual, and once when it is over."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from crmkit import Action, Crm, Handler, Send, SilenceEnded, SilenceNoticed, on, staff

from .rules import Name, Rule


class Silence(BaseModel):
    """`[care.silence]`: who is told of a silence.

    A rule on `silence-noticed` (or `silence-ended`) to staff takes the place of care's own message.
    """

    model_config = ConfigDict(extra="forbid")

    #: `false` switches it off
    enabled: bool = True
    #: the team or the person who is told; nobody where it is not given
    to: Name | None = None
    #: channels by preference
    via: Annotated[list[Name], Field(min_length=1)] = ["email"]
    #: say too when it is over
    tell_end: bool = True


def handlers(silence: Silence, rules: Sequence[Rule] = ()) -> Iterator[Handler]:
    """The telling of what no rule tells."""
    if not silence.enabled or silence.to is None:
        return
    by_rule = {rule.on for rule in rules if rule.enabled and rule.to}

    @on(SilenceNoticed)
    def tell_of_silence(event: SilenceNoticed, crm: Crm) -> Iterator[Action]:
        """Tell the team what is silent, since when, and what was to come."""
        context = {
            "what": event.what,
            "kind": event.kind,
            "account": event.account,
            "since": event.since,
            "expected": event.expected,
            "usual_hours": event.usual_hours,
        }
        yield _send(silence, "silence", context)

    @on(SilenceEnded)
    def tell_of_its_end(event: SilenceEnded, crm: Crm) -> Iterator[Action]:
        """Tell the team that something came again."""
        times = {"since": event.since, "until": event.until}
        yield _send(
            silence, "silence-ended", {"what": event.what, "kind": event.kind, "account": event.account, **times}
        )

    if SilenceNoticed.name not in by_rule:
        yield tell_of_silence
    if silence.tell_end and SilenceEnded.name not in by_rule:
        yield tell_of_its_end


def _send(silence: Silence, template: str, context: Mapping[str, object]) -> Send:
    assert silence.to is not None
    known = {name: value for name, value in context.items() if value is not None}
    return Send(template, via=tuple(silence.via), to=staff(silence.to), context=known)
