"""What a handler answers when it is called: actions, or it is its author's fault, told in words."""

import inspect
from collections import Counter
from collections.abc import Iterable
from types import GeneratorType
from typing import Any

from crmkit.core.actions import Action, Send
from crmkit.core.errors import PluginError
from crmkit.core.events import Event
from crmkit.core.hooks import Handler
from crmkit.flow.crm import CrmView
from crmkit.flow.setup import Plugin
from crmkit.flow.wave import Work

#: One call of a handler may ask for so much.
ACTIONS = 10_000


def actions_of(plugin: Plugin, handler: Handler, event: Event, crm: CrmView) -> list[Action]:
    """What a handler asks for.

    Raises:
        PluginError: it returned something else, or no end of it.
    """

    def refuse(what: str, do: str) -> PluginError:
        return PluginError(f"{handler.name} {what}", who=plugin.name, operation=event.name, do=do)

    found: list[Action] = []
    returned: Any = handler(event, crm)
    if returned is None:
        return found
    if not isinstance(returned, GeneratorType | list):  # what nearly all return
        if inspect.iscoroutine(returned) or inspect.isasyncgen(returned):
            if inspect.iscoroutine(returned):
                returned.close()
            raise refuse("is async", "handlers do no input or output: write `def`")
        if isinstance(returned, Action) or not isinstance(returned, Iterable):
            what = f"returned {returned!r}, which is no list of actions"
            raise refuse(what, "yield actions, or return a list of them")
    for action in returned:
        if not isinstance(action, Action):
            what = "yield Send, Broadcast, Note, Emit, Later, Cancel or Save"
            raise refuse(f"returned {action!r}, which is no action", what)
        found.append(action)
        if len(found) > ACTIONS:
            raise refuse(f"asks for more than {ACTIONS} things at once", "end the loop")
    return found


def check_keys(plugin: Plugin, work: Work, asked: Iterable[Action]) -> None:
    """Two messages one plugin asks for of one event can be told apart.

    Raises:
        PluginError: two have one key and one recipient.
    """
    sends = [action for action in asked if isinstance(action, Send)]
    if len(sends) < 2:
        return
    counts = Counter((send.key, send.template if send.key is None else None, send.to) for send in sends)
    twice = next((key or template for (key, template, _), count in counts.items() if count > 1), None)
    if twice is not None:
        raise PluginError(
            f"sends {twice!r} twice to one recipient",
            who=plugin.name,
            operation=work.event.name,
            do="give each Send a key of its own",
        )
