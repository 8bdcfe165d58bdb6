"""What stands in an author's class: the attributes and methods of adapters and contracts, as their own docstrings say.

A class lists its attributes below `Class attributes:`; of a method the first paragraph is told.
"""

import collections.abc
import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AwareDatetime
from thing import entries, sentence, table

from crmkit import Gateway, Message, Order, OrderRecord, Source
from crmkit.adapters.adapter import Adapter
from crmkit.core.duration import write_duration
from crmkit.testing import (
    balance_contract,
    contract,
    gateway_contract,
    handler_contract,
    look_up_contract,
    memory_contract,
    message_contract,
    playbook_contract,
    policy_contract,
    receipt_contract,
    shop_contract,
    template_contract,
    webhook_contract,
    wire_contract,
)
from crmkit.testing import source_contract as source
from crmkit.testing.exchange import Fixture

#: What adapters call, and do not write.
CALLED = ("now", "error", "call")
#: What crmkit asks a class, and no author has to do with.
INNER = ("streams", "window")
#: {what is held to it: the classes whose attributes and tests are told together}
CONTRACTS: Mapping[str, tuple[type, ...]] = {
    "every adapter": (contract.AdapterContract, webhook_contract.WebhookContract, memory_contract.MemoryContract),
    "a gateway": (
        message_contract.MessageContract,
        wire_contract.WireContract,
        look_up_contract.LookUpContract,
        balance_contract.BalanceContract,
        receipt_contract.ReceiptContract,
        template_contract.TemplateContract,
        gateway_contract.GatewayContract,
    ),
    "a source": (shop_contract.ShopContract, source.SourceContract),
    "every playbook": (playbook_contract.PlaybookContract,),
    "its handlers": (handler_contract.HandlerContract,),
    "its policies": (policy_contract.PolicyContract,),
}
_TOPIC = re.compile(r"""needs\(\s*["']([\w-]+)["']|["']([\w-]+)["'] in self\.lacks|lacks\[["']([\w -]+)["']\]""")
_NAMED = re.compile(r"""\.name == ["']([a-z-]+)["']""")
_STREAMS = 'key.startswith("streams ")'


def attributes(kind: type) -> str:
    """What a class of this kind may say of itself, and what holds where it does not."""
    said = {name: text for base in reversed(kind.__mro__) for name, text in entries(base, "Class attributes:").items()}
    own = [name for name in said if name in vars(kind) or name in kind.__annotations__]
    return table(
        "attribute", "if not said", "is", rows=[(f"`{name}`", _default(kind, name), said[name]) for name in own]
    )


def methods(kind: type) -> str:
    """What a class of this kind may write, in the order of the class itself."""
    rows = [(_signature(name, one), sentence(one)) for name, one in _methods(kind) if name not in (*CALLED, *INNER)]
    return table("method", "does", rows=rows)


def given() -> str:
    """What every adapter finds, and calls."""
    rows = [(f"`{name}`", text) for name, text in entries(Adapter, "Attributes:").items()]
    rows += [(_signature(name, one), sentence(one)) for name, one in _methods(Adapter) if name in CALLED]
    return table("`self.`", "is", rows=rows)


def message() -> str:
    """What a gateway is given, and what it may answer."""
    rows = [(f"`{name}`", text) for name, text in entries(Message, "Attributes:").items()]
    rows += [(_signature(name, one), sentence(one)) for name, one in _methods(Message)]
    return table("`message.`", "is", rows=rows)


def contracts() -> str:
    """What a test class may say, by what it holds."""
    rows = []
    for what, classes in CONTRACTS.items():
        for kind in classes:
            said = entries(kind, "Class attributes:")
            rows += [(what, f"`{name}`", _default(kind, name), text) for name, text in said.items()]
    return table("of", "attribute", "if not said", "is", rows=rows)


def topics() -> str:
    """What may stand in `lacks`, and fixtures that are looked for by name: read from the tests that look there."""
    rows = []
    for what, classes in CONTRACTS.items():
        lacking: set[str] = set()
        named: set[str] = set()
        for kind in classes:
            text = inspect.getsource(inspect.getmodule(kind) or kind)
            lacking |= {name for groups in _TOPIC.findall(text) for name in groups if name}
            lacking |= {"streams NAME", "cursor NAME"} if _STREAMS in text else set()
            named |= set(_NAMED.findall(text))
        if lacking or named:
            rows.append((what, *(", ".join(f"`{one}`" for one in sorted(names)) for names in (lacking, named))))
    return table("of", "`lacks`", "fixtures with these names", rows=rows)


def fixture() -> str:
    """What may stand in `NAME.json`: the docstring of `Fixture` from what was given on."""
    said = (inspect.getdoc(Fixture) or "").partition("\n\n")[2].partition("\n\nAttributes:")[0]
    return f"{said}\n"


def order() -> str:
    """What a shop may say of an order, and as what handlers and templates see it."""
    seen = {item.name: item for item in dataclasses.fields(Order)}
    called = {"shipping_total": "shipping"}
    elsewhere = {"buyer": "`event.customer`, who it is found to be"}
    rows = []
    for name, one in OrderRecord.model_fields.items():
        item = seen.get(called.get(name, name))
        shown = elsewhere.get(name, "") if item is None else f"`order.{item.name}`, {_kind(item.type)}"
        rows.append((f"`{name}`", _kind(one.annotation), shown))
    return table("`OrderRecord`", "takes", "handlers and templates see", rows=rows)


def _kind(annotation: Any) -> str:
    """A type in one word or two: `Decimal`, several `LineRecord`, any mapping."""
    while get_origin(annotation) in {Annotated, Union, UnionType}:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is tuple:
        return f"several {_kind(get_args(annotation)[0])}"
    if annotation is None or get_origin(annotation) in {dict, collections.abc.Mapping}:
        return "a mapping"
    return "`datetime` with its zone" if annotation is AwareDatetime else f"`{annotation.__name__}`"


def adapter_attributes() -> str:
    return attributes(Adapter)


def adapter_methods() -> str:
    return methods(Adapter)


def gateway_attributes() -> str:
    return attributes(Gateway)


def gateway_methods() -> str:
    return methods(Gateway)


def source_attributes() -> str:
    return attributes(Source)


def source_methods() -> str:
    return methods(Source)


def _methods(kind: type) -> Iterator[tuple[str, Any]]:
    for name, one in vars(kind).items():
        if not name.startswith("_") and (inspect.isfunction(one) or isinstance(one, classmethod)):
            yield name, getattr(one, "__func__", one)


def _signature(name: str, method: Any) -> str:
    """`async deliver(message)`: how a method is written, without the types, which its docstring has."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    written = ", ".join(("**" if one.kind is one.VAR_KEYWORD else "") + one.name for one in parameters)
    return f"`{'async ' if inspect.iscoroutinefunction(method) else ''}{name}({written})`"


def _default(kind: type, name: str) -> str:
    if not hasattr(kind, name):
        return "needed"
    value = getattr(kind, name)
    if value is None or value in ((), frozenset()) or value == {}:
        return ""
    if isinstance(value, timedelta):
        return f"`{write_duration(value)}`"
    if inspect.isclass(value):
        return f"`{value.__name__}`"
    if isinstance(value, tuple | list):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{value!r}`"


TABLES = {
    one.__name__: one
    for one in (
        adapter_attributes, adapter_methods, gateway_attributes, gateway_methods, source_attributes, source_methods,
        given, message, order, contracts, topics, fixture,
    )
}  # fmt: skip
