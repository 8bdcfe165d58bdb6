"""The network guard: no test leaves this machine.

Python's own sockets are watched (`connect`, `connect_ex`, `sendto`, `sendmsg` and the name look-ups), and with them
asyncio, httpx, aiohttp and smtplib. What connects from C (libpq) or in another process is not seen.

Every attempt raises `NetworkDenied` where it happens, and is also noted: code that swallows the exception still fails
its test, since the pytest plugin looks at the notes afterwards.
"""

import ipaddress
import socket
from collections.abc import Callable
from typing import Any


class NetworkDenied(RuntimeError):
    """A test tried to reach something outside this machine. Not an OSError: it must not look like a vendor's outage."""


class NetworkGuard:
    """Replaces the ways out of `socket` by watched ones, until `remove()`."""

    def __init__(self) -> None:
        self._attempts: list[str] = []
        self._originals: list[tuple[Any, str, Any]] = []

    @property
    def is_installed(self) -> bool:
        """Whether the ways out are watched."""
        return bool(self._originals)

    def install(self) -> None:
        for name in ("connect", "connect_ex"):
            self._replace(socket.socket, name, self._watched_method(getattr(socket.socket, name), address_at=0))
        for name in ("sendto", "sendmsg"):
            self._replace(socket.socket, name, self._watched_method(getattr(socket.socket, name), address_at=-1))
        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
            self._replace(socket, name, self._watched_lookup(getattr(socket, name)))

    def remove(self) -> None:
        while self._originals:
            holder, name, original = self._originals.pop()
            setattr(holder, name, original)

    def drain(self) -> list[str]:
        """The attempts since the last call, oldest first."""
        attempts = list(self._attempts)
        self._attempts.clear()
        return attempts

    def _replace(self, holder: Any, name: str, watched: Any) -> None:
        self._originals.append((holder, name, getattr(holder, name)))
        setattr(holder, name, watched)

    def _deny(self, what: str) -> NetworkDenied:
        self._attempts.append(what)
        return NetworkDenied(f"network guard: a test tried to {what}; use 127.0.0.1, ::1, a fake or a recorded answer")

    def _watched_method(self, original: Callable[..., Any], *, address_at: int) -> Callable[..., Any]:
        def watched(sock: socket.socket, *args: Any) -> Any:
            # The address of `sendmsg` and `sendto` is the last argument, and a tuple when it is given at all.
            address = args[address_at] if args else None
            if sock.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
                host, port = address[:2]
                if not (_is_loopback(host) or _is_local_alias(host)):
                    raise self._deny(f"connect to {host} port {port}")
            return original(sock, *args)

        return watched

    def _watched_lookup(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            host = args[0] if args else kwargs.get("host")
            if not _needs_no_server(host):
                raise self._deny(f"look up the host {_text(host)!r}")
            return original(*args, **kwargs)

        return watched


def _text(host: object) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)


def _ip(host: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(_text(host))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_loopback(host: object) -> bool:
    address = _ip(host)
    return address is not None and address.is_loopback


def _is_local_alias(host: object) -> bool:
    name = _text(host).lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _needs_no_server(host: object) -> bool:
    """Numbers need no look-up, and this machine's own name is asked for by mail clients (`socket.getfqdn`)."""
    if host is None or host in ("", b"") or _ip(host) is not None or _is_local_alias(host):
        return True
    return _text(host).lower() == socket.gethostname().lower()
