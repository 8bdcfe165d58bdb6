"""A list shows the last so many: where there are more it says so, and how to see them."""

import json

import pytest

from tests.cli.conftest import Place


@pytest.mark.parametrize("what", ["messages", "interactions", "runs"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_list_says_where_there_are_more(worked: Place, what: str, form: tuple[str, ...]) -> None:
    said = worked.run(what, "list", "--limit", "1", *form)
    assert (said.exit_code, said.stderr) == (0, "only the last 1 shown; `--limit 0` shows all\n")
    every = [json.loads(line)["id"] for line in worked.ok(what, "list", "--limit", "0", "--json").splitlines()]
    assert len(every) > 1
    if form:
        assert [json.loads(line)["id"] for line in said.stdout.splitlines()] == every[-1:]
    for limit in ("0", str(len(every)), str(len(every) + 1)):
        assert worked.run(what, "list", "--limit", limit, *form).stderr == ""


@pytest.mark.parametrize("what", ["messages", "interactions", "runs", "inbox"])
def test_fewer_than_none_are_not_asked_for(worked: Place, what: str) -> None:
    assert worked.run(what, "list", "--limit", "-1").exit_code == 2
