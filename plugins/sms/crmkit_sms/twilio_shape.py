"""What Twilio writes, as far as it is read here.

Vendor documentation: https://www.twilio.com/docs/messaging/api/message-resource
"""

from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from crmkit import Money


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


#: What only tells more: where it cannot be read, the message was taken or refused all the same.
Lenient = WrapValidator(_or_none)


class TwilioListed(BaseModel):
    """A message as Twilio lists it: what cannot be read is not there, and nothing is told by that."""

    sid: Annotated[str | None, StringConstraints(max_length=64), Lenient] = None
    status: Annotated[str | None, Lenient] = None
    to: Annotated[str | None, Lenient] = None
    body: Annotated[str | None, Lenient] = None
    direction: Annotated[str | None, Lenient] = None
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
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        return moment if moment.tzinfo is not None else None


class TwilioMessage(TwilioListed):
    """A message as Twilio answers that it was taken: with an id, or it is no such answer."""

    sid: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class TwilioBalance(BaseModel):
    """What is left on an account."""

    balance: Annotated[Decimal, Field(allow_inf_nan=False)]
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


def _listed(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


class TwilioMessages(BaseModel):
    """A page of messages; only where it says so (`next_page_uri` is null) is it the last."""

    messages: list[Annotated[TwilioListed, BeforeValidator(_listed)]]
    next_page_uri: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether it says that no other follows."""
        return not self.next_page_uri and "next_page_uri" in self.model_fields_set


class TwilioError(BaseModel):
    """What Twilio writes when it refuses."""

    code: Annotated[int | None, Lenient] = None
    message: Annotated[str | None, Lenient] = None
