"""A template: its front matter, its version, and the text it gives for some facts.

Its version is a hash of everything written in it, so that what a message was rendered from can be kept and shown.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from crmkit.core.duration import Duration
from crmkit.core.errors import ConfigError
from crmkit.core.form import Form, FormSpec, Wording
from crmkit.core.order import MILESTONES
from crmkit.core.segments import segments_of
from crmkit.flow.sandbox import GLOBALS, Piece

#: The line between text and HTML in `Template.source`.
HTML_BELOW = "--- html ---"

_FRONT = re.compile(r"---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message's content. `encoding` and `segments` only for text messages."""

    subject: str | None
    text: str
    html: str | None
    encoding: str | None
    segments: int | None
    content_hash: str


class Front(BaseModel):
    """What a template says of itself between its `---` lines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purpose: Literal["transactional", "marketing"]
    subject: str | None = None
    valid_for: Duration | None = None
    milestone: Literal["placed", "paid", "shipped", "delivered", "completed", "cancelled"] | None = None
    on_missing: Literal["hold", "skip", "empty"] = "hold"
    gateways: dict[str, dict[str, Any]] = {}


#: What the core reads of a gateway's table; other keys are the gateway's own.
_GATEWAY: dict[str, tuple[type, ...]] = {"template_id": (str,), "sign_name": (str,), "params": (list, dict)}


@dataclass(frozen=True, eq=False)
class Template:
    """One version of a template, compiled.

    Attributes:
        name, locale, channel: of `<name>.<locale>.<channel>.txt`.
        source: the whole of it: front matter, text, HTML.
        hash: of all these: the version a message is frozen under.
        file: where it lies, or what it is called where it comes from the database.
        purpose: `transactional` or `marketing`.
        valid_for: after this time it is stale news.
        milestone: the milestone of an order it tells, so that later news overtakes it.
        on_missing: what becomes of a message that lacks a fact: hold it, skip it, or leave the place empty.
        gateways: {gateway: what it says of it}, for vendors that send approved texts only.
    """

    name: str
    locale: str
    channel: str
    source: str
    hash: str
    file: str
    purpose: Literal["transactional", "marketing"]
    valid_for: timedelta | None
    milestone: str | None
    on_missing: Literal["hold", "skip", "empty"]
    gateways: Mapping[str, FormSpec]
    _pieces: tuple[Piece | None, Piece, Piece | None] = field(repr=False)
    _values: Mapping[str, Mapping[str, Piece]] = field(repr=False)

    @property
    def has_links(self) -> bool:
        """Whether it gives its reader links to pages of the reader's own."""
        return "links" in self.source

    @classmethod
    def from_file(cls, path: Path, *, name: str, locale: str, channel: str) -> "Template":
        """The template in `path`, with the HTML that lies beside it."""
        source, beside = _read(path), path.with_suffix(".html")
        if beside.is_file():
            source = f"{source.rstrip()}\n{HTML_BELOW}\n{_read(beside)}"
        return cls.from_source(source, name=name, locale=locale, channel=channel, file=str(path))

    @classmethod
    def from_source(cls, source: str, *, name: str, locale: str, channel: str, file: str | None = None) -> "Template":
        """The template whose `source` was kept.

        Raises:
            ConfigError: naming file, line or key, and what would be right.
        """
        file = file or f"{name}.{locale}.{channel}.txt"
        written, below, html = source.partition(f"\n{HTML_BELOW}\n")
        if HTML_BELOW in html.splitlines():
            _refuse(file, f"the line {HTML_BELOW} is crmkit's own", "word it otherwise")
        found = _FRONT.match(written)
        if found is None:
            _refuse(file, "has no front matter", 'begin with ---, purpose = "transactional", ---, each on its own line')
        front = _front(found[1], file)
        if channel == "email" and front.subject is None:
            _refuse(file, "an e-mail needs a subject", 'add subject = "..." to the front matter')
        forms = {gateway: _form_spec(table) for gateway, table in front.gateways.items()}
        piece = partial(Piece, locale=locale, missing=front.on_missing)
        return cls(
            name=name,
            locale=locale,
            channel=channel,
            source=source,
            hash=hashlib.blake2b("\n".join((name, locale, channel, source)).encode(), digest_size=16).hexdigest(),
            file=file,
            purpose=front.purpose,
            valid_for=front.valid_for,
            milestone=front.milestone,
            on_missing=front.on_missing,
            gateways=forms,
            _pieces=(
                None if front.subject is None else piece(front.subject, f"{file} (subject)"),
                piece(written[found.end() :], file, skipped=found[0].count("\n")),
                piece(html, str(Path(file).with_suffix(".html")), is_html=True) if below else None,
            ),
            _values={
                gateway: {
                    param: piece(f"{{{{ {written} }}}}", f"{file} (gateways.{gateway}.params.{param})")
                    for param, written in form.params.items()
                }
                for gateway, form in forms.items()
            },
        )

    @property
    def text(self) -> str:
        """Its body as written, without what stands above or the HTML beside it."""
        written, _, _ = self.source.partition(f"\n{HTML_BELOW}\n")
        found = _FRONT.match(written)
        return written[found.end() :].strip() if found else written.strip()

    def form_spec(self, *names: str) -> FormSpec | None:
        """What it says of the first of these gateways it says anything of; None if it says nothing."""
        return next((self.gateways[name] for name in names if name in self.gateways), None)

    def wording(self, *names: str) -> Wording:
        """The template as the gateway of these names (its entry's, its slug) is shown it."""
        spec = self.form_spec(*names)
        return Wording(self.name, self.locale, self.channel, self.file, self.purpose, self.text, spec)

    def form(self, names: Sequence[str], context: Mapping[str, Any]) -> Form | None:
        """The form of a message with these facts, for the gateway of these names; None if it says nothing of it.

        Raises:
            MissingVariable: a value is not known, unless `on_missing` is `empty`.
            ConfigError: a value cannot be made.
        """
        name = next((name for name in names if name in self.gateways), None)
        if name is None:
            return None
        spec, facts = self.gateways[name], {**GLOBALS, **context}
        values = {param: value.render(facts).strip() for param, value in self._values[name].items()}
        return Form(spec.template_id, spec.sign_name, values, spec.extra)

    def render(self, context: Mapping[str, Any]) -> Rendered:
        """The message for these facts (of `context_of`, or read back from where they were frozen).

        Raises:
            MissingVariable: a fact is not known, unless `on_missing` is `empty`.
            ConfigError: the template fails, gives nothing, or gives too much.
        """
        subject_piece, text_piece, html_piece = self._pieces
        facts = {**GLOBALS, **context}
        subject = None if subject_piece is None else " ".join(subject_piece.render(facts).splitlines()).strip()
        text = text_piece.render(facts).strip()
        html = None if html_piece is None else html_piece.render(facts).strip()
        if not text:
            _refuse(self.file, "gives an empty text", "let it say something whatever is missing", "render")
        content = hashlib.blake2b(digest_size=16)
        for part in (subject, text, html):
            content.update(b"-" if part is None else f"{len(part)}:{part}".encode("utf-8", "surrogatepass"))
        segments = segments_of(text) if self.channel == "sms" else None
        return Rendered(
            subject,
            text,
            html,
            segments.encoding if segments else None,
            segments.parts if segments else None,
            content.hexdigest(),
        )


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        _refuse(str(path), f"is not UTF-8 (byte {error.start})", "save it as UTF-8")


