"""Which hosts are this machine: secrets may go there in the clear."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether what is sent to a host, by name or by address, never leaves this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
