"""Jinja, held in: one piece of a template compiled, and rendered with facts.

A template is written by an operator or a plugin's author; what customers and vendors say is only ever a value in it
and never compiled. The sandbox bounds accidents: nothing reaches out of it, and no output grows without end.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import jinja2
from jinja2 import ChainableUndefined, StrictUndefined, Undefined, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from crmkit.core.errors import ConfigError
from crmkit.flow.wording import filters_of

#: No part of a message is longer than this many characters.
LONGEST = 100_000
#: No `range` in a template has more steps.
MOST_STEPS = 1_000

# A line that holds tags and nothing else leaves no line behind: its newline is moved into its last tag, so that
# errors still name the right line.
_TAG = r"\{%(?:(?!%\}).)*%\}|\{#(?:(?!#\}).)*#\}"
_ALONE = re.compile(rf"^[ \t]*((?:(?:{_TAG})[ \t]*)*)(\{{[%#])((?:(?![%#]\}}).)*?)([-+]?[%#]\}})[ \t]*\n", re.MULTILINE)


class MissingVariable(ConfigError):
    """A template needs a fact that is not known: `variable`, as far as it can be named, and which `template`."""

    def __init__(self, variable: str, template: str) -> None:
        super().__init__(
            f"{variable} is not known",
            who=template,
            operation="render",
            do=f"ask for it with {{% if {variable} is defined %}}, or set on_missing",
        )
        self.variable, self.template = variable, template


class _Missing(UndefinedError):
    def __init__(self, hint: str | None, owner: Any, name: Any, message: str) -> None:
        super().__init__(message)
        self.hint, self.owner, self.name = hint, owner, name


class _Strict(StrictUndefined):
    """A missing fact that knows where it is missing."""

    __slots__ = ()

    def __init__(
        self, hint: str | None = None, obj: Any = jinja2.utils.missing, name: Any = None, exc: Any = UndefinedError
    ) -> None:
        raised: Any = partial(_Missing, hint, obj, name) if exc is UndefinedError else exc
        super().__init__(hint, obj, name, raised)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**"))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Facts before methods: `order.items` is a fact of that name, if there is one."""
        if type(obj) is dict and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not (isinstance(left, int | float) and isinstance(right, int | float)):
            kinds = f"{type(left).__name__} {operator} {type(right).__name__}"  # values may be personal
            raise SecurityError(f"a template multiplies numbers only, not {kinds}")
        return left * right


def _range(*steps: int) -> range:
    found = range(*steps)
    if len(found) > MOST_STEPS:
        raise SecurityError(f"range of more than {MOST_STEPS} steps")
    return found


#: What a template finds beside its facts.
GLOBALS: dict[str, Any] = {"range": _range, "dict": dict, "namespace": jinja2.utils.Namespace}


@lru_cache(maxsize=128)
def _environment(locale: str, missing: str, is_html: bool) -> _Sandbox:
    undefined: type[Undefined] = ChainableUndefined if missing == "empty" else _Strict
    environment = _Sandbox(undefined=undefined, autoescape=is_html, cache_size=0)
    environment.globals = {}
    environment.filters.update(filters_of(locale))
    return environment


class Piece:
    """A subject, a text or an HTML body, compiled once."""

    def __init__(
        self, source: str, file: str, *, locale: str, missing: str, is_html: bool = False, skipped: int = 0
    ) -> None:
        self._file, self._skipped = file, skipped
        environment = _environment(locale, missing, is_html)
        try:
            tree = environment.parse(_ALONE.sub(r"\1\2\3\n\4", source))
            for kind in (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends):
                for node in tree.find_all(kind):
                    raise jinja2.TemplateSyntaxError("a template stands alone and takes in no other", node.lineno)
            self._template = environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            place = f"{file}:{error.lineno + skipped}"
            raise ConfigError(str(error.message), who=place, operation="template", do="correct the template") from error
        self._root: Callable[[Context], Any] = self._template.root_render_func

    def render(self, facts: dict[str, Any]) -> str:
        parts: list[str] = []
        size = 0
        try:
            for part in self._root(self._template.new_context(facts, shared=True)):
                parts.append(part)
                size += len(part)
                if size > LONGEST:
                    raise SecurityError(f"gives more than {LONGEST} characters")
        except _Missing as missing:
            raise MissingVariable(_path(facts, missing), self._file) from missing
        except Exception as error:  # a template is somebody's code
            place = f"{self._file}:{self._line(error)}"
            what = f"{type(error).__name__}: {error}"
            raise ConfigError(what, who=place, operation="render", do="correct the template") from error
        return "".join(parts)

    def _line(self, error: Exception) -> int:
        trace, line = error.__traceback__, 0
        while trace is not None:
            if trace.tb_frame.f_code is self._root.__code__:
                line = self._template.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return line + self._skipped


def _path(facts: Mapping[str, Any], missing: _Missing) -> str:
    """The missing fact by its whole name: `order.lines[0].title`."""
    if missing.name is None:
        return missing.hint or "a fact"
    name = str(missing.name)
    if missing.owner is jinja2.utils.missing:
        return name
    owners: list[tuple[str, Any]] = list(facts.items())
    for place, owner in owners:
        if owner is missing.owner:
            return f"{place}[{name}]" if isinstance(owner, list) else f"{place}.{name}"
        if isinstance(owner, dict):
            owners.extend((f"{place}.{key}", item) for key, item in owner.items())
        elif isinstance(owner, list):
            owners.extend((f"{place}[{number}]", item) for number, item in enumerate(owner))
    return name
