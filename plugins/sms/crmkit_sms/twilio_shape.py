"""What Twilio writes, as far as it is read here.

Vendor documentation: https://www.twilio.com/docs/messaging/api/message-resource
"""

from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Annotated

from pydantic import BaseModel, StringConstraints

from crmkit import Money


class TwilioMessage(BaseModel):
    """A message as Twilio shows it."""

    sid: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    status: str
    to: str | None = None
    body: str | None = None
    direction: str = "outbound-api"
    error_code: int | None = None
    error_message: str | None = None
    price: Decimal | None = None
    price_unit: str | None = None
    date_created: str | None = None

    @property
    def cost(self) -> Money | None:
        """What it cost; Twilio writes prices as what they do to the balance."""
        return Money(abs(self.price), self.price_unit) if self.price is not None and self.price_unit else None

    @property
    def created_at(self) -> datetime | None:
        """When Twilio took it; None if that cannot be read."""
        try:
            moment = parsedate_to_datetime(self.date_created or "")
        except ValueError:
            return None
        return moment if moment.tzinfo is not None else None


class TwilioMessages(BaseModel):
    """A page of messages."""

    messages: list[TwilioMessage]
    next_page_uri: str | None = None


class TwilioError(BaseModel):
    """What Twilio writes when it refuses."""

    code: int | None = None
    message: str = ""
