"""The files of plans, as far as the database knows of them."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from crmkit.core.columns import UtcTime


class PlanFileRow(SQLModel, table=True):
    """A file a plan was written to, on a machine: it names buyers, so whoever is forgotten is looked for in it."""

    __tablename__ = "plan_file"

    path: str = Field(primary_key=True)
    host: str = Field(primary_key=True)
    made_at: datetime = Field(sa_type=UtcTime)
