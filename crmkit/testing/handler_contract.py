"""The contract of handlers: a season at a shop, with all kinds of people, and what may not come of it.

```python
from crmkit.testing import HandlerContract


class TestBirthdays(HandlerContract):
    plugin = "birthdays"
    locales = ("en", "zh-CN")
```
"""

from typing import Any, ClassVar

import pytest
from sqlmodel import SQLModel

from crmkit.core.actions import Action, Broadcast, Send
from crmkit.core.broadcast import customer_column
from crmkit.core.events import ScheduleDue
from crmkit.core.message import Reason, State
from crmkit.store import tables as t
from crmkit.testing.clock import Clock
from crmkit.testing.installation import Installation
from crmkit.testing.journey import Journey, Told
from crmkit.testing.life import PERSONAL
from crmkit.testing.playbook_contract import Lived, PlaybookContract, told_in
from crmkit.testing.secrecy import told
from crmkit.testing.watch import Called, Watch

#: Why a message waits for a person: somebody's code or text is at fault.
_FAULTS = frozenset({Reason.MISSING_VARIABLE, Reason.TEMPLATE_ERROR, Reason.POLICY_ERROR})
#: So much of what is wrong is told.
_SHOWN = 8


class HandlerContract(PlaybookContract):
    """What the handlers of a playbook are held to.

    Class attributes:
        of_no_customer: tables of the playbook's own that hold nothing of customers.
    """

    of_no_customer: ClassVar[tuple[type[SQLModel], ...]] = ()

    # --- what handlers do -------------------------------------------------------------------------------------------

    def test_no_handler_fails(self) -> None:
        """Not for an order without a number or amount, nor for a customer without a name, nor for nobody."""
        none_of(self.lived().crmkit.failures, "failed")

    def test_only_actions_are_asked_for(self) -> None:
        """Handlers yield, or return a list of, what `crmkit` knows as actions."""
        calls = self._calls()
        none_of(
            [f"{_of(call)} yields {one!r}" for call in calls for one in call.answered if not isinstance(one, Action)]
        )

    def test_every_handler_is_asked(self) -> None:
        """What never happens in a season must be named in `events`, or no test says anything of its handler.

        `lacks["handler NAME"]` says why one need not be asked.
        """
        lived = self.lived()
        handlers = self._plugin(lived.crmkit).handlers
        assert handlers or "handlers" in self.lacks, f"{self.plugin} has no handlers"
        asked = {call.name for call in self._calls()}
        silent = {one.name for one in handlers} - asked - {name.removeprefix("handler ") for name in self.lacks}
        kinds = [f"{one.name} (@on({one.event.__name__}))" for one in handlers if one.name in silent]
        none_of(kinds, "never asked; name an event of its kind in `events`")

    def test_handlers_read_what_they_are_given_and_nothing_else(self) -> None:
        """No file, no socket, no chance, no clock but `crm.now`. `lacks["purity"]`."""
        self.needs("purity")
        none_of([f"{_of(call)}: {what}" for call in self._calls() for what in call.did])

    def test_asked_again_a_handler_answers_the_same(self) -> None:
        """With the same event and the same facts."""
        none_of([f"{_of(call)}: {call.again}" for call in self._calls() if call.again is not None])

    # --- what comes of it -------------------------------------------------------------------------------------------

    def test_the_same_season_is_told_the_same(self) -> None:
        """The same keys, recipients and texts: a decision that is made again after a crash tells nothing twice."""
        first, again = self.lived(), self.lived("again", is_strict=False)
        apart = set(first.messages) ^ set(again.messages)
        none_of([f"{key}: {template}" for key, template, *_ in sorted(apart)], "told in one of two same seasons only")

    def test_what_is_said_again_is_told_once(self) -> None:
        """Every record once more, from a poll and a webhook: nothing is told again."""
        lived = self.lived("again", is_strict=False)
        before = {one.key for one in lived.journey.messages}
        lived.life.again(lived.journey)
        lived.journey.passes("1d")
        fresh = [one for one in lived.journey.messages if one.key not in before and not _is_scheduled(one)]
        none_of([f"{one.template} to {one.staff or 'a customer'}" for one in fresh], "told again")

    def test_history_announces_nothing(self) -> None:
        """A shop is connected after the season: it is read at once, and nobody is told of it then or later.

        `lacks["history"]` says why a playbook speaks of what happened before.
        """
        self.needs("history")
        later = self._read_later()
        spoken = [one for one in later.journey.messages if one.state != State.CANCELLED and not _is_scheduled(one)]
        none_of(
            [f"{one.template} at {one.at:%Y-%m-%d}" for one in spoken], "told of what happened before the shop came"
        )

    def test_every_template_is_there_in_every_language(self) -> None:
        """For each channel of a `Send` that has the template at all, in each of `locales`."""
        lived = self.lived()
        templates = lived.crmkit.host.templates
        wanted = {
            (one.template, tuple(one.via))
            for call in self._calls()
            for one in call.answered
            if isinstance(one, Send | Broadcast)
        }
        missing = []
        for name, via in sorted(wanted):
            channels = [channel for channel in via if channel in templates.channels(name)]
            if not channels:
                missing.append(f"{name} for {' or '.join(via)}")
            for channel in channels:
                gone = templates.missing_locales(name, channel, self.locales)
                missing += [f"{name}.{locale}.{channel}.txt" for locale in gone]
        none_of(missing, "missing")

    def test_every_message_can_be_made(self) -> None:
        """For people without a name, and orders without an amount too: none waits since a fact or a template fails."""
        found = self.lived().journey.silent()
        none_of([f"{one.template}: {one.reason}: {one.detail}" for one in found if one.reason in _FAULTS])

    # --- whose it is ------------------------------------------------------------------------------------------------

    def test_tables_say_whose_their_rows_are(self) -> None:
        """`__customer__` names a column of customers' numbers, or the table is in `of_no_customer`."""
        for model in self._models(self.lived().crmkit):
            if model in self.of_no_customer:
                continue
            column = customer_column(model)
            what = f"{model.__name__} names no column of customers"
            assert column is not None, f'{what}; write __customer__ = "customer_id", or put it in of_no_customer'
            assert column in model.model_fields, f"{model.__name__}.__customer__ is {column!r}, which is no column"

    def test_a_forgotten_customer_leaves_nothing(self) -> None:
        """Everybody is forgotten: no row of the playbook's tables is theirs, or holds a name or an address."""
        lived = self.lived("forgotten", is_strict=False)
        crmkit = lived.crmkit
        families = {row["family_id"] for row in crmkit.rows(t.profile) if row["forgotten_at"] is None}
        for number in sorted(families):
            crmkit.forget(number)
        left = []
        for model in self._models(crmkit):
            rows = crmkit.rows(model)
            column = customer_column(model)
            if column is not None:
                left += [f"{model.__name__}: a row of customer {row[column]}" for row in rows]
            left += [f"{model.__name__}: {what}" for row in rows for what in told(str(row), PERSONAL)]
        none_of(left, "left after everybody was forgotten")

    def test_nothing_personal_is_logged(self) -> None:
        """Neither logged nor printed: names, addresses, numbers."""
        lived = self.lived()
        none_of(told(lived.printed, PERSONAL), "logged or printed")

    # --- at work ----------------------------------------------------------------------------------------------------

    def _calls(self) -> list[Called]:
        lived = self.lived()
        return [call for call in lived.watch.calls if call.name not in _policies(self._plugin(lived.crmkit))]

    def _models(self, crmkit: Installation) -> list[type[SQLModel]]:
        loaded = self._loaded(crmkit)
        found: list[type[SQLModel]] = []
        for answer in loaded.manager.hook.crmkit_tables():
            found += [model for tables in answer for model in tables.models]
        return found

    def _read_later(self) -> Lived:
        """A shop that is connected when the season is over."""
        first = self.lived()

        def live() -> Lived:
            crmkit = self.installed(clock=Clock(first.crmkit.clock.now), watch=Watch())
            crmkit.clock.move("1h")
            journey = Journey(crmkit)
            first.life.again(journey)
            for _ in range(3):
                journey.passes("30d")
            return Lived(journey, first.life, crmkit.watch, "", told_in(journey))

        return self.lives.once("history", live)


def _is_scheduled(told: Told) -> bool:
    """Whether it came of a schedule, which has its day whatever happened before."""
    return told.began_with == ScheduleDue.name


def _policies(plugin: Any) -> set[str]:
    return {policy.name for policy in plugin.policies} - {handler.name for handler in plugin.handlers}


def _of(call: Called) -> str:
    return f"{call.name} on {type(call.given).__name__}"


def none_of(found: list[str], what: str = "") -> None:
    """Nothing was found; else the test fails and tells the first of it, each once."""
    each = list(dict.fromkeys(found))
    if each:
        more = [f"... and {len(each) - _SHOWN} more"] if len(each) > _SHOWN else []
        pytest.fail("\n".join([*([f"{what}:"] if what else []), *each[:_SHOWN], *more]), pytrace=False)
