"""A playbook with a table, an event and a timer of its own."""

from collections.abc import Iterator
from datetime import timedelta

from sqlmodel import Field, SQLModel

from crmkit import (
    Action,
    Crm,
    Duration,
    Event,
    Handler,
    Later,
    Note,
    OrderPlaced,
    PluginSettings,
    Save,
    Send,
    Tables,
    hookimpl,
    on,
)

TEMPLATES = {
    "diary-page.en.email": """
        ---
        purpose = "transactional"
        subject = "A page of your diary"
        ---
        You ordered {{ order.number }}.
        """
}


class Settings(PluginSettings):
    after: Duration = timedelta(days=1)


class Entry(SQLModel, table=True):
    __tablename__ = "diary_entry"
    __customer__ = "customer_id"

    customer_id: int = Field(primary_key=True)
    orders: int = 0


class PageTurned(Event):
    """A page is full."""


@on(OrderPlaced, load=(Entry,))
def write(event: OrderPlaced, crm: Crm) -> Iterator[Action]:
    if event.customer is not None:
        known = crm.select(Entry, customer_id=event.customer.id)
        yield Save(Entry(customer_id=event.customer.id, orders=known[0].orders + 1 if known else 1))
        yield Later(PageTurned(), at=(event.at or crm.now) + crm.settings.after)


@on(PageTurned)
def turn(event: PageTurned, crm: Crm) -> Iterator[Action]:
    yield Note("a page was turned")
    yield Send("diary-page", via=("email",))


@hookimpl
def crmkit_handlers() -> Iterator[Handler]:
    yield write
    yield turn


@hookimpl
def crmkit_tables() -> Iterator[Tables]:
    yield Tables((Entry,), "migrations")
