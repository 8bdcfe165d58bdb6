"""Placeholders in what the configuration says is sent, filled in as each format wants it.

`{text}` in a JSON table arrives as a JSON string, in a form or an address percent-encoded, in XML with its entities:
what the server reads is the text, whatever stands in it. Braces that are meant are doubled, `{{`. A template is parsed
once, when the configuration is read, so that a name that does not exist is told then.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape as xml_escaped

#: What a template may name, beside `secrets.NAME` and `params.NAME`.
NAMES = {
    "to": "the number, +8613800138000",
    "to_digits": "the number without +",
    "to_national": "the number without + and `country_code`",
    "text": "the message",
    "key": "the message's key, the same for every try",
    "key_hash": "the key as 40 characters of 0-9a-f",
    "sender": "the setting `sender`",
    "purpose": "transactional or marketing",
    "template": "the template's name",
    "locale": "the message's language",
    "shop": "the shop's name",
    "expires_in": "seconds until it is stale news",
    "webhook": "the address receipts are to be sent to",
}
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
#: What no XML document may hold, written as an entity or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Values = Mapping[str, Any]
Escape = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Name:
    """A placeholder."""

    name: str


@dataclass(frozen=True, slots=True)
class Filling:
    """A parsed template: text as it stands, and names."""

    parts: tuple[str | Name, ...]

    @classmethod
    def of(cls, template: str, secrets: Collection[str] | None = ()) -> "Filling":
        """Parse a template.

        Args:
            template: the template.
            secrets: names `secrets.NAME` may have; None: any.

        Raises:
            ValueError: a name that does not exist, or a single brace.
        """
        parts: list[str | Name] = []
        end = 0
        for found in _TOKEN.finditer(template):
            parts.append(template[end : found.start()])
            end = found.end()
            if found[1] is not None:
                parts.append(_name(found[1], secrets))
            elif found[0] in {"{{", "}}"}:
                parts.append(found[0][0])
            else:
                raise ValueError(f"a single {found[0]} in {template!r}; write {found[0] * 2} for the character")
        parts.append(template[end:])
        return cls(tuple(part for part in parts if part != ""))

    @property
    def names(self) -> set[str]:
        """What it names."""
        return {part.name for part in self.parts if isinstance(part, Name)}

    @property
    def sole(self) -> str | None:
        """The name it consists of; None where there is more, or less."""
        only = self.parts[0] if len(self.parts) == 1 else None
        return only.name if isinstance(only, Name) else None

    def fill(self, values: Values, escape: Escape = str) -> str:
        """The text with its names filled in; what has no value is left out."""
        return "".join(part if isinstance(part, str) else escape(_text(values.get(part.name))) for part in self.parts)

    def value(self, values: Values) -> Any:
        """The same, but a name that stands alone keeps its type, and None."""
        return values.get(self.sole) if self.sole is not None else self.fill(values)


def _name(written: str, secrets: Collection[str] | None) -> Name:
    kind, dot, rest = written.partition(".")
    if kind == "secrets" and dot and secrets is not None and rest not in secrets:
        raise ValueError(f"there is no secret {rest!r} for {{{written}}}; write it under `secrets`")
    if written in NAMES or (kind in {"params", "secrets"} and rest):
        return Name(written)
    known = ", ".join(f"{{{name}}}" for name in [*NAMES, "params.NAME", "secrets.NAME"])
    raise ValueError(f"unknown placeholder {{{written}}}; there are {known}, and {{{{ is a brace")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def in_address(text: str) -> str:
    """As a part of an address's path, or of a form written by hand."""
    return quote(text, safe="")


def in_json(text: str) -> str:
    """Between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def in_xml(text: str) -> str:
    """As an element's text.

    Raises:
        ValueError: it holds what no XML document may.
    """
    if _NOT_XML.search(text):
        raise ValueError("holds a character that XML cannot")
    # a bare carriage return would be read as a line feed
    return xml_escaped(text, {'"': "&quot;", "'": "&apos;", "\r": "&#13;"})


def escape_for(content_type: str) -> Escape:
    """How text is written into a body of this media type."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith(("/xml", "+xml")):
        return in_xml
    if kind.endswith(("/json", "+json")):
        return in_json
    return in_address if kind == "application/x-www-form-urlencoded" else str


@dataclass(frozen=True, slots=True)
class Tree:
    """A table of the configuration with templates for its texts; numbers and booleans stay what they are."""

    node: Any

    @classmethod
    def of(cls, node: Any, secrets: Collection[str] | None = ()) -> "Tree":
        """Parse every text in a table.

        Raises:
            ValueError: as `Filling.of`, with its key; or something no body can hold.
        """
        return cls(_parsed(node, secrets))

    @property
    def names(self) -> set[str]:
        """What its templates name."""
        return set().union(*(leaf.names for leaf in _leaves(self.node)))

    def json(self, values: Values) -> Any:
        """The table with its names filled in."""
        return _filled(self.node, values)

    def fields(self, values: Values) -> dict[str, str | list[str]]:
        """The same as fields of a form or a query; a name without a value leaves its field out."""
        filled = {name: _filled(node, values) for name, node in self.node.items()}
        return {
            name: [_text(one) for one in value] if isinstance(value, list) else _text(value)
            for name, value in filled.items()
            if value is not None
        }


def _parsed(node: Any, secrets: Collection[str] | None, at: str = "") -> Any:
    if isinstance(node, str):
        try:
            return Filling.of(node, secrets)
        except ValueError as error:
            raise ValueError(f"{at}: {error}" if at else str(error)) from None
    if isinstance(node, dict):
        return {name: _parsed(one, secrets, f"{at}.{name}" if at else name) for name, one in node.items()}
    if isinstance(node, list):
        return [_parsed(one, secrets, at) for one in node]
    if isinstance(node, bool | int | float):
        return node
    raise ValueError(f"{at}: {node} is a {type(node).__name__}; write it as text")


def _leaves(node: Any) -> list[Filling]:
    if isinstance(node, Filling):
        return [node]
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [leaf for one in below for leaf in _leaves(one)]


def _filled(node: Any, values: Values) -> Any:
    if isinstance(node, Filling):
        return node.value(values)
    if isinstance(node, dict):
        return {name: _filled(one, values) for name, one in node.items()}
    return [_filled(one, values) for one in node] if isinstance(node, list) else node
