"""The machine's clock jumps, an hour forward or back, between runs and in the middle of one."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crmkit.adapters.adapter import Account
from crmkit.adapters.gateway import Gateway
from crmkit.core.actions import Send
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.message import Message, Receipt
from crmkit.engine import inward, local
from crmkit.engine.local import Local
from crmkit.store import tables as t
from tests.play import HOUR, MINUTE, NOON, Mail, Play, buyer, entry, order

JUMPS = [HOUR, -HOUR]


class Wall(datetime):
    """A clock on the wall that a test sets."""

    at = NOON

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return cls.at.astimezone(tz or UTC)


class Counting(Mail):
    """Takes everything; at its third message the clock jumps."""

    asked: list[str]
    jump = timedelta(0)

    async def deliver(self, message: Message) -> Receipt:
        self.asked.append(message.key)
        if len(self.asked) == 3:
            Wall.at += self.jump
        return message.accepted(vendor_id=message.key)


class Stage:
    """An engine on a play, by the clock on the wall."""

    migrations: dict[str, Path] = {}
    config = SimpleNamespace(crm=SimpleNamespace(instance=None), folder=Path("/nowhere"), path=Path("/nowhere/c.toml"))

    def __init__(self, play: Play) -> None:
        self.play, self.asked = play, list[str]()
        play.channels = {"email": [entry(Counting, "mail", concurrency=1)]}
        play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
        self.local = Local(self, play.store)  # type: ignore[arg-type]
        self.jump = timedelta(0)

    def setup(self, known: Any) -> Any:
        return self.play.setup

    def gateway(self, made: Any) -> Gateway:
        gateway = Counting(made.settings, Account("mail", "UTC", None, None, Path()), SimpleNamespace(aclose=_nothing))  # type: ignore[arg-type]
        gateway.asked, gateway.jump = self.asked, self.jump
        return gateway

    def dispatch(self) -> Any:
        return asyncio.run(self.local.dispatch())

    def places(self, *numbers: int) -> None:
        """Orders are placed now, by the shop's own clock, and read at once."""
        records = [order(str(number), buyer(f"b{number}"), Wall.at) for number in numbers]
        self.play.take(*records, now=Wall.at)


async def _nothing() -> None:
    pass


@pytest.fixture
def stage(play: Play, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(Wall, "at", NOON)
    monkeypatch.setattr(local, "datetime", Wall)
    monkeypatch.setattr(inward, "datetime", Wall)
    return Stage(play)


def all_are_told_once(stage: Stage, count: int) -> None:
    assert Counter(row["state"] for row in stage.play.rows(t.message)) == {"sent": count}
    assert len(stage.asked) == len(set(stage.asked)) == count
    assert stage.play.count(t.pending) == 0


@pytest.mark.parametrize("jump", JUMPS)
def test_between_runs_nothing_is_lost_and_nothing_doubled(stage: Stage, jump: timedelta) -> None:
    stage.places(1, 2)
    stage.dispatch()
    Wall.at = NOON + jump
    stage.places(3, 4)
    stage.dispatch()
    all_are_told_once(stage, 4)
    Wall.at = NOON + MINUTE
    stage.places(5)
    stage.dispatch()
    all_are_told_once(stage, 5)


def test_what_is_dated_ahead_of_a_clock_that_went_back_waits_for_it(stage: Stage) -> None:
    # SEMANTICS 2
    stage.places(1, 2)
    Wall.at = NOON - HOUR
    stage.dispatch()
    assert stage.asked == []
    assert stage.play.count(t.pending) > 0
    Wall.at = NOON
    stage.dispatch()
    all_are_told_once(stage, 2)


@pytest.mark.parametrize("jump", JUMPS)
# SEMANTICS 22
def test_in_the_middle_of_a_run_nothing_is_lost_and_nothing_doubled(stage: Stage, jump: timedelta) -> None:
    stage.places(*range(8))
    stage.jump = jump
    stage.dispatch()
    stage.jump = timedelta(0)
    for _ in range(3):  # whoever comes next finds what is left, once what was held is free again
        Wall.at = max(Wall.at, NOON) + 10 * MINUTE
        stage.dispatch()
    all_are_told_once(stage, 8)
