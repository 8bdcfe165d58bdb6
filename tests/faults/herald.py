"""A playbook that tells every buyer of the order."""

from collections.abc import Iterator

from crmkit import Action, Event, Handler, OrderPlaced, Send, hookimpl, on


@on(OrderPlaced)
def tell(event: Event, crm: object) -> Iterator[Action]:
    yield Send("news", via=("email",))


@hookimpl
def crmkit_handlers() -> Iterator[Handler]:
    yield tell
