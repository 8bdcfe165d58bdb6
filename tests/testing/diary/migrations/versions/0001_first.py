"""The table of the diary."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "diary_entry",
        sa.Column("customer_id", sa.BigInteger, primary_key=True),
        sa.Column("orders", sa.Integer, nullable=False),
    )
