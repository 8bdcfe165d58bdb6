"""A survey as its page shows it: questions in every language it speaks, and answers read from a form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from crmkit.core.columns import storable

#: {language: text}
Words = Mapping[str, str]
#: Characters of a text answer.
LONGEST = 2_000


def said(words: Words, language: str) -> str:
    """A text in a language: in another of the same tongue where it is not there, else in English, else in any."""
    tongue = language.partition("-")[0]
    close = (name for name in words if name.partition("-")[0] == tongue)
    return next((words[name] for name in (language, *close, "en", *words) if name in words), "")


@dataclass(slots=True)
class Answers:
    """What a form answered.

    Attributes:
        values: {question: its answer}: a number, a choice, a list of choices, a text; what was left out is not here.
        score: the answer to the question that is the score.
        flaws: {question: `required`, `unknown`, `range` or `long`}: what cannot be taken as it is.
    """

    values: dict[str, Any] = field(default_factory=dict)
    score: float | None = None
    flaws: dict[str, str] = field(default_factory=dict)


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

    @property
    def numbers(self) -> range:
        """What a scale goes over."""
        return range(self.low, self.high + 1)

    def read(self, given: Sequence[str]) -> tuple[Any, str | None]:
        """An answer, None where there is none, and what is wrong with it (see `Answers.flaws`)."""
        told = [storable(one).strip() for one in given]
        told = [one for one in told if one]
        if not told:
            return None, "required" if self.is_required else None
        if self.kind == "text":
            text = told[0].replace("\r\n", "\n")
            return (text, None) if len(text) <= LONGEST else (None, "long")
        if self.kind == "scale":
            known = {str(number): number for number in self.numbers}
            return (known[told[0]], None) if len(told) == 1 and told[0] in known else (None, "range")
        if not set(told) <= set(self.choices) or (self.kind == "choice" and len(told) > 1):
            return None, "unknown"
        return (told[0] if self.kind == "choice" else [one for one in self.choices if one in told]), None


@dataclass(frozen=True, slots=True)
class Survey:
    """A survey: `name` is what links and answers are told by."""

    name: str
    title: Words
    questions: tuple[Question, ...]
    intro: Words = field(default_factory=dict)
    thanks: Words = field(default_factory=dict)

    def read(self, form: Mapping[str, Sequence[str]]) -> Answers:
        """What a form answers: each field is called as its question."""
        found = Answers()
        for question in self.questions:
            answer, flaw = question.read(form.get(question.name, ()))
            if flaw is not None:
                found.flaws[question.name] = flaw
            elif answer is not None:
                found.values[question.name] = answer
                if question.is_score and isinstance(answer, int):
                    found.score = float(answer)
        return found
