"""What a form said: its fields, read within bounds, whoever sent it."""

from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

from fastapi import Request

from crmkit.web.site import PageError

#: Bytes of a form, and fields in it.
LARGEST, MOST = 64 * 1024, 500


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a form, each with its values.

    Raises:
        PageError: it is too large, or no form.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise PageError(413, "too-large")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    fields: dict[str, list[str]] = {}
    try:
        if kind == "multipart/form-data":  # mail programs may unsubscribe this way
            head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode("latin-1")
            pairs = [
                (str(part.get_param("name", header="content-disposition") or ""), part.get_content())
                for part in BytesParser(policy=HTTP).parsebytes(head + bytes(body)).iter_parts()
            ]
        elif kind in ("", "application/x-www-form-urlencoded"):
            pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST)
        else:
            raise PageError(415, "no-form")
    except (ValueError, KeyError, LookupError, AttributeError):
        raise PageError(400, "no-form") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value if isinstance(value, str) else "")
    return fields
