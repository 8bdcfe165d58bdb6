"""A playbook that thanks for orders, and breaks when they are paid."""

from collections.abc import Iterator

from crmkit import Action, Crm, Handler, OrderPaid, OrderPlaced, Send, hookimpl, on


@on(OrderPlaced)
def thank(event: OrderPlaced, crm: Crm) -> Iterator[Action]:
    """Thank the buyer."""
    yield Send("thanks", via=("email",))


@on(OrderPaid)
def burst(event: OrderPaid, crm: Crm) -> Iterator[Action]:
    """Break, with everything that is in hand in the error."""
    assert event.customer is not None
    raise ValueError(f"{event.customer.name} {event.customer.key}")


@hookimpl
def crmkit_handlers() -> Iterator[Handler]:
    """What is said."""
    yield thank
    yield burst
