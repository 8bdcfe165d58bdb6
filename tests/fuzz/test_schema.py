"""Every operation of the schema as schemathesis would ask it: health, metrics, plugins' pages; with a token and not."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from crmkit.core.token import hash_of, new_token
from crmkit.store import tokens
from crmkit.web.limit import Buckets, Rate
from tests.fuzz.tally import Clock, fuzzed
from tests.web.conftest import NOON, URL, Town

pytestmark = pytest.mark.fuzz

#: Pages of the tests' own plugins that raise on purpose, or are where no client would ask.
_BROKEN = {"/points/broken", "/points/hurried", "/pointsplus/../metrics", "/pointsplus/../points/points"}


@pytest.fixture
def served(migrated_url: str, tmp_path: Path) -> Iterator[tuple[Town, str]]:
    """A town whose plugins have pages, and a token for all of them."""
    town = Town(tmp_path / "town", migrated_url, '[plugins]\nuse = ["points", "pointsplus"]\n')
    town.order()
    token = new_token()
    with town.store.begin() as tx:
        scopes = ["points:*", "pointsplus:*", "metrics"]
        tokens.make(tx, "all", hash_of(token), scopes, expires_at=NOON + timedelta(days=1), now=NOON)
    town.app.state.guard.guesses = Buckets(Rate(1e9, 1e9))
    yield town, token
    town.store.close()


def test_every_operation_of_the_schema_answers_as_it_says(served: tuple[Town, str]) -> None:
    town, token = served
    schema = schemathesis.openapi.from_dict(town.app.openapi())
    found = [result.ok() for result in schema.get_all_operations()]
    operations = [one for one in found if one.path not in _BROKEN and one.method.upper() != "HEAD"]
    assert {one.path for one in operations} >= {"/points/hello", "/points/points", "/points/customers/{number}"}
    with asyncio.Runner() as runner:
        for operation in operations:
            _ask(operation, town, token, runner)


def _ask(operation: schemathesis.APIOperation, town: Town, token: str, runner: asyncio.Runner) -> None:
    clock = Clock("operations of the schema")

    @fuzzed(0.25)
    @given(operation.as_strategy(), st.booleans())
    def asked(case: schemathesis.Case, shown: bool) -> None:
        if not clock.goes():
            return
        made = {name: value for name, value in case.as_transport_kwargs(base_url=URL).items() if value}
        headers = {name: value for name, value in dict(made["headers"]).items() if value is not None}
        if shown:
            headers["Authorization"] = f"Bearer {token}"
        made["headers"] = {name: str(value).encode("utf-8", "replace") for name, value in headers.items()}
        response = runner.run(town.client.request(**made))
        told = schemathesis.Response.from_any(response)
        case.validate_response(told, checks=[not_a_server_error, response_schema_conformance])

    asked()
