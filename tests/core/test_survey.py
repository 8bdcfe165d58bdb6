"""Answers are read from whatever a form says: what is kept fits its question, all else is told beside it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.survey import LONGEST, Answers, Question, Survey, said

SURVEY = Survey(
    "nps",
    {"en": "How was it?"},
    (
        Question("score", {"en": "0 to 10?"}, "scale", is_required=True, is_score=True),
        Question("stars", {"en": "Stars?"}, "scale", low=1, high=5),
        Question("came", {"en": "Came?"}, "choice", choices={"yes": {"en": "Yes"}, "no": {"en": "No"}}),
        Question("liked", {"en": "Liked?"}, "choices", choices={"tea": {"en": "Tea"}, "box": {"en": "Box"}}),
        Question("why", {"en": "Why?"}),
    ),
)


def test_answers_are_of_the_kind_their_question_asks_for():
    form = {
        "score": ["9"],
        "stars": ["1"],
        "came": ["no"],
        "liked": ["box", "tea"],
        "why": [" so\r\nit is "],
        "x": ["1"],
    }
    assert SURVEY.read(form) == Answers(
        {"score": 9, "stars": 1, "came": "no", "liked": ["tea", "box"], "why": "so\nit is"}, 9.0, {}
    )


def test_what_is_not_required_may_be_left_out():
    assert SURVEY.read({"score": ["0"], "why": ["  "], "liked": []}) == Answers({"score": 0}, 0.0, {})


@pytest.mark.parametrize(
    ("name", "given", "flaw"),
    [
        ("score", [], "required"),
        ("score", [" "], "required"),
        ("score", ["11"], "range"),
        ("score", ["-1"], "range"),
        ("score", ["9.5"], "range"),
        ("score", ["٩"], "range"),
        ("score", ["1", "2"], "range"),
        ("stars", ["0"], "range"),
        ("came", ["perhaps"], "unknown"),
        ("came", ["yes", "no"], "unknown"),
        ("liked", ["tea", "cup"], "unknown"),
        ("why", ["x" * (LONGEST + 1)], "long"),
    ],
)
def test_what_does_not_fit_is_told_by_its_question(name: str, given: list[str], flaw: str):
    found = SURVEY.read({"score": ["5"], name: given})
    assert found.flaws == {name: flaw}
    assert name not in found.values


FIELDS = st.sampled_from(["score", "stars", "came", "liked", "why", "else"])
VALUES = st.lists(st.text(max_size=20) | st.sampled_from(["0", "5", "10", "yes", "tea", "box", "\x00", "\ud800"]))


@given(st.dictionaries(FIELDS, VALUES))
def test_nothing_is_kept_that_was_not_asked(form: dict[str, list[str]]):
    found = SURVEY.read(form)
    checks: dict[str, Any] = {
        "score": lambda value: value in range(11),
        "stars": lambda value: value in range(1, 6),
        "came": lambda value: value in {"yes", "no"},
        "liked": lambda value: value and set(value) <= {"tea", "box"},
        "why": lambda value: 0 < len(value) <= LONGEST and "\x00" not in value and value.encode(),
    }
    assert all(checks[name](value) for name, value in found.values.items())
    assert not set(found.values) & set(found.flaws)
    assert ("score" in found.values) == (found.score is not None)


@pytest.mark.parametrize(
    ("words", "language", "expected"),
    [
        ({"en": "a", "zh-CN": "b"}, "zh-CN", "b"),
        ({"en": "a", "zh": "b"}, "zh-CN", "b"),
        ({"de": "a", "en": "b"}, "zh-CN", "b"),
        ({"de": "a"}, "en", "a"),
        ({}, "en", ""),
    ],
)
def test_a_text_is_said_in_the_closest_language_there_is(words: dict[str, str], language: str, expected: str):
    assert said(words, language) == expected
