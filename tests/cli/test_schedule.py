"""A plugin's schedule, as whoever runs `crmkit` meets it."""

import json
from textwrap import dedent

import pytest

from .conftest import CONFIG, NOW, Place

MORNING = """
    from crmkit import Send, every, hookimpl, staff

    @every("1d", at="09:00")
    def digest(event, crm):
        yield Send("digest", via=("email",), to=staff("shipping"))

    @hookimpl
    def crmkit_handlers():
        yield digest
"""
DIGEST = '---\npurpose = "transactional"\nsubject = "{{ schedule }}"\n---\nGood morning.\n'


@pytest.fixture
def morning(place: Place) -> Place:
    """A shop whose team gets a mail each morning; it was first run on the evening of the 8th."""
    place.config.write_text(CONFIG.replace('use = ["care"]', 'use = ["care", "./morning.py"]'))
    (place.folder / "morning.py").write_text(dedent(MORNING))
    (place.folder / "templates").mkdir()
    (place.folder / "templates" / "digest.en.email.txt").write_text(DIGEST)
    place.ok("dispatch", now=NOW)
    return place


def sent(place: Place) -> list[str]:
    rows = [json.loads(line) for line in place.ok("messages", "list", "--json").splitlines()]
    return sorted(row["sent_at"] for row in rows if row["template"] == "digest")


def test_the_team_gets_its_mail_each_morning(morning: Place) -> None:
    assert sent(morning) == []
    morning.ok("dispatch", now="2026-05-11T12:00+02:00")
    assert sent(morning) == [f"2026-05-{day:02d}T07:00:00+00:00" for day in (9, 10, 11)]
    listed = morning.ok("interactions", "list", "--type", "schedule-due", now="2026-05-11T12:00+02:00")
    assert listed.count("schedule-due digest") == 3


def test_a_plan_says_what_would_be_sent_and_sends_nothing(morning: Place) -> None:
    planned = morning.ok("dispatch", "--plan", now="2026-05-09T12:00+02:00")
    assert "digest" in planned
    assert sent(morning) == []


def test_the_doctor_names_a_schedule_that_was_not_called(morning: Place) -> None:
    assert "schedule" not in morning.run("doctor", "--offline", now="2026-05-09T09:30+02:00").output
    said = morning.run("doctor", "--offline", now="2026-05-09T12:00+02:00").output
    assert "note schedule digest: of morning was due 2026-05-09 09:00" in said
    assert "was not called; run `crmkit dispatch`" in said


def test_safe_mode_keeps_it_and_says_so(morning: Place) -> None:
    morning.run("dispatch", now="2026-05-10T12:00+02:00", before=("--no-plugins",))
    said = morning.run("doctor", "--offline", now="2026-05-10T12:00+02:00", before=("--no-plugins",)).output
    assert "it waits for its plugin, which is not loaded" in said
    morning.ok("dispatch", now="2026-05-10T13:00+02:00")
    assert sent(morning) != []


def test_a_playbook_that_is_switched_off_has_none(morning: Place) -> None:
    morning.config.write_text(CONFIG)
    morning.ok("dispatch", now="2026-05-08T21:00+02:00")
    said = morning.run("doctor", "--offline", now="2026-05-19T12:00+02:00").output
    assert "schedule" not in said
