"""Notes every call of a playbook's handlers and policies: what it was given, what it answered, what it did beside that.

Handlers and policies read what they are given, and nothing else: no file, no socket, no clock. What they do is seen by
the interpreter's profiler, whatever names they have for it, while they run and no longer.
"""

import contextlib
import inspect
import os
import random
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from types import FrameType, GeneratorType
from typing import Any

from crmkit.core.actions import Action
from crmkit.core.events import Event
from crmkit.core.hooks import Handler, Outgoing, Policy
from crmkit.flow.setup import Plugin

#: What tells the time, by what it is called; `datetime.now` and its like are told by their class.
_CLOCKS = {getattr(time, name): f"time.{name}()" for name in ("time", "time_ns", "monotonic", "perf_counter")}
_CLOCKS |= {getattr(time, name): f"time.{name}()" for name in ("monotonic_ns", "perf_counter_ns", "localtime", "ctime")}
_CLOCK_METHODS = {"now", "utcnow", "today"}
#: What leaves the program, waits, or differs from call to call.
_EFFECTS = {
    open: "open()",
    os.open: "os.open()",
    os.listdir: "os.listdir()",
    os.scandir: "os.scandir()",
    os.system: "os.system()",
    os.urandom: "os.urandom()",
    time.sleep: "time.sleep()",
    input: "input()",
    **({subprocess._fork_exec: "a process"} if hasattr(subprocess, "_fork_exec") else {}),
}
_SOCKETS = {"connect", "connect_ex", "sendto", "send", "sendall", "recv"}
_RANDOM = {random.random, random.getrandbits, uuid.uuid4, secrets.token_bytes}
#: Whose own doings are not the playbook's: what reads the database for it, what imports modules and zones, and what a
#: test's tools do whenever the interpreter collects garbage.
_OTHERS = frozenset(
    "crmkit sqlalchemy sqlmodel psycopg psycopg_pool pydantic sqlite3 logging importlib zoneinfo"
    " phonenumbers jinja2 threading concurrent linecache tokenize traceback warnings hypothesis _pytest pluggy".split()
)


@dataclass(slots=True)
class Called:
    """One call of a handler or a policy.

    Attributes:
        plugin, name: whose, and what it is called.
        given: the event, or the message a policy is asked about.
        answered: the actions a handler yielded, or a policy's answer alone.
        error: what it raised.
        did: what it did that it should not: `datetime.now() in handlers.py:12`.
        again: how a second call with the same event differed from the first; None where it did not.
    """

    plugin: str
    name: str
    given: Event | Outgoing
    answered: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    did: list[str] = field(default_factory=list)
    again: str | None = None


