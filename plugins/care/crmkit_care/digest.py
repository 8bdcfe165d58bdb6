"""The digest: once a day the team hears what is late, held, in doubt, bounced or silent; nothing where all is well."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crmkit import Action, Crm, Duration, Handler, PluginError, ScheduleDue, Send, every, staff

from .rules import Name


class Digest(BaseModel):
    """`[care.digest]`: when the team hears how it stands, and who hears it."""

    model_config = ConfigDict(extra="forbid")

    #: `false` switches it off
    enabled: bool = True
    #: the team or the person who hears it; nobody where it is not given
    to: Name | None = None
    #: channels by preference
    via: Annotated[list[Name], Field(min_length=1)] = ["email"]
    #: how often: whole days or weeks
    every: Duration = timedelta(days=1)
    #: the local time of day
    at: str = "08:00"
    #: the day, where it is by the week
    on: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] | None = None
    #: how many orders of each kind are named
    worst: Annotated[int, Field(ge=0, le=20)] = 3
    #: say too that all is well
    always: bool = False

    @model_validator(mode="after")
    def _is_a_schedule(self) -> "Digest":
        try:
            every(self.every, at=self.at, on=self.on)(_nothing)
        except PluginError as error:
            raise ValueError(f"{error.what}; {error.do}") from None
        return self


def _nothing(event: ScheduleDue, crm: Crm) -> Iterator[Action]:
    """Stands for a function, to see whether a schedule is one."""
    yield from ()


def handlers(digest: Digest, grace: timedelta) -> Iterator[Handler]:
    """The digest's schedule.

    Args:
        grace: an order is late so long after it was promised.
    """
    if not digest.enabled or digest.to is None:
        return
    to = staff(digest.to)

    @every(digest.every, at=digest.at, on=digest.on)
    def tell_how_it_stands(event: ScheduleDue, crm: Crm) -> Iterator[Action]:
        """Count what is amiss, and what of it is new since the slot before."""
        until = event.at or crm.now
        troubles = crm.troubles(until - digest.every, until, grace=grace, worst=digest.worst)
        if troubles or digest.always:
            told = [
                {"kind": one.kind, "count": one.count, "fresh": one.fresh, "named": list(one.named)} for one in troubles
            ]
            yield Send("digest", via=tuple(digest.via), to=to, context={"troubles": told})

    yield tell_how_it_stands
