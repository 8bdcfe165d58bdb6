"""A correlation id is in every row and log line that came of one webhook, or of one page of a pull."""

import secrets

#: Bytes of an id; it is written in hex.
_SIZE = 8


def correlation() -> str:
    """A fresh id, 16 letters long; it says nothing of what it stands for."""
    return secrets.token_hex(_SIZE)
