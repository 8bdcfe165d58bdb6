"""A receipt that comes while the process that was sending is dead: the try is recorded all the same."""

from pathlib import Path
from typing import Any

import pytest
from crashkit.check import check
from crashkit.game import Game

from crmkit.testing.database import PostgresServer

pytestmark = pytest.mark.crash


# SEMANTICS 24
@pytest.mark.parametrize(
    ("kind", "sender"), [("sqlite", "plain"), ("postgresql", "deduplicating"), ("sqlite", "asking")]
)
def test_a_try_whose_process_died_is_recorded_though_a_receipt_came_first(
    nursery: Any, vendors: Any, port: int, fast: Path, postgres_server: PostgresServer, kind: str, sender: str
) -> None:
    game = Game(nursery, vendors, port, fast, postgres_server)
    with game.world(f"early-{sender}-{kind}", kind) as world:
        game.run(world, 0, [])
        game.run(world, 1, [{"name": "send", "place": f"{sender}: answered", "times": 1}], is_early=True)
        found = check(world.url, world.ledgers, world.offered)
    assert found.wrong == []
    assert any(account == sender for account, _ in world.offered.receipts)
