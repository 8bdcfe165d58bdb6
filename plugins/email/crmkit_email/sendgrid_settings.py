"""As whom mail is sent through SendGrid, and how its webhook is verified."""

from importlib.util import find_spec
from typing import Annotated, Self

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from crmkit_email.api import ApiSettings
from crmkit_email.sendgrid_signature import read_key


class SendgridSettings(ApiSettings):
    """As whom, and from where."""

    model_config = ConfigDict(hide_input_in_errors=True)

    #: an API key (SG...); of its permissions "Mail Send" is needed
    api_key: SecretStr
    #: the public key SendGrid shows beside its signed event webhook; a list while it is changed over
    webhook_public_key: str | Annotated[list[str], Field(min_length=1)] | None = None
    #: whether addresses that SendGrid blocks are read (bounces, invalid addresses, spam reports, unsubscribes)
    suppressions: bool = True
    #: the number of the unsubscribe group that transactional mail belongs to
    transactional_group: Annotated[int, Field(ge=1)] | None = None
    #: the number of the unsubscribe group that marketing mail belongs to
    marketing_group: Annotated[int, Field(ge=1)] | None = None
    #: whether transactional mail goes to who has unsubscribed from everything at SendGrid too
    bypass_unsubscribes: bool = False
    #: whether links lead through SendGrid, so that it can tell who followed them
    click_tracking: bool = False
    #: whether mails hold a picture that tells SendGrid when they are opened
    open_tracking: bool = False
    #: the pool of IP addresses to send from
    ip_pool: Annotated[str, Field(min_length=2, max_length=64)] | None = None
    #: whether SendGrid only checks mails, and sends none
    sandbox: bool = False
    #: for an account in the EU: https://api.eu.sendgrid.com
    base_url: str = "https://api.sendgrid.com"

    @field_validator("webhook_public_key")
    @classmethod
    def _is_key(cls, value: str | list[str] | None) -> str | list[str] | None:
        if value is None:
            return value
        if find_spec("cryptography") is None:
            raise ValueError("needs the package cryptography: pip install 'crmkit-email[sendgrid]'")
        for one in value if isinstance(value, list) else [value]:
            read_key(one)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.transactional_group is not None and self.transactional_group == self.marketing_group:
            raise ValueError("transactional_group and marketing_group are one: who leaves it would get neither")
        return self

    def group(self, purpose: str) -> int | None:
        """The unsubscribe group of mail for a purpose."""
        return self.marketing_group if purpose == "marketing" else self.transactional_group

    def is_ours(self, group: int | None) -> bool:
        """Whether an unsubscribe group is one of those crmkit sends by."""
        return group is not None and group in {self.transactional_group, self.marketing_group}
