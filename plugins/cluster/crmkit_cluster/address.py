"""How each connection is made, and what it calls itself."""

import os
import socket
from typing import Any

from sqlalchemy.engine import make_url

#: Where Procrastinate's tables and ours are.
SCHEMA = "crmkit_cluster"
#: A connection that answers no more is given up after about half a minute, whatever stands between.
_KEEPALIVE: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def conninfo(url: str) -> str:
    """A database's address as libpq takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def settings(name: str) -> dict[str, Any]:
    """What a connection is made with: its name, and the schema it finds tables in."""
    return {**_KEEPALIVE, "application_name": name[:63], "options": f"-c search_path={SCHEMA}"}


def own_name() -> str:
    """What a worker calls itself."""
    return f"crmkit worker {socket.gethostname()}:{os.getpid()}"
