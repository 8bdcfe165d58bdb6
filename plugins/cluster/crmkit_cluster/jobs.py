"""What a wake-up is, and how it is put into the queue: once, however many say so and however often.

A gateway has a queue of its own, and so do decisions: a worker takes one job of each at a time, so that another worker,
and not the busy one, is woken when there is more.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from psycopg_pool import AsyncConnectionPool

#: Names of channels, which begin with 23 characters of Procrastinate's, are cut at 63 bytes.
_LONGEST = 40

_DEFER = """\
INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args)
SELECT job.queue, job.task, job.wake, jsonb_build_object('wake', job.wake)
FROM unnest(%s::varchar[], %s::varchar[], %s::text[]) AS job (queue, task, wake) ORDER BY job.wake
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
"""

#: What became of jobs is of no use but to be looked at: who was lost, and what Procrastinate broke off. Of what the
#: lost were doing, some is put back.
_FORGET = """\
WITH gone AS (
    DELETE FROM procrastinate_jobs AS job WHERE job.id IN (
        SELECT one.id FROM procrastinate_jobs AS one LEFT JOIN procrastinate_workers AS by ON by.id = one.worker_id
        WHERE one.status = 'doing' AND (by.id IS NULL OR by.last_heartbeat < now() - make_interval(secs => %s))
        OR one.status IN ('failed', 'aborted', 'cancelled', 'succeeded') AND NOT EXISTS (
            SELECT 1 FROM procrastinate_events AS said
            WHERE said.job_id = one.id AND said.at > now() - make_interval(secs => %s)
        )
    )
    RETURNING job.status, job.queue_name, job.task_name, job.args ->> 'wake' AS wake
), again AS (
    INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args)
    SELECT queue_name, task_name, wake, jsonb_build_object('wake', wake)
    FROM gone WHERE status = 'doing' AND wake = ANY (%s::text[]) ORDER BY wake
    ON CONFLICT (queueing_lock) WHERE status = 'todo' DO NOTHING
)
SELECT count(*) FROM gone
"""


@dataclass(frozen=True, slots=True, order=True)
class Wake:
    """A step to take: `decide`, `follow`, `tick`, or `deliver GATEWAY`, `sync ACCOUNT`."""

    task: str
    name: str = ""

    @classmethod
    def of(cls, written: str) -> "Wake":
        """As it is written in a notification or a job."""
        task, _, name = written.partition(" ")
        return cls(task, name)

    def __str__(self) -> str:
        return f"{self.task} {self.name}" if self.name else self.task

    @property
    def queue(self) -> str:
        """Where it waits."""
        if self.task != "deliver":
            return self.task
        written = str(self)
        if len(written.encode()) <= _LONGEST and written.isascii():
            return written
        return f"deliver {hashlib.blake2b(written.encode(), digest_size=12).hexdigest()}"


async def defer(pool: AsyncConnectionPool, wakes: set[Wake]) -> None:
    """Put wake-ups into their queues, unless they wait there already: one statement, in one order."""
    some = sorted(wakes)
    queues, tasks = [one.queue for one in some], [one.task for one in some]
    async with pool.connection() as connection:
        await connection.execute(_DEFER, (queues, tasks, [str(one) for one in some]))


async def forget(pool: AsyncConnectionPool, lost: float, kept: float, again: Collection[Wake] = ()) -> int:
    """Delete jobs of workers that were not heard of for `lost` seconds, and what ended `kept` seconds ago.

    Args:
        again: what of the former is put back, unless it waits already.

    Returns:
        How many are gone.
    """
    async with pool.connection() as connection:
        found = await connection.execute(_FORGET, (lost, kept, [str(one) for one in again]))
        row = await found.fetchone()
    assert row is not None
    return int(row[0])
