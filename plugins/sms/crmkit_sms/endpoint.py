"""Where a vendor answers: an address that gives the credentials away to nobody on the way."""

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator


def _is_safe(value: str) -> str:
    parts = urlsplit(value)
    if not parts.hostname or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise ValueError("should be an address like https://api.vendor.example")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("would send the credentials in the clear; use https")
    return value.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


#: A base URL, without a slash at its end.
Endpoint = Annotated[str, AfterValidator(_is_safe)]
