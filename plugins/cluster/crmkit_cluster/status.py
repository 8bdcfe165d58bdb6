"""Queues, workers and lag: how a fleet stands."""

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from crmkit_cluster.address import conninfo, settings
from crmkit_cluster.post import LOST

_WORKERS = """\
SELECT name, host, pid, version, concurrency, started_at, beat_at, doing, fenced,
    extract(epoch FROM now() - beat_at)::float AS silent_seconds
FROM worker ORDER BY host, pid
"""
_JOBS = """\
SELECT coalesce(job.args ->> 'wake', job.task_name) AS wake, job.status::text AS status, count(*) AS count,
    extract(epoch FROM now() - min(said.at))::float AS oldest_seconds
FROM procrastinate_jobs AS job LEFT JOIN procrastinate_events AS said
ON said.job_id = job.id AND said.type = 'deferred' GROUP BY 1, 2 ORDER BY 1, 2
"""


def workers(url: str) -> list[dict[str, Any]]:
    """Every worker that said it is there, and was not told to end.

    One that was not heard of for long is `lost`; one that may not send is `fenced`, and only reads.
    """
    with psycopg.connect(conninfo(url), row_factory=dict_row, **settings("crmkit cluster status")) as connection:
        rows = connection.execute(_WORKERS).fetchall()
    return [{**row, "state": _state(row)} for row in rows]


def _state(row: dict[str, Any]) -> str:
    if row["silent_seconds"] > LOST:
        return "lost"
    return "at work" if row["fenced"] is None else "fenced"


def queues(url: str) -> list[dict[str, Any]]:
    """Wake-ups that wait, are being answered, or ended otherwise than well: {wake, todo, doing, failed, oldest}."""
    found: dict[str, dict[str, Any]] = {}
    with psycopg.connect(conninfo(url), row_factory=dict_row, **settings("crmkit cluster status")) as connection:
        for row in connection.execute(_JOBS).fetchall():
            one = found.setdefault(
                row["wake"], {"wake": row["wake"], "todo": 0, "doing": 0, "failed": 0, "oldest_seconds": None}
            )
            kind = row["status"] if row["status"] in ("todo", "doing") else "failed"
            one[kind] += row["count"]
            if kind == "todo":
                one["oldest_seconds"] = row["oldest_seconds"]
    return list(found.values())


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)
