"""What Twilio writes, as far as it is read here.

Vendor documentation: https://www.twilio.com/docs/messaging/api/message-resource
"""

from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from crmkit import Money


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


#: What only tells more: where it cannot be read, the message was taken or refused all the same.
Lenient = WrapValidator(_or_none)


class TwilioMessage(BaseModel):
    """A message as Twilio shows it."""

    sid: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    status: str
    to: str | None = None
    body: str | None = None
    direction: str = "outbound-api"
    error_code: Annotated[int | None, Lenient] = None
    error_message: Annotated[str | None, Lenient] = None
    price: Annotated[Decimal | None, Field(allow_inf_nan=False), Lenient] = None
    price_unit: Annotated[str | None, StringConstraints(pattern=r"^[A-Z]{3}$"), Lenient] = None
    date_created: Annotated[str | None, Lenient] = None

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
