"""As whom mail is sent through SendGrid, and how its webhook is verified."""

import ipaddress
from importlib.util import find_spec
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from crmkit_email.mime import SenderSettings
from crmkit_email.sendgrid_signature import read_key


class SendgridSettings(SenderSettings):
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

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        return safe_url(value, "https://api.sendgrid.com")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.transactional_group is not None and self.transactional_group == self.marketing_group:
            raise ValueError("transactional_group and marketing_group are one: who leaves it would get neither")
        return self

    def group(self, purpose: str) -> int | None:
        """The unsubscribe group of mail for a purpose."""
        return self.marketing_group if purpose == "marketing" else self.transactional_group


def safe_url(value: str, like: str) -> str:
    """An address that credentials may be sent to.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(value)
    if not parts.hostname or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise ValueError(f"should be an address like {like}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("would send the credentials in the clear; use https")
    return value.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
