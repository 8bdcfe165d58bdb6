"""A survey as its page shows it: questions in every language it speaks, and answers read from a form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: {language: text}
Words = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        name: what its answer is kept under.
        text: what is asked, by language.
        kind: `scale` (a number from `low` to `high`), `choice` (one of `choices`), `choices` (any of them), `text`.
        ends: what the lowest and the highest number of a scale mean, by language.
        choices: {value: what it is called, by language}.
        is_required: whether the survey can be sent without an answer to it.
        is_score: whether its answer is the survey's score.
    """

    name: str
    text: Words
    kind: Literal["scale", "choice", "choices", "text"] = "text"
    low: int = 0
    high: int = 10
    ends: tuple[Words, Words] | None = None
    choices: Mapping[str, Words] = field(default_factory=dict)
    is_required: bool = False
    is_score: bool = False


@dataclass(frozen=True, slots=True)
class Survey:
    """A survey: `name` is what links and answers are told by."""

    name: str
    title: Words
    questions: tuple[Question, ...]
    intro: Words = field(default_factory=dict)
    thanks: Words = field(default_factory=dict)
