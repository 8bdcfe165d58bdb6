"""What the code says of one event, hook, action or error: the generated part of its page in docs/reference/."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import crmkit
from crmkit.core import actions, errors, hooks
from crmkit.core.events import CONTEXT

_ENTRY = re.compile(r"^ {4}(\w[\w, ]*): (.*)$")


def table(*columns: str, rows: Iterable[Iterable[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"|{'|'.join(f' {cell} ' if cell != '---' else cell for cell in line)}|\n" for line in lines)


def sentence(thing: object) -> str:
    """The first paragraph of a docstring, in one line."""
    return _cell(" ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()))


def events() -> dict[str, type[crmkit.Event]]:
    """{wire name: the core's own event}"""
    return {name: kind for name, kind in crmkit.EVENTS.items() if kind.__module__ == "crmkit.core.events"}


def hooks_() -> dict[str, Any]:
    return {name: value for name, value in vars(hooks).items() if name.startswith("crmkit_")}


def actions_() -> dict[str, type[actions.Action]]:
    kinds = [kind for kind in vars(actions).values() if inspect.isclass(kind) and issubclass(kind, actions.Action)]
    return {kind.__name__: kind for kind in kinds if kind is not actions.Action}


def errors_() -> dict[str, type[crmkit.CrmkitError]]:
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.CrmkitError)]
    return {kind.__name__: kind for kind in kinds}


def event(name: str) -> str:
    """What an event tells, and its fields beside those every event has."""
    kind = events()[name]
    own = own_fields(kind)
    told = f'{sentence(kind)}\n\n`from crmkit import {kind.__name__}`; in rules `on = "{name}"`.\n\n'
    if not own:
        return f"{told}It has no fields but those [every event has](../../events.md).\n"
    items = [item for item in dataclasses.fields(kind) if item.name in own]
    rows = [(f"`{item.name}`", _type(item.type), _default(item)) for item in items]
    return told + table("field", "type", "if not said", rows=rows)


def own_fields(kind: type[crmkit.Event]) -> list[str]:
    names = [item.name for item in dataclasses.fields(kind)]
    return [name for name in names if name not in CONTEXT or name in kind.__annotations__]


def hook(name: str) -> str:
    """What a hook yields and is given."""
    function = hooks_()[name]
    signature = inspect.signature(function)
    yields = re.sub(r"Iterable\[(.*)\]", r"\1", _type(signature.return_annotation)).replace("\\|", "or")
    given = ", ".join(f"`{one}`" for one in signature.parameters) or "nothing"
    return f"{sentence(function)}\n\nIt is given {given}, and yields {yields}.\n"


def action(name: str) -> str:
    """What an action asks for, and what it takes."""
    kind: Any = actions_()[name]
    said = entries(kind)
    items = dataclasses.fields(kind)
    rows = [(f"`{item.name}`", _type(item.type), _default(item), said.get(item.name, "")) for item in items]
    return f"{_paragraphs(kind)}\n\n{table('takes', 'type', 'if not said', 'is', rows=rows)}"


def error(name: str) -> str:
    """What an error says, what it is a kind of, and what it is made of."""
    kind = errors_()[name]
    parents = [f"[`{one.__name__}`]({one.__name__}.md)" for one in kind.__mro__[1:] if one.__name__ in errors_()]
    said: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        said |= entries(one)
    parameters = inspect.signature(kind).parameters.values()
    rows = [(f"`{one.name}`", _type(one.annotation), _value(one.default), said.get(one.name, "")) for one in parameters]
    kin = f"It is a kind of {', and so of '.join(parents)}. " if parents else ""
    return (
        f"{sentence(kind)}\n\n{kin}A command that ends with it has exit code {kind.exit_code}.\n\n"
        f"{table('takes', 'type', 'if not said', 'is', rows=rows)}"
    )


def entries(thing: object, *sections: str) -> dict[str, str]:
    """What a docstring says below these sections, by name; `Attributes:` and `Args:` where none is named."""
    if "__doc__" not in vars(thing):
        return {}
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in (inspect.getdoc(thing) or "").splitlines():
        if line in (sections or ("Attributes:", "Args:")):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside and (entry := _ENTRY.match(line)):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, _cell(entry[2]))
        elif inside and line:
            found |= {name: f"{found[name]} {_cell(line.strip())}" for name in names}
    return found


def _paragraphs(thing: object) -> str:
    """A docstring up to its first section."""
    said = re.split(r"\n\n(?=\w+:\n)", inspect.getdoc(thing) or "")[0]
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in said.split("\n\n"))


def _type(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty or annotation is Any:
        return "anything"
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return f"`{_cell(re.sub(r'[A-Za-z_][A-Za-z_.]*[.](?=[A-Za-z_])', '', written))}`"


def _default(item: Any) -> str:
    if item.default_factory is not dataclasses.MISSING:
        return f"`{item.default_factory()!r}`"
    return _value(inspect.Parameter.empty if item.default is dataclasses.MISSING else item.default)


def _value(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "needed"
    return "" if value is None or value == "" else f"`{value!r}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


#: {folder of docs/reference: (its things by name, what its pages say of one)}
KINDS: Mapping[str, tuple[Callable[[], Mapping[str, Any]], Callable[[str], str]]] = {
    "hooks": (hooks_, hook),
    "events": (events, event),
    "actions": (actions_, action),
    "errors": (errors_, error),
}


def linked(kind: str, name: str, folder: str = "reference/") -> str:
    """The name, leading to its page."""
    return f"[`{name}`]({folder}{kind}/{name}.md)"


def every() -> Iterator[tuple[str, str]]:
    """Every thing that has a page: (folder, name)."""
    for kind, (things, _) in KINDS.items():
        yield from ((kind, name) for name in things())
