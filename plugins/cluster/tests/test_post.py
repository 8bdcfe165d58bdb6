"""A worker's place: while it is not held nothing begins, whoever ended the connection; and the frozen keep nothing."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from crmkit.store.presence import NUMBER
from crmkit_cluster import post as post_module
from crmkit_cluster.address import conninfo, settings
from crmkit_cluster.post import Post

NAME = "crmkit worker test:1"
#: A worker that reads a shop, as long as it may.
READER = """
import asyncio, sys
from contextlib import suppress

import psycopg

from crmkit_cluster import post as post_module
from crmkit_cluster.address import conninfo, settings
from crmkit_cluster.post import Post

post_module.BEAT = 0.2

async def read():
    print("reads", flush=True)
    try:
        await asyncio.sleep(600)
    finally:
        print("stopped", flush=True)

async def main(url, name):
    post = Post(conninfo(url), settings(name), name=name, concurrency=1, doing=list, ready=lambda: None)
    await post.open()
    keeping = asyncio.create_task(post.keep(lambda error: print(f"failed {type(error).__name__}", flush=True)))
    with suppress(psycopg.OperationalError):
        await post.alone("sync tea", read)
    await post.stand()
    print("at its place", flush=True)
    await keeping

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def kept(url: str, failures: list[Exception], name: str = NAME) -> AsyncIterator[Post]:
    post = Post(conninfo(url), settings(name), name=name, concurrency=1, doing=list, ready=lambda: None)
    await post.open()
    keeping = asyncio.create_task(post.keep(failures.append))
    try:
        yield post
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        await post.close()


async def nothing() -> None: ...


async def test_nothing_begins_while_a_place_is_lost_and_an_upgrade_may_be_under_way(url: str) -> None:
    failures: list[Exception] = []
    async with kept(url, failures) as post:
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


# SEMANTICS 13
async def test_what_a_frozen_worker_holds_is_anothers_once_it_was_silent_for_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_module, "BEAT", 0.2)
    monkeypatch.setattr(post_module, "LOST", 3.0)
    frozen = await asyncio.create_subprocess_exec(
        sys.executable, "-c", READER, url, "crmkit worker frozen:1", stdout=asyncio.subprocess.PIPE
    )
    assert frozen.stdout is not None
    failures: list[Exception] = []
    try:
        async with asyncio.timeout(60), kept(url, failures) as post:
            assert await frozen.stdout.readline() == b"reads\n"
            assert not await post.alone("sync tea", nothing)
            frozen.send_signal(signal.SIGSTOP)
            assert not await post.alone("sync tea", nothing), "it may only be slow"
            await asyncio.sleep(4)
            assert await post.alone("sync tea", nothing)
            frozen.send_signal(signal.SIGCONT)
            said = [await frozen.stdout.readline() for _ in range(3)]
            assert sorted(said)[0] == b"at its place\n", "it took its place again"
            assert b"stopped\n" in said, "and reads no more"
        assert not failures
    finally:
        frozen.kill()
        await frozen.wait()


async def test_who_beats_keeps_what_it_holds_however_long_that_takes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_module, "BEAT", 0.2)
    monkeypatch.setattr(post_module, "LOST", 3.0)
    failures: list[Exception] = []
    async with kept(url, failures) as one, kept(url, failures, "crmkit worker test:2") as other:
        reading = asyncio.create_task(one.alone("sync tea", lambda: asyncio.sleep(600)))
        await asyncio.sleep(4)
        assert not await other.alone("sync tea", nothing)
        assert not await one.alone("sync tea", nothing), "nor does it twice at once"
        assert await other.alone("sync coffee", nothing)
        assert not reading.done()
        reading.cancel()
        await asyncio.wait({reading})
        assert await other.alone("sync tea", nothing), "it was given back"
    assert not failures


async def test_what_is_lost_while_it_is_done_stops_and_gives_nothing_of_anothers_back(url: str) -> None:
    failures: list[Exception] = []
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ending.set()
            await may_end.wait()

    async with asyncio.timeout(60), kept(url, failures) as post, kept(url, failures, "crmkit worker test:2") as other:
        first = asyncio.create_task(post.alone("sync tea", slow_to_end))
        await asyncio.sleep(0.5)
        with psycopg.connect(conninfo(url), autocommit=True) as server:
            cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
            server.execute(cut, (NAME,))
        await post.stand()
        await ending.wait()
        second = asyncio.create_task(post.alone("sync tea", lambda: asyncio.sleep(600)))
        await asyncio.sleep(0.5)
        may_end.set()
        with pytest.raises(psycopg.OperationalError, match="the place is lost"):
            await first  # nobody may take what was broken off for done
        assert not await other.alone("sync tea", nothing), "the second still does it"
        assert not second.done()
        second.cancel()
        await asyncio.wait({second})
    assert failures


# SEMANTICS 13
async def test_what_is_not_begun_since_a_place_is_lost_is_not_called_anothers(url: str) -> None:
    failures: list[Exception] = []
    async with asyncio.timeout(60), kept(url, failures) as post:
        with psycopg.connect(conninfo(url), autocommit=True) as upgrade:
            cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
            upgrade.execute(cut, (NAME,))
            upgrade.execute("SELECT pg_advisory_lock(%s)", (NUMBER,))
            for _ in range(2):  # unnoticed as yet, and noticed
                with pytest.raises(psycopg.OperationalError, match="the place is lost"):
                    await post.alone("sync tea", nothing)
        await post.stand()
        assert await post.alone("sync tea", nothing)
    assert failures


async def test_who_cannot_say_that_it_is_there_keeps_no_upgrade_waiting(url: str) -> None:
    post = Post(conninfo(url), settings(NAME), name=NAME, concurrency=1, doing=list, ready=lambda: None)
    with psycopg.connect(conninfo(url), autocommit=True, **settings("upgrade")) as upgrade:
        upgrade.execute("ALTER TABLE worker RENAME TO elsewhere")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await post.open()
        upgrade.execute("SET lock_timeout = '5s'")
        upgrade.execute("SELECT pg_advisory_lock(%s)", (NUMBER,))
