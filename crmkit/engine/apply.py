"""A plan is applied: each slice is decided again at the plan's clock, and holds if it comes to what was planned.

A slice that comes to something else is rolled back, and what differs is named; the others go on. What is handed over
then is what the plan says, and nothing else, after the same last look as ever. A slice whose messages are in the outbox
already was applied before: so a plan can be applied again, whatever became of the process that did so first.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.message import State
from crmkit.engine.dry_run import STEP, decided
from crmkit.engine.gateways import Gateways
from crmkit.engine.local import DispatchProgress, DispatchRun, Local
from crmkit.engine.plan import fingerprint
from crmkit.engine.plan_file import PlanFile
from crmkit.flow import schedule, silence
from crmkit.flow.claim import sweep
from crmkit.flow.decide import Decided, decide
from crmkit.flow.setup import Setup
from crmkit.store import accounts, migrate, outbox, slices
from crmkit.store.choice import ALL, Choice
from crmkit.store.slices import NOBODY, Slice

#: So many messages are handed over together.
TOGETHER = 1_000
#: Customers of one step where messages are chosen.
CUSTOMERS = 200

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Difference:
    """A message that is not what was planned.

    Attributes:
        what: `new`, `missing`, or what of it has changed: `address`, `content_hash`, `gateways`, `not_before`.
        was, now: what that is in the plan, and now.
    """

    slice: int
    key: str
    template: str
    to: str | None
    what: str
    was: Any = None
    now: Any = None


@dataclass(slots=True)
class Applied:
    """What came of a plan.

    Attributes:
        run: what was decided and handed over.
        slices: how many it has; `again`: those that were applied before: what they decide was decided already.
        differences: what has changed in the slices that were rolled back, whose numbers are `refused`.
        kept: planned messages that are in the outbox and left by another run, or will not: by state.
        waiting: planned messages that have not left, and still may: a gateway that is down keeps them, or a pause.
        in_hand: planned messages that another process has taken, which may be dead; `in_hand_until`: when the last of
            them is due again, at the latest.
        unchosen: messages the plan decided or named that a choice, the plan's or this one's, leaves to a dispatch.
    """

    run: DispatchRun = field(default_factory=DispatchRun)
    slices: int = 0
    again: int = 0
    differences: list[Difference] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    kept: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    in_hand: int = 0
    in_hand_until: datetime | None = None
    unchosen: int = 0


class _Differs(Exception):
    """A slice is not what was planned: its transaction is rolled back."""

    def __init__(self, differences: list[Difference]) -> None:
        self.differences = differences


@dataclass(slots=True)
class _Confirmed:
    """A slice that holds: what was decided, and of its planned messages the numbers and states."""

    decided: Decided
    messages: dict[str, tuple[int, str]]


# --- a plan -----------------------------------------------------------------------------------------------------------


async def apply(
    local: Local,
    file: PlanFile,
    *,
    now: datetime | None = None,
    choice: Choice = ALL,
    progress: DispatchProgress | None = None,
) -> Applied:
    """Apply a plan.

    Args:
        now: the clock at which it is handed over; the wall clock where None.
        choice: of the plan's messages, those that are to leave.

    Raises:
        ConfigError: the plan is of another database, or too old.
    """
    local.prepare()
    done = Applied(slices=len(file.slices))
    clock = _clock(now)
    database, schema = await local.store.run(facts, local, clock())
    file.must_fit(database, schema, clock(), datetime.now(UTC))
    async with _running(local, done.run, clock) as running:
        if running is None:
            return done
        setup, gateways = running
        ids, others, unchosen = list[int](), list[int](), list[int]()
        for number, families in enumerate(file.slices):
            lines = file.messages[number]
            planned = {key: line for key, line in lines.items() if line["fingerprint"] is not None}
            try:
                found: _Confirmed = await local.store.run(_confirmed, setup, number, families, planned, file.made.now)
            except _Differs as error:
                done.differences += error.differences
                done.refused.add(number)
                continue
            done.run.decided.add(found.decided)
            is_new = not lines or any(line["origin"] == "decided" for line in lines.values())
            done.again += is_new and not found.decided.interactions
            done.run.tell(progress)
            for key, line in planned.items():
                message, state = found.messages[key]
                if not line["is_chosen"] or (line["leaves_at"] is not None and not choice.takes(line)):
                    unchosen.append(message)
                elif line["leaves_at"] is not None:
                    (ids if state == State.QUEUED else others).append(message)
        # after the slices: what it tells is in no plan
        await local.store.run(silence.look, setup, clock())
        if choice.limit is not None:
            ids, unchosen = ids[: choice.limit], unchosen + ids[choice.limit :]
        await _hand_over(local, setup, gateways, done.run, clock, progress, ids)
        await local.store.run(_settle, done, ids, others, unchosen)
    return done


def facts(tx: Connection, local: Local, now: datetime) -> tuple[str, dict[str, str]]:
    """What a plan is bound to: what tells this database from others, and its versions."""
    found = {one.history: one.current or "" for one in migrate.versions(tx, local.host.migrations)}
    return accounts.installation(tx, now), found


def _confirmed(
    tx: Connection,
    setup: Setup,
    number: int,
    families: Sequence[int] | None,
    planned: Mapping[str, Mapping[str, Any]],
    now: datetime,
) -> _Confirmed:
    """Decide a slice again, at the plan's clock.

    Raises:
        _Differs: it does not come to what was planned.
    """
    one = NOBODY if families is None else Slice.of(tx, families)
    before = slices.with_keys(tx, planned)
    whole, fresh = Decided(), dict[str, Mapping[str, Any]]()
    for step in decided(tx, setup, now, one):
        fresh.update({row["key"]: row for row in step.rows if row["state"] == State.QUEUED})
        step.rows = []
        whole.add(step)
    found: list[Difference] = []
    messages: dict[str, tuple[int, str]] = {}
    for key, line in planned.items():
        row, is_known = fresh.pop(key, None), key in before
        row = before[key] if is_known and row is None else row
        if row is None:
            found.append(_difference(number, line, "missing"))
            continue
        messages[key] = (row["id"], str(row["state"]))
        was, is_ = line["fingerprint"], fingerprint(row)
        for what in _compared(line, row, is_known=is_known):
            if was[what] != is_[what]:
                found.append(_difference(number, line, what, was[what], is_[what]))
    found += [_difference(number, row, "new") for row in fresh.values()]
    if found:
        raise _Differs(found)
    return _Confirmed(whole, messages)


def _compared(line: Mapping[str, Any], row: Mapping[str, Any], *, is_known: bool) -> Sequence[str]:
    """What has to be as planned; of a message that was tried since, its chain and its time are its own affair."""
    if not is_known:
        return ("address", "content_hash", "gateways", "not_before")
    is_untouched = row["state"] == State.QUEUED and row["tries"] == 0
    if is_untouched and line["origin"] == "outbox" and row["reason"] == line["reason"]:
        return ("address", "content_hash", "gateways", "not_before")
    return ("address", "content_hash", "gateways") if is_untouched else ("address", "content_hash")


def _difference(number: int, row: Mapping[str, Any], what: str, was: Any = None, now: Any = None) -> Difference:
    to = row["staff"] or row["address"]
    return Difference(number, row["key"], row["template"], to, what, was, now)


def _settle(tx: Connection, done: Applied, ids: Sequence[int], others: Sequence[int], unchosen: Sequence[int]) -> None:
    """See what became of a plan's messages.

    Args:
        ids: those that were to be handed over.
        others: those that were not queued any more.
        unchosen: those that were to stay.
    """
    rows = outbox.held(tx, [*ids, *others, *unchosen], ("id", "state", "lease_until"))
    mine = Counter(str(rows[number]["state"]) for number in ids if number in rows)
    theirs = Counter(str(rows[number]["state"]) for number in others if number in rows)
    done.in_hand = mine[State.SENDING] + theirs.pop(State.SENDING, 0)
    done.waiting = mine[State.QUEUED] + theirs.pop(State.QUEUED, 0)
    done.kept = theirs
    done.unchosen = sum(rows[number]["state"] == State.QUEUED for number in unchosen if number in rows)
    held = [rows[number] for number in (*ids, *others) if number in rows]
    leases = [row["lease_until"] for row in held if row["state"] == State.SENDING and row["lease_until"] is not None]
    done.in_hand_until = max(leases, default=None)


# --- chosen messages --------------------------------------------------------------------------------------------------


async def dispatch_chosen(
    local: Local, choice: Choice, *, now: datetime | None = None, progress: DispatchProgress | None = None
) -> DispatchRun:
    """Decide and deliver what is chosen of what is due, in one pass.

    Deciding goes by customer: who has something of it due is decided, oldest first. What comes of that and is not
    chosen waits in the outbox.
    """
    local.prepare()
    result, clock = DispatchRun(), _clock(now)
    async with _running(local, result, clock) as running:
        if running is None:
            return result
        setup, gateways = running
        await local.store.run(silence.look, setup, clock())
        result.taken = await local.take_in(now=clock())
        for families in await local.store.run(_who, choice, clock()):
            if choice.limit is not None:
                ready = await local.store.run(_ready, choice, clock())
                if len(ready) >= choice.limit:
                    break
            while (step := await local.store.run(_decide, setup, clock(), families)).interactions:
                step.rows = []
                result.decided.add(step)
                result.tell(progress)
        ids = await local.store.run(_ready, choice, clock())
        await _hand_over(local, setup, gateways, result, clock, progress, ids)
    return result


def _who(tx: Connection, choice: Choice, now: datetime) -> list[list[int] | None]:
    """The customers a choice is about, some at a time; None: nobody."""
    due, is_nobodys = slices.due(tx, now, choice.shops)
    wanted = choice.families
    found: list[list[int] | None] = [None] if is_nobodys and (wanted is None or None in wanted) else []
    families = sorted((f for f in due if wanted is None or f in wanted), key=lambda one: (due[one], one))
    size = CUSTOMERS if choice.limit is None else max(1, min(CUSTOMERS, choice.limit))
    return [*found, *(families[first : first + size] for first in range(0, len(families), size))]


def _decide(tx: Connection, setup: Setup, now: datetime, families: Sequence[int] | None) -> Decided:
    return decide(tx, setup, now, STEP, only=NOBODY if families is None else Slice.of(tx, families))


def _ready(tx: Connection, choice: Choice, now: datetime) -> list[int]:
    return choice.due(tx, now, choice.limit)


# --- both -------------------------------------------------------------------------------------------------------------


def _clock(now: datetime | None) -> Clock:
    return (lambda: datetime.now(UTC)) if now is None else (lambda: now)


@asynccontextmanager
async def _running(local: Local, result: DispatchRun, clock: Clock) -> AsyncIterator[tuple[Setup, Gateways] | None]:
    """A run, noted as a dispatch; None where this database may not send: then only webhooks are taken in."""
    store = local.store
    result.fenced = await store.run(local.fence.enter, datetime.now(UTC))
    if result.fenced is not None:
        result.taken = await local.take_in(now=clock())
        yield None
        return
    setup: Setup = await store.run(local.setup)
    number = await store.run(accounts.begin_run, "dispatch", clock())
    outcome = "interrupted"
    gateways = local.gateways(setup, clock())
    try:
        async with AsyncExitStack() as closing:
            closing.push_async_callback(gateways.close, result.delivered)
            await store.run(schedule.keep, setup, clock())
            result.lapsed = await store.run(sweep, setup, clock(), datetime.now(UTC))
            yield setup, gateways
        result.retrying = await store.run(outbox.retrying)
        outcome = result.outcome
    finally:
        await store.run(accounts.end_run, number, outcome, result.counts, clock())


async def _hand_over(
    local: Local,
    setup: Setup,
    gateways: Gateways,
    result: DispatchRun,
    clock: Clock,
    progress: DispatchProgress | None,
    ids: Sequence[int],
) -> None:
    """Hand these messages over, and no others."""
    for first in range(0, len(ids), TOGETHER):
        only = list(ids[first : first + TOGETHER])
        while await local.hand_over(setup, gateways, result, clock, progress, only):
            pass
