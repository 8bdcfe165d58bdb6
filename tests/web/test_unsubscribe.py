"""Unsubscribing by one click: opening the link does nothing, posting does, and it holds."""

import pytest

from crmkit.store import tables as t
from tests.web.conftest import Town


@pytest.fixture
def path(town: Town) -> str:
    town.order()
    return town.path("unsubscribe", town.profile(), word="email")


async def test_opening_the_link_only_asks(town: Town, path: str):
    answer = await town.client.get(path)
    assert answer.status_code == 200
    assert "Stop receiving e-mails with offers?" in answer.text
    assert town.rows(t.consent) == []


async def test_one_click_from_a_mail_program_unsubscribes(town: Town, path: str):
    answer = await town.client.post(path, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    told = {(row["profile_id"], row["address"]): row for row in town.rows(t.consent)}
    assert set(told) == {(town.profile(), None), (None, "ann@buyers.example")}
    for row in told.values():
        assert (row["channel"], row["purpose"], row["state"], row["source"]) == (
            "email",
            "marketing",
            "withdrawn",
            "page",
        )
        assert row["wording"].startswith("Stop receiving e-mails")
    assert [row["type"] for row in town.rows(t.interaction, type="consent-changed")] == ["consent-changed"]


async def test_twice_is_once(town: Town, path: str):
    for _ in range(3):
        assert (await town.client.post(path)).status_code == 200
    assert len(town.rows(t.consent)) == 2


@pytest.mark.parametrize(("language", "heading"), [("en", "Unsubscribe"), ("zh-CN", "退订")])
async def test_it_speaks_the_readers_language(town: Town, path: str, language: str, heading: str):
    answer = await town.client.get(path, headers={"Accept-Language": f"{language},fr;q=0.3"})
    assert f"<h1>{heading}</h1>" in answer.text
    assert f'<html lang="{language}">' in answer.text
