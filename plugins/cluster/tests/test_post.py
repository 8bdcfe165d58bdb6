"""A worker's place: while it is not held nothing begins, whoever ended the connection."""

import asyncio

import psycopg

from crmkit.store.presence import NUMBER
from crmkit_cluster.address import conninfo, settings
from crmkit_cluster.post import Post

NAME = "crmkit worker test:1"


async def test_nothing_begins_while_a_place_is_lost_and_an_upgrade_may_be_under_way(url: str) -> None:
    failures: list[Exception] = []
    post = Post(conninfo(url), settings(NAME), name=NAME, concurrency=1, doing=list, ready=lambda: None)
    await post.open()
    keeping = asyncio.create_task(post.keep(failures.append))
    try:
        async with asyncio.timeout(5):
            await post.stand()
        with psycopg.connect(conninfo(url), autocommit=True) as upgrade:
            cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
            upgrade.execute(cut, (NAME,))
            upgrade.execute("SELECT pg_advisory_lock(%s)", (NUMBER,))
            standing = asyncio.create_task(post.stand())
            done, _ = await asyncio.wait({standing}, timeout=1.0)
            assert not done
            upgrade.execute("SELECT pg_advisory_unlock(%s)", (NUMBER,))
            async with asyncio.timeout(10):
                await standing
        assert failures
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        await post.close()
