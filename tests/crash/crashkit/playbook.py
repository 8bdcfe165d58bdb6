"""The shop's own playbook, written into its folder: it writes a row for each call of its handlers.

Twice decided would be two rows. It also goes on a step further, and says thanks over a gateway of its own.
"""

from pathlib import Path

PLAYBOOK = '''
"""Writes a row for each call of its handlers: twice decided would be two rows."""

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

import crmkit
from crmkit import (
    Emit,
    Event,
    MessageDelivered,
    MessageReceived,
    MessageSent,
    Note,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    ReviewPosted,
    Save,
    Send,
    Tables,
    on,
)


class Thanked(Event):
    """The chain went on."""


class Call(SQLModel, table=True):
    __tablename__ = "calls_call"

    id: int | None = Field(default=None, primary_key=True)
    interaction: int = Field(sa_type=BigInteger)
    event: str


def called(event):
    return Save(Call(interaction=event.id, event=event.name))


@on(OrderPlaced)
def placed(event, crm):
    yield called(event)


@on(OrderPaid)
def paid(event, crm):
    yield called(event)
    yield Note(f"paid {event.order.external_id}")


@on(OrderShipped)
def shipped(event, crm):
    yield called(event)
    yield Emit(Thanked())


@on(Thanked)
def thanked(event, crm):
    yield called(event)
    yield Send("thanks", via=("chat", "email"))


@on(ReviewPosted)
def reviewed(event, crm):
    yield called(event)


@on(MessageSent)
def sent(event, crm):
    yield called(event)


@on(MessageDelivered)
def delivered(event, crm):
    yield called(event)


@on(MessageReceived)
def received(event, crm):
    yield called(event)


@crmkit.hookimpl
def crmkit_handlers():
    yield from (placed, paid, shipped, thanked, reviewed, sent, delivered, received)


@crmkit.hookimpl
def crmkit_tables():
    yield Tables(models=(Call,), migrations="migrations")
'''
#: What it listens to.
HEARD = (
    "order-placed order-paid order-shipped thanked review-posted message-sent message-delivered message-received"
).split()

MIGRATION = '''
"""The table of calls."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "1", None, None, None


def upgrade() -> None:
    op.create_table(
        "calls_call",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("interaction", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
    )
'''

_TEXT = '---\npurpose = "transactional"\n{more}---\nYour order {{{{ order.number }}}}\n'
#: What is said where care says nothing: {file: text}.
TEMPLATES = {
    "thanks.en.chat.txt": _TEXT.format(more=""),
    "thanks.en.email.txt": _TEXT.format(more='subject = "Thanks"\n'),
    "order-delivered.en.call.txt": _TEXT.format(more=""),
}


def write(folder: Path) -> None:
    """The playbook, its templates, and the migrations of its table."""
    (folder / "calls.py").write_text(PLAYBOOK)
    (folder / "templates").mkdir()
    for name, text in TEMPLATES.items():
        (folder / "templates" / name).write_text(text)
    migrations(folder)


def migrations(folder: Path) -> Path:
    """The migrations of the playbook's table, written into a folder."""
    (folder / "migrations" / "versions").mkdir(parents=True)
    (folder / "migrations" / "versions" / "first.py").write_text(MIGRATION)
    return folder / "migrations"
