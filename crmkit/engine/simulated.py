"""A simulated run: the clock steps from due time to due time, in one transaction that is rolled back."""

from datetime import UTC, datetime

from sqlalchemy.engine import Connection

from crmkit.engine.dry_run import Rehearsing, Setting, decided, handed
from crmkit.engine.due import due_next, gateways_due
from crmkit.engine.plan import Plan
from crmkit.flow import schedule
from crmkit.flow.claim import sweep
from crmkit.flow.setup import Setup
from crmkit.store import outbox


def simulated(store: Rehearsing, setting: Setting, until: datetime) -> Plan:
    """A plan of a simulated run: the clock steps from due time to due time up to `until`, in one transaction."""
    plan = Plan(until)
    with store.rehearse() as tx:
        setup = setting(tx)
        schedule.keep(tx, setup, until)
        sweep(tx, setup, until, datetime.now(UTC))
        names = frozenset(entry.name for entries in setup.channels.values() for entry in entries)
        names = names.union(outbox.gateways_waiting(tx))
        stuck: frozenset[str] = frozenset()
        step: datetime | None = None
        while True:
            moment = due_next(tx, setup, names - stuck, step)
            if moment is None or moment > until:
                break
            at = moment if step is None else max(step, moment)
            moved = _rehearse(tx, setup, names, plan, at)
            if at == step and not moved:
                still = frozenset(gateways_due(tx, setup, at)) & (names - stuck)
                if not still:
                    break
                stuck |= still
            step = at
        _add_queued(tx, plan)
    return plan


def _rehearse(tx: Connection, setup: Setup, names: frozenset[str], plan: Plan, at: datetime) -> int:
    """One step of a simulation: decide at this clock, and take off the queue what would be handed over."""
    done = 0
    for step in decided(tx, setup, at):
        done += step.interactions
        plan.rows.extend({**row, "leaves_at": None} for row in step.rows)
        step.rows.clear()
        plan.decided.add(step)
    known = {row["id"]: row for row in plan.rows}
    for moved in handed(tx, setup, names, at, is_paced=True):
        for row in moved:
            if row["id"] not in known:
                known[row["id"]] = {"leaves_at": None}
                plan.rows.append(known[row["id"]])
            known[row["id"]].update(row)
        done += max(1, len(moved))
    return done


def _add_queued(tx: Connection, plan: Plan) -> None:
    """What waits in the outbox and is not due by the plan's clock belongs to the picture too."""
    known = {row["id"]: row for row in plan.rows}
    for row in outbox.queued(tx):
        if row["id"] in known:
            known[row["id"]].update(row)
        else:
            plan.rows.append({**row, "leaves_at": None})
