"""Approved texts: what a template says of a vendor that sends only texts it has approved before.

The vendor knows the text under an id of its own, wants the name it is signed with, and the values that go into it, by
name or in an order. A template says so for each gateway in its front matter; what a message's form is follows from that
and from the facts frozen with the message, so another gateway makes its own form of the same message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Form:
    """A message as a vendor of approved texts wants it.

    Attributes:
        template_id: the vendor's id of the text.
        sign_name: whom the vendor signs it with; the reader finds it before the text, `【sign】`.
        params: the values that go into it, in order, by the names the vendor or the template gives them.
        extra: whatever else the template says for this vendor.
    """

    template_id: str | None = None
    sign_name: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FormSpec:
    """What a template's front matter says of one gateway: a `Form` whose values are still expressions."""

    template_id: str | None = None
    sign_name: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wording:
    """A template as a gateway is shown it, to say whether it can send it.

    Attributes:
        name, locale, channel: of its file.
        file: where it lies.
        purpose: `transactional` or `marketing`.
        text: its body, variables and all.
        form: what it says of this gateway; None if nothing.
    """

    name: str
    locale: str
    channel: str
    file: str
    purpose: str
    text: str
    form: FormSpec | None = None


class Caution(str):
    """What may keep a gateway from sending a template, and need not: `crmkit config check` tells it as a warning."""

    __slots__ = ()


def signed(text: str, sign_name: str | None) -> str:
    """A text message as its reader finds it, whoever put the name before it."""
    return text if sign_name is None or text.startswith(f"【{sign_name}】") else f"【{sign_name}】{text}"
