"""What gateways to vendors with an HTTP API of their own are told: where it is."""

from urllib.parse import urlsplit

from pydantic import field_validator

from crmkit_email.machine import is_loopback
from crmkit_email.mime import SenderSettings


class ApiSettings(SenderSettings):
    """The sender, and where the vendor's API is."""

    #: where the API is; http only on this machine
    base_url: str

    @field_validator("base_url")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        parts = urlsplit(value)
        if not parts.hostname or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
            raise ValueError("should be an address like https://api.example.com")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("would send the credentials in the clear; use https")
        return value.rstrip("/")