def _refuse(file: str, what: str, do: str, operation: str = "template") -> NoReturn:
    raise ConfigError(what, who=file, operation=operation, do=do)


def _front(written: str, file: str) -> Front:
    try:
        values = tomllib.loads("\n" + written)  # so that lines count from the top of the file
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"front matter: {error}", who=file, operation="template", do="it is TOML: key = value"
        ) from error
    for key in values.keys() - Front.model_fields.keys():
        _unknown(file, key, list(Front.model_fields))
    try:
        front = Front.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            _refuse(file, f"front matter says no {key}", f'add {key} = "transactional" or "marketing"')
        known = f"; known are {', '.join(MILESTONES)}" if key == "milestone" else ""
        _refuse(file, f"{key} = {first['input']!r}: {first['msg'].removeprefix('Value error, ')}", f"correct it{known}")
    for gateway, table in front.gateways.items():
        for key, value in table.items():
            kind = _GATEWAY.get(key)
            if kind is None and get_close_matches(key, _GATEWAY, cutoff=0.75):
                _unknown(file, f"gateways.{gateway}.{key}", [f"gateways.{gateway}.{known}" for known in _GATEWAY])
            if kind is not None and not isinstance(value, kind):
                _refuse(file, f"gateways.{gateway}.{key} = {value!r}", "give text" if kind == (str,) else _PARAMS)
        params = table.get("params", [])
        for one in params.values() if isinstance(params, dict) else params:
            if not isinstance(one, str) or not one.strip():
                what = f"gateways.{gateway}.params has {one!r}"
                _refuse(file, what, 'write what stands between {{ and }}, as text: "order.number"')
    return front


_PARAMS = 'give a table {name = "customer.name"} or a list ["customer.name"]'
_PATH = re.compile(r"[a-zA-Z_][\w.]*")


def _form_spec(table: Mapping[str, Any]) -> FormSpec:
    written = table.get("params", {})
    if isinstance(written, list):  # by their order; a name is given where there is an obvious one
        named: dict[str, str] = {}
        for number, one in enumerate(written, 1):
            last = one.strip().rpartition(".")[2] if _PATH.fullmatch(one.strip()) else str(number)
            named[str(number) if last in named else last] = one
        written = named
    extra = {key: value for key, value in table.items() if key not in _GATEWAY}
    return FormSpec(table.get("template_id"), table.get("sign_name"), written, extra)


def _unknown(file: str, key: str, known: list[str]) -> NoReturn:
    near = get_close_matches(key, known, 1, 0.5)
    _refuse(file, f"unknown key {key}", f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")
