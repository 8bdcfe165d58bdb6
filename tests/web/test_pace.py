"""How often pages take an answer: a link, a caller, and a mail provider each have their own measure."""

import pytest

from crmkit.core.records import Buyer
from crmkit.store import tables as t
from crmkit.web.limit import Rate
from crmkit.web.pace import Pace
from tests.web.conftest import Town

STILL = Rate(1 / 60, 3)
LOOSE = Rate(1 / 60, 1_000)


def paced(town: Town, of_link: Rate = LOOSE, of_caller: Rate = LOOSE, of_provider: Rate = LOOSE) -> None:
    town.app.state.pace = Pace(town.app.state.site, of_link, of_caller, of_provider)


@pytest.mark.parametrize("purpose", ["preferences", "contact", "statement", "unsubscribe", "survey"])
async def test_a_link_takes_so_many_answers_and_can_always_be_looked_at(town: Town, purpose: str):
    about = {"statement": town.shop_id, "contact": town.order()}
    path = town.path(purpose, town.profile(), subject=about.get(purpose, 0), word="email")
    paced(town, of_link=STILL)
    for _ in range(3):
        assert (await town.client.post(path, data={})).status_code != 429
    answer = await town.client.post(path, data={})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert "There were too many tries just now" in answer.text
    assert (await town.client.get(path)).status_code != 429
    town.order("1002", Buyer(external_id="bob", email="bob@buyers.example"))
    other = town.path("preferences", town.profile("bob"))
    assert (await town.client.post(other, data={})).status_code == 303


async def test_a_code_is_tried_no_more_often_than_its_link_may(town: Town):
    number = town.order()
    path = town.path("contact", town.profile(), subject=number)
    paced(town, of_link=STILL)
    for _ in range(3):
        assert (await town.client.post(f"{path}/code", data={"code": "1"})).status_code == 422
    assert (await town.client.post(f"{path}/code", data={"code": "1"})).status_code == 429


async def test_a_caller_gives_so_many_answers_whatever_links_they_are_by(town: Town):
    paced(town, of_caller=STILL)
    links = [f"/p/none{number}" for number in range(4)]
    said = [
        (await town.client.post(link, data={}, headers={"X-Forwarded-For": "192.0.2.7"})).status_code for link in links
    ]
    assert said == [404, 404, 404, 429]
    other = await town.client.post(links[0], data={}, headers={"X-Forwarded-For": "192.0.2.8"})
    assert other.status_code == 404


async def test_a_mail_provider_unsubscribes_many_readers(town: Town):
    paced(town, of_caller=STILL)
    for number in range(10):
        town.order(f"{number}", Buyer(external_id=f"b{number}", email=f"b{number}@buyers.example"))
        path = town.path("unsubscribe", town.profile(f"b{number}"), word="email")
        assert (await town.client.post(path, data={"List-Unsubscribe": "One-Click"})).status_code == 200
    assert len(town.rows(t.consent)) == 20
