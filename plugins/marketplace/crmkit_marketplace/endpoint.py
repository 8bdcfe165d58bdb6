"""Where a shop answers: whether what is sent there can be read by others on the way."""

import ipaddress


def is_public(host: str) -> bool:
    """Whether a host is out on the internet, as far as its name tells.

    Not this machine, addresses of a private network, nor names without a dot (another container's).
    """
    host = host.strip("[]").rstrip(".").lower()
    try:
        return not ipaddress.ip_address(host).is_private
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".internal", ".local"))
