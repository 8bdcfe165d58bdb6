"""What a form said: its fields, read within bounds, whoever sent it."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

from fastapi import Request

from crmkit.web.site import PageError

#: Bytes of a form, and fields in it.
LARGEST, MOST = 64 * 1024, 500

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))""", re.IGNORECASE)
_NAME = re.compile(rb"\bname=\"([^\"\r\n]{0,200})\"")


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a form, each with its values, in which a line ends as browsers count it: by one character.

    Raises:
        PageError: it is too large, or no form.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise PageError(413, "too-large")
    written = request.headers.get("content-type", "")
    kind = written.partition(";")[0].strip().lower()
    fields: dict[str, list[str]] = {}
    try:
        if kind == "multipart/form-data":  # mail programs may unsubscribe this way
            pairs = list(_parts(bytes(body), written))
        elif kind in ("", "application/x-www-form-urlencoded"):
            pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST)
        else:
            raise PageError(415, "no-form")
    except ValueError:
        raise PageError(400, "no-form") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return fields


def _parts(body: bytes, written: str) -> Iterator[tuple[str, str]]:
    """The fields of a multipart form, one level deep and no deeper, each byte of it looked at once.

    Raises:
        ValueError: it is none, or has too many.
    """
    found = _BOUNDARY.search(written)
    if found is None:
        raise ValueError("no boundary")
    between = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
    several = (b"\r\n" + body).split(between, MOST + 2)[1:]
    if not several or len(several) > MOST + 1 or not several[-1].startswith(b"--"):
        raise ValueError("no end, or too many parts")
    for part in several[:-1]:
        head, blank, value = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not blank or name is None:
            raise ValueError("a part without a name")
        yield name[1].decode("utf-8"), value.decode("utf-8")