class Watch:
    """Watches the handlers and policies of an installation.

    Args:
        is_strict: note too what they do beside answering, and call each handler twice. That takes its time.

    Attributes:
        calls: every call, in order.
    """

    def __init__(self, *, is_strict: bool = False) -> None:
        self.is_strict = is_strict
        self.calls: list[Called] = []

    def over(self, plugin: Plugin) -> Plugin:
        """A plugin whose handlers and policies are watched."""
        return replace(
            plugin,
            handlers=tuple(self._handler(plugin.name, one) for one in plugin.handlers),
            policies=tuple(self._policy(plugin.name, one) for one in plugin.policies),
        )

    def errors(self) -> list[Called]:
        """The calls that raised."""
        return [call for call in self.calls if call.error is not None]

    # one of each

    def _handler(self, plugin: str, handler: Handler) -> Handler:
        def watched(event: Any, crm: Any) -> Any:
            call = Called(plugin, handler.name, event)
            self.calls.append(call)
            returned = self._ask(call, handler.function, event, crm)
            if isinstance(returned, GeneratorType):
                return self._follow(call, handler, returned, event, crm)
            if isinstance(returned, list | tuple):
                call.answered.extend(returned)
                self._repeat(call, handler, event, crm)
            elif returned is not None and not inspect.iscoroutine(returned):
                call.answered.append(returned)
            return returned

        watched.__name__ = handler.name
        return replace(handler, function=watched)

    def _follow(
        self, call: Called, handler: Handler, returned: Iterator[Action], event: Any, crm: Any
    ) -> Iterator[Action]:
        """What a handler yields, one by one, as it is taken."""
        while True:
            try:
                action = self._ask(call, next, returned)
            except StopIteration:
                break
            call.answered.append(action)
            yield action
        self._repeat(call, handler, event, crm)

    def _repeat(self, call: Called, handler: Handler, event: Any, crm: Any) -> None:
        """Ask a handler once more: whoever asks it gets the same."""
        if not self.is_strict:
            return
        try:
            again = list(handler.function(event, crm) or ())
        except Exception as error:  # a plugin's code
            call.again = f"raised {type(error).__name__} the second time"
            return
        first, second = [repr(one) for one in call.answered], [repr(one) for one in again]
        if first != second:
            call.again = f"answered {_first_other(first, second)} the second time"

    def _policy(self, plugin: str, policy: Policy) -> Policy:
        def watched(outgoing: Outgoing, crm: Any) -> Any:
            call = Called(plugin, policy.name, outgoing)
            self.calls.append(call)
            answer = self._ask(call, policy.check, outgoing, crm)
            call.answered.append(answer)
            if self.is_strict and (second := policy.check(outgoing, crm)) != answer:
                call.again = f"answered {second!r} instead of {answer!r} the second time"
            return answer

        return replace(policy, check=watched)

    def _ask(self, call: Called, function: Callable[..., Any], *args: Any) -> Any:
        with _profiled(call.did) if self.is_strict else contextlib.nullcontext():
            try:
                return function(*args)
            except StopIteration:
                raise
            except BaseException as error:
                call.error = error
                raise


def _first_other(first: list[str], second: list[str]) -> str:
    for one, other in zip(first, second, strict=False):
        if one != other:
            return f"{other} instead of {one}"
    return f"{len(second)} actions instead of {len(first)}"


@contextlib.contextmanager
def _profiled(found: list[str]) -> Iterator[None]:
    """Note what this thread does meanwhile that a handler should not."""
    before = sys.getprofile()

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if event != "c_call" and event != "call":
            return
        what = _told(arg) if event == "c_call" else _RANDOM_CODE.get(frame.f_code)
        if what is None:
            return
        caller = frame if event == "c_call" else frame.f_back
        module = str(caller.f_globals.get("__name__", "")) if caller is not None else ""
        if caller is None or module.partition(".")[0] in _OTHERS or module == __name__:
            return
        place = _own_frame(caller)
        found.append(f"{what} in {os.path.basename(place.f_code.co_filename)}:{place.f_lineno}")  # noqa: PTH119

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)


_RANDOM_CODE = {one.__code__: f"{one.__module__}.{one.__name__}()" for one in _RANDOM if hasattr(one, "__code__")}
_STANDARD = os.path.dirname(os.__file__)  # noqa: PTH120


def _own_frame(frame: FrameType) -> FrameType:
    """The nearest caller that is not the standard library: where it can be mended."""
    here: FrameType | None = frame
    while here is not None and here.f_code.co_filename.startswith((_STANDARD, "<frozen")):
        if "site-packages" in here.f_code.co_filename:
            break
        here = here.f_back
    return here or frame


def _told(function: Any) -> str | None:
    """What a function of the interpreter's own does that a handler should not; None where it may."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if name in _CLOCK_METHODS and isinstance(owner, type) and issubclass(owner, date):
        return f"{'datetime' if issubclass(owner, datetime) else 'date'}.{name}()"
    if name in _SOCKETS and isinstance(owner, socket.socket):
        return f"socket.{name}()"
    if isinstance(owner, random.Random) and owner is random._inst:
        return f"random.{name}()"
    try:
        return _CLOCKS.get(function) or _EFFECTS.get(function)
    except TypeError:  # what cannot be looked up is none of them
        return None
