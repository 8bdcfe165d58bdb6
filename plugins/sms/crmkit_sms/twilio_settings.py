"""As whom messages are sent through Twilio, and from where."""

import re
from typing import Annotated, Self

from pydantic import ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from crmkit import GatewaySettings
from crmkit_sms.endpoint import Endpoint

_SENDER = re.compile(r"\+[1-9][0-9]{4,14}|[0-9]{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")


class TwilioSettings(GatewaySettings):
    """As whom, and from where."""

    model_config = ConfigDict(hide_input_in_errors=True)

    #: the account's id (AC...)
    account_sid: Annotated[str, StringConstraints(pattern=r"^AC[0-9a-fA-F]{32}$")]
    #: signs in and verifies webhooks; a list while it is changed over, the one that signs in first
    auth_token: SecretStr | Annotated[list[SecretStr], Field(min_length=1)] | None = None
    #: an API key's id (SK...), to sign in with instead of the auth token
    api_key: Annotated[str, StringConstraints(pattern=r"^SK[0-9a-fA-F]{32}$")] | None = Field(
        default=None, json_schema_extra={"writeOnly": False}
    )
    #: the secret of that API key
    api_secret: SecretStr | None = None
    #: shared keys that sign webhooks instead of the auth token, by their ids
    shared_keys: dict[str, SecretStr] = Field(default_factory=dict)
    #: a number, a short code or a name of up to 11 letters and digits
    sender: str | None = None
    #: a messaging service's id (MG...), which chooses the sender
    messaging_service: Annotated[str, StringConstraints(pattern=r"^MG[0-9a-fA-F]{32}$")] | None = None
    #: whether Twilio may replace characters that make a text longer
    smart_encoded: bool = False
    #: languages whose opt-out words count; all where unset
    opt_out_locales: list[str] | None = None
    #: another region's address
    base_url: Endpoint = "https://api.twilio.com"

    @field_validator("sender")
    @classmethod
    def _is_sender(cls, value: str | None) -> str | None:
        if value is not None and not _SENDER.fullmatch(value):
            raise ValueError("should be a number like +14155550100, a short code, or a name of up to 11 characters")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.sender is None) == (self.messaging_service is None):
            raise ValueError("give sender or messaging_service, one of the two")
        if (self.api_key is None) != (self.api_secret is None):
            raise ValueError("api_key and api_secret go together: give both or neither")
        if self.api_key is None and self.auth_token is None:
            raise ValueError("give auth_token, or api_key and api_secret")
        return self
