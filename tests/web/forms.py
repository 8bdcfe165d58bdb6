"""The forms of a page as a browser has them: what each sends by itself, what may be chosen, and what is written."""

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Form:
    """A form.

    Attributes:
        hidden: fields that are always sent, as (name, value).
        choices: boxes and options that may be chosen.
        written: names of fields that are written into.
        buttons: one of them is sent, if any has a name.
    """

    hidden: list[tuple[str, str]] = field(default_factory=list)
    choices: list[tuple[str, str]] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._selecting = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        name, value = said.get("name", ""), said.get("value", "")
        if tag == "form":
            self.forms.append(Form())
        elif tag == "select":
            self._selecting = name
        elif tag == "option":
            self.forms[-1].choices.append((self._selecting, value))
        elif tag == "button" and name:
            self.forms[-1].buttons.append((name, value))
        elif tag == "textarea" or (tag == "input" and said.get("type", "text") == "text"):
            self.forms[-1].written.append(name)
        elif tag == "input" and said["type"] == "hidden":
            self.forms[-1].hidden.append((name, value))
        elif tag == "input":
            assert said["type"] in ("checkbox", "radio"), said
            self.forms[-1].choices.append((name, value))


def forms_of(page: str) -> list[Form]:
    """The forms of a page, in their order."""
    reader = _Reader()
    reader.feed(page)
    return reader.forms
