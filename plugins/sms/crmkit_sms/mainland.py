"""What goes for text messages of mainland China, whichever vendor sends them: numbers, times, and how texts are worded.

Vendors there send approved texts only, signed `【sign】`; marketing ends with how to refuse it, and no value that is
filled in may be an address of the web. Their times are those of Shanghai and do not say so.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from difflib import get_close_matches
from typing import Any, Literal
from zoneinfo import ZoneInfo

from crmkit import (
    AdapterError,
    Address,
    ConsentRecord,
    Form,
    FormSpec,
    InboundRecord,
    Message,
    Reason,
    Receipt,
    Record,
    UnsupportedError,
    Wording,
    opt_out,
    signed,
)

ZONE = ZoneInfo("Asia/Shanghai")
#: What marketing ends with; carriers take no other wording.
REFUSAL = "拒收请回复R"
#: A mobile number of mainland China, and any number, as addresses are written.
MOBILE, NUMBER = re.compile(r"\+861[0-9]{10}"), re.compile(r"\+[1-9][0-9]{4,14}")
#: What a template may say for a gateway beside template, sign and values: the form for other countries' numbers.
EXTRAS = ("international",)
_URL = re.compile(r"https?:|www\.|://", re.IGNORECASE)
_SAYS_URL = re.compile(r"\blinks\.|url\b|https?:", re.IGNORECASE)
_FILLED = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")


# --- times ------------------------------------------------------------------------------------------------------------


def moment(written: Any) -> datetime | None:
    """A time as these vendors write it, `2026-01-02 11:04:05`; None if it is none."""
    try:
        return datetime.strptime(written, "%Y-%m-%d %H:%M:%S").replace(tzinfo=ZONE)
    except (TypeError, ValueError):
        return None


def until(at: time, now: datetime) -> timedelta:
    """How long it is until it is `at` there."""
    there = now.astimezone(ZONE)
    then = there.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
    return (then if then > there else then + timedelta(days=1)) - there


def until_next_month(now: datetime) -> timedelta:
    """How long it is until a month begins there."""
    there = now.astimezone(ZONE)
    first = there.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1) - there


# --- numbers ----------------------------------------------------------------------------------------------------------


def address(number: str, country: str = "") -> Address:
    """A number as one of these vendors tells it: 11 digits of the mainland, or with its country, `+` or not.

    Args:
        number: as it is told.
        country: its country code, where that is told by itself.
    """
    has_country = number.startswith(("+", "00"))
    digits = re.sub(r"[^0-9]", "", number).removeprefix("00")
    if country and not has_country:
        digits = f"{country.lstrip('+0')}{digits}"
    elif not has_country and re.fullmatch(r"1[3-9][0-9]{9}", digits):
        digits = f"86{digits}"
    return _address(f"+{digits}", number)


def _address(found: str, told: str) -> Address:
    return Address(kind="phone", value=found) if NUMBER.fullmatch(found) else Address(kind="sms_sender", value=told)


# --- what is replied --------------------------------------------------------------------------------------------------


def reply(
    known: str, sender: Address, text: str, said_at: datetime, extras: dict[str, Any], locales: Iterable[str] | None
) -> Iterator[Record]:
    """A reply, and what it says about further messages.

    Args:
        known: its id.
        sender, text, said_at: who wrote what, and when.
        extras: what else its vendor says.
        locales: languages whose opt-out words count; None: all.
    """
    text = text.replace("\x00", "")
    yield InboundRecord(external_id=known, channel="sms", sender=sender, text=text, received_at=said_at, extras=extras)
    said = opt_out(text, locales)
    if said is not None:
        yield consent(known, sender, said, text, said_at)


def consent(
    known: str, sender: Address, state: Literal["granted", "withdrawn"], wording: str | None, said_at: datetime
) -> ConsentRecord:
    """Who refuses texts refuses marketing; news of orders still comes."""
    about: dict[str, Any] = {"address": sender, "channel": "sms", "purpose": "marketing"}
    return ConsentRecord(external_id=known, state=state, wording=wording, said_at=said_at, **about)


# --- what a message leaves as -----------------------------------------------------------------------------------------


def form_of(message: Message, who: str) -> Form:
    """The form a message goes in: for a number elsewhere the one its template has for those.

    Raises:
        UnsupportedError: it has none.
    """
    form = message.form
    if form is None or form.template_id is None:
        raise UnsupportedError("its template has no approved text here", who=who, operation="deliver")
    if MOBILE.fullmatch(message.address) or message.address.startswith("+86"):
        return form
    abroad = form.extra.get("international")
    if not isinstance(abroad, Mapping) or not isinstance(abroad.get("template_id"), str):
        what = "a number outside mainland China, and its template has no approved text for those"
        do = "let another gateway follow, or add `international` to the template's front matter"
        raise UnsupportedError(what, who=who, operation="deliver", do=do)
    return Form(abroad["template_id"], abroad.get("sign_name", form.sign_name), form.params, form.extra)


def ready(
    group: Iterable[Message], who: str, longest: int
) -> tuple[list[tuple[Message, Receipt | AdapterError]], list[tuple[Message, Form]]]:
    """Messages that need not be sent to know what comes of them, and the others with their forms."""
    came: list[tuple[Message, Receipt | AdapterError]] = []
    fine: list[tuple[Message, Form]] = []
    for message in group:
        try:
            form = form_of(message, who)
        except UnsupportedError as error:
            came.append((message, message.unsupported(f"{error.what}; {error.do}" if error.do else error.what)))
            continue
        refused = refusal(message, form, longest)
        if refused is None:
            fine.append((message, form))
        else:
            came.append((message, refused))
    return came, fine


def refusal(message: Message, form: Form, longest: int) -> Receipt | None:
    """What is certain to be refused, without asking; None if nothing is seen.

    Args:
        message, form: what is to leave.
        longest: characters of a text with its sign.
    """
    if message.address.startswith("+86") and not MOBILE.fullmatch(message.address):
        return message.rejected(Reason.NOT_CAPABLE, "no mobile number of mainland China")
    if not NUMBER.fullmatch(message.address):
        return message.rejected(Reason.BAD_ADDRESS, "not an international phone number (+ and digits)")
    if any(_URL.search(value) for value in form.params.values()):
        what = "a value that is filled in holds an address of the web, which carriers do not take"
        return message.rejected(Reason.CONTENT, what)
    length = max(len(signed(message.text, form.sign_name)), sum(map(len, form.params.values())))
    if length > longest:
        return message.rejected(Reason.CONTENT, f"it has {length} characters with its sign; {longest} are taken")
    return None


# --- how templates are worded -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rules:
    """What a vendor asks of texts.

    Attributes:
        template_id: what its ids look like, and one of them.
        sign: what signs look like, and in words.
        names: whether values go by name.
        longest: characters of a text with its sign.
        extras: what else a template may say.
    """

    template_id: tuple[str, str]
    sign: tuple[str, str]
    names: bool
    longest: int
    extras: tuple[str, ...] = EXTRAS

    def flaws(self, wording: Wording) -> Iterator[str]:
        """What is wrong with a template, as far as can be told without asking the vendor."""
        form = wording.form
        if form is None:
            return
        yield from self._forms(form)
        yield from self._values(form)
        text = wording.text.strip()
        if wording.purpose == "marketing" and not text.endswith(REFUSAL):
            yield f"marketing has to end with {REFUSAL}, and nothing after it; carriers refuse it otherwise"
        if "{%" not in text:
            yield from _apart(text, form.params)
        literal = signed(_FILLED.sub("", text), form.sign_name)
        if len(literal) > self.longest:
            yield f"its text has {len(literal)} characters without what is filled in; {self.longest} are taken"

    def _forms(self, form: FormSpec) -> Iterator[str]:
        yield from self._named("", form.template_id, form.sign_name, True)
        abroad = form.extra.get("international")
        if isinstance(abroad, Mapping):
            sign = abroad.get("sign_name", form.sign_name)
            yield from self._named("international.", abroad.get("template_id"), sign, False)
        elif abroad is not None:
            yield "international should be a table with a template_id"
        for name in form.extra:
            if name not in self.extras:
                near = get_close_matches(name, ["template_id", "sign_name", "params", *self.extras], 1)
                yield f"{name} is nothing this gateway reads" + (f"; perhaps {near[0]}" if near else "")

    def _named(self, place: str, template_id: Any, sign_name: Any, is_signed: bool) -> Iterator[str]:
        pattern, example = self.template_id
        if not isinstance(template_id, str) or not re.fullmatch(pattern, template_id):
            yield f"{place}template_id should be the id of the approved text, like {example}"
        pattern, words = self.sign
        if sign_name is None and is_signed:
            yield f"it has no {place}sign_name: the approved name the text is signed with, without 【 and 】"
        elif sign_name is not None and not (isinstance(sign_name, str) and re.fullmatch(pattern, sign_name)):
            yield f"{place}sign_name should be {words}, without 【 and 】"

    def _values(self, form: FormSpec) -> Iterator[str]:
        for name, expression in form.params.items():
            if _SAYS_URL.search(expression):
                yield f"the value {name} is an address of the web; put the address itself into the approved text"
            if self.names and not re.fullmatch(r"[A-Za-z]\w*", name):
                yield f"the value {name!r} has no name the approved text could know; give params as a table"


def forms_of(wording: Wording) -> Iterator[FormSpec]:
    """What a template says for numbers of the mainland, and for others."""
    form = wording.form
    if form is None:
        return
    yield form
    abroad = form.extra.get("international")
    if isinstance(abroad, Mapping) and isinstance(abroad.get("template_id"), str):
        yield FormSpec(abroad["template_id"], abroad.get("sign_name"), form.params, form.extra)


def _apart(text: str, params: Mapping[str, str]) -> Iterator[str]:
    """Where the text shows something else than what is filled in."""
    shown = {path for written in _FILLED.findall(text) if (path := _path(written)) is not None}
    given = {name: path for name, written in params.items() if (path := _path(written)) is not None}
    for path in sorted(shown - set(given.values())):
        yield f"its text shows {{{{ {path} }}}}, which params does not give; make both as the text was approved"
    for name, path in given.items():
        if path not in shown:
            yield f"params gives {name} ({path}), which its text does not show; make both as the text was approved"


def _path(expression: str) -> str | None:
    """What an expression is about, without filters; None where that cannot be told."""
    path = expression.partition("|")[0].strip()
    return path if _PATH.fullmatch(path) else None


def approved(text: str, params: Mapping[str, str], placeholders: Iterable[str]) -> str | None:
    """A template's text as its vendor writes it; None where that cannot be told.

    Args:
        text: a template's body.
        params: its values' expressions.
        placeholders: how the vendor writes each, in their order.
    """
    places = dict(zip((_path(one) for one in params.values()), placeholders, strict=False))
    if "{%" in text or None in places:
        return None
    paths = [_path(one) for one in _FILLED.findall(text)]
    if any(path not in places for path in paths):
        return None
    return _FILLED.sub(lambda found: places[_path(found[1])], text).strip()


def bare(text: str) -> str:
    """A text without what tells nothing: its sign, spaces."""
    return re.sub(r"\s+|^【[^】]*】", "", text)
