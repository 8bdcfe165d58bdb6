"""Surveys: a plugin's questions on a page of the customer's own; answered once, and told to whoever listens."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crmkit.core.records import Buyer
from crmkit.store import tables as t
from tests.web.conftest import NOON, Town

ASKER = """
from crmkit import Note, Question, Survey, SurveyAnswered, hookimpl, on

TEA = {"en": "Tea", "zh-CN": "茶"}
BOX = {"en": "The <box>"}


@on(SurveyAnswered)
def thank(event, crm):
    order = event.order.external_id if event.order else None
    yield Note(f"{event.survey} of {order}: {event.score} {sorted(event.answers)}")


@hookimpl
def crmkit_handlers():
    yield thank


@hookimpl
def crmkit_web():
    yield Survey(
        "nps",
        {"en": "How was it?", "zh-CN": "您还满意吗？"},
        (
            Question(
                "score",
                {"en": "Would you recommend us?", "zh-CN": "您愿意推荐我们吗？"},
                "scale",
                ends=({"en": "never", "zh-CN": "绝不"}, {"en": "surely", "zh-CN": "一定"}),
                is_required=True,
                is_score=True,
            ),
            Question("liked", {"en": "What did you like?"}, "choices", choices={"tea": TEA, "box": BOX}),
            Question("came", {"en": "Did all come?"}, "choice", choices={"yes": {"en": "Yes"}, "no": {"en": "No"}}),
            Question("why", {"en": "Anything else?"}),
        ),
        thanks={"en": "Many thanks!"},
    )
"""


@pytest.fixture
async def town(migrated_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A town with a plugin that asks."""
    folder = tmp_path / "town"
    folder.mkdir()
    (folder / "asker.py").write_text(ASKER, "utf-8")
    found = Town(folder, migrated_url, '[plugins]\nuse = ["./asker.py"]\n')
    async with found.client:
        yield found
    found.store.close()


@pytest.fixture
def path(town: Town) -> str:
    number = town.order()
    return town.path("survey", town.profile(), subject=number, word="nps")


async def test_it_asks_in_the_readers_language(town: Town, path: str):
    page = await town.client.get(path)
    assert page.status_code == 200
    assert ">How was it?</h1>" in page.text
    assert re.findall(r'name="score" value="(\d+)"', page.text) == [str(number) for number in range(11)]
    assert "The &lt;box&gt;" in page.text
    assert "您愿意推荐我们吗？" in (await town.client.get(f"{path}?lang=zh-CN")).text
    assert (await town.client.head(path)).status_code == 200


async def test_an_answer_is_told_with_its_order_shop_and_customer(town: Town, path: str):
    form = {"score": "9", "liked": ["box", "tea"], "why": "it's <good>"}
    sent = await town.client.post(path, data=form)
    assert sent.status_code == 303
    answer = await town.client.get(sent.headers["location"])
    assert "Many thanks!" in answer.text
    row = town.one(t.interaction, type="survey-answered")
    assert (row["profile_id"], row["shop_id"], row["order_id"]) == (town.profile(), town.shop_id, 1)
    assert (row["actor"], row["occurred_at"]) == ("customer", NOON)
    assert row["correlation_id"] == sent.headers["x-request-id"]
    told = {"score": 9, "liked": ["tea", "box"], "why": "it's <good>"}
    assert row["payload"] == {"survey": "nps", "score": 9.0, "answers": told}
    await town.local.dispatch(now=NOON)
    assert town.one(t.interaction, type="note")["payload"]["text"] == "nps of 1001: 9.0 ['liked', 'score', 'why']"


async def test_it_is_answered_once_whoever_of_the_family_opens_it(town: Town, path: str):
    await town.client.post(path, data={"score": "9"})
    guest = Buyer(name="Ann", email="ann@buyers.example")
    town.order("1002", guest)
    other = next(row["id"] for row in town.rows(t.profile) if row["id"] != town.profile())
    number = town.one(t.orders, external_id="1001")["id"]
    for one in (path, town.path("survey", other, subject=number, word="nps")):
        page = await town.client.get(one)
        assert "Many thanks!" in page.text
        assert "<form" not in page.text
        assert (await town.client.post(one, data={"score": "1"})).status_code == 303
    assert town.one(t.interaction, type="survey-answered")["payload"]["score"] == 9.0
    second = town.one(t.orders, external_id="1002")["id"]
    await town.client.post(town.path("survey", other, subject=second, word="nps"), data={"score": "2"})
    await town.client.post(town.path("survey", other, word="nps"), data={"score": "3"})
    scores = [row["payload"]["score"] for row in town.rows(t.interaction, type="survey-answered")]
    assert scores == [9.0, 2.0, 3.0]


async def test_what_is_wrong_is_said_beside_its_question_and_the_rest_is_kept(town: Town, path: str):
    form = {"liked": "tea", "came": "perhaps", "why": "</textarea><script>x"}
    answer = await town.client.post(path, data=form)
    assert answer.status_code == 422
    assert "<title>Please look again · How was it?" in answer.text
    first = (
        '<input type="radio" name="score" value="0" required aria-invalid="true" aria-describedby="q1-flaw" autofocus>'
    )
    assert first in answer.text
    assert answer.text.count("autofocus") == 1
    assert 'maxlength="2000"' in answer.text
    assert "Please answer this question." in answer.text
    assert "Please choose from the answers given." in answer.text
    assert 'value="tea" checked' in answer.text
    assert "&lt;/textarea&gt;&lt;script&gt;x" in answer.text
    assert "<script" not in answer.text
    assert town.rows(t.interaction, type="survey-answered") == []


async def test_a_survey_nobody_asks_any_more_is_over(town: Town, path: str):
    gone = town.path("survey", town.profile(), word="last-year")
    for answer in (await town.client.get(gone), await town.client.post(gone, data={"score": "1"})):
        assert answer.status_code == 410
        assert "This survey is over" in answer.text
    assert town.rows(t.interaction, type="survey-answered") == []


async def test_nobody_answers_about_another_customers_order(town: Town, path: str):
    town.order("1002", Buyer(external_id="bob"))
    number = town.one(t.orders, external_id="1002")["id"]
    theirs = town.path("survey", town.profile("ann"), subject=number, word="nps")
    assert (await town.client.get(theirs)).status_code == 404
    assert (await town.client.post(theirs, data={"score": "1"})).status_code == 404


async def test_a_form_that_is_none_or_too_large_is_refused(town: Town, path: str):
    assert (await town.client.post(path, json={"score": 1})).status_code == 415
    assert (await town.client.post(path, data={"why": "x" * 70_000})).status_code == 413
    assert town.rows(t.interaction, type="survey-answered") == []
