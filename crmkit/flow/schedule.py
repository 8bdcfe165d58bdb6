"""Schedules: a function marked with `@every` has one timer, which is armed again in the transaction that fires it.

The timer is the plugin's own, keyed by the function's name: the database has it once, however many processes run. A
slot that came becomes an interaction of a key of its own, decided like any other: a function that raises is tried again
and parked for that slot, and the next slot comes all the same. Slots that passed while nothing ran are one: the last.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.events import ScheduleDue
from crmkit.core.schedule import Schedule
from crmkit.flow.setup import Setup
from crmkit.store import log


def keep(tx: Connection, setup: Setup, now: datetime) -> None:
    """Arm what is not armed yet, move what is scheduled otherwise than it was, let go of what is scheduled no more.

    A plugin that is switched on and was not loaded keeps its timers. While another worker sees to schedules, nothing
    is done: the next run finds what is left.

    Args:
        now: the run's clock; the first slot is the one after it.
    """
    if not _changes(setup, log.schedules(tx), now) or not log.hold_schedules(tx):
        return
    log.set_timers(tx, _changes(setup, log.schedules(tx), now))


def fire(tx: Connection, setup: Setup, now: datetime) -> int:
    """Turn slots that came into interactions, and arm the next. Returns how many; none while another worker does so."""
    wanted = _wanted(setup)
    if not wanted or not log.schedules(tx, now).keys() & wanted.keys() or not log.hold_schedules(tx):
        return 0
    due = {name: row for name, row in log.schedules(tx, now).items() if name in wanted}
    told = log.append(tx, [_slot(setup, wanted[name], row, now) for name, row in due.items()], (), now)
    log.put_back(tx, [_work(row) for row in told])
    log.set_timers(tx, {name: _timer(setup, name, wanted[name], now) for name in due})
    return len(told)


def _wanted(setup: Setup) -> dict[log.TimerName, Schedule]:
    """The schedules of the loaded plugins, by the names of their timers."""
    return {
        (plugin.name, f"{log.SCHEDULE}{handler.name}"): handler.schedule
        for plugin in setup.plugins
        for handler in plugin.handlers
        if handler.schedule is not None
    }


def _changes(
    setup: Setup, armed: Mapping[log.TimerName, Mapping[str, Any]], now: datetime
) -> dict[log.TimerName, dict[str, Any] | None]:
    """Timers to set, and those to remove. What is due already still is: it moves when it is fired."""
    wanted = _wanted(setup)
    changes: dict[log.TimerName, dict[str, Any] | None] = {
        name: None for name in armed if name not in wanted and name[0] not in setup.away
    }
    for name, schedule in wanted.items():
        known = armed.get(name)
        if known is None or (known["due_at"] > now and _said(known, "rule") != _rule(setup, schedule)):
            changes[name] = _timer(setup, name, schedule, now)
    return changes


def _timer(setup: Setup, name: log.TimerName, schedule: Schedule, now: datetime) -> dict[str, Any]:
    """The timer of the first slot after `now`."""
    plugin, key = name
    return {
        "plugin": plugin,
        "key": key,
        "type": ScheduleDue.name,
        "due_at": schedule.after(now, setup.zone),
        "profile_id": None,
        "shop_id": None,
        "order_id": None,
        "payload": {"rule": _rule(setup, schedule), "schedule": key.removeprefix(log.SCHEDULE)},
        "cause_id": None,
        "depth": 0,
        "correlation_id": None,
    }


def _rule(setup: Setup, schedule: Schedule) -> str:
    """By what a timer was armed: where that is another than before, so are its slots."""
    return f"{schedule} in {setup.zone.key}" if schedule.at is not None else str(schedule)


def _slot(setup: Setup, schedule: Schedule, timer: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The interaction of the last slot that came."""
    at = max(timer["due_at"], schedule.latest(now, setup.zone))
    name = timer["key"].removeprefix(log.SCHEDULE)
    told = log.interaction_of({**timer, "due_at": at, "payload": {"schedule": name}})
    return {**told, "key": f"{timer['plugin']}:{ScheduleDue.name}:{name}:{at.isoformat()}"}


def _work(told: Mapping[str, Any]) -> dict[str, Any]:
    """A slot is its own plugin's work, which waits for it where it is not loaded."""
    plugin = told["actor"].removeprefix("plugin:")
    return {"interaction_id": told["id"], "profile_id": None, "plugin": plugin, "due_at": told["occurred_at"]}


def _said(timer: Mapping[str, Any], name: str) -> Any:
    return (timer["payload"] or {}).get(name)
