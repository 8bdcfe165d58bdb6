"""How a request to Tencent Cloud is signed: TC3-HMAC-SHA256, over content type, host and body, with a key of the day.

Vendor documentation: https://cloud.tencent.com/document/api/382/52072. The vendor takes five minutes of difference.
"""

import hashlib
import hmac
from collections.abc import Callable, Generator
from datetime import UTC, datetime

import httpx

ALGORITHM, SERVICE = "TC3-HMAC-SHA256", "sms"
#: What is signed is signed as it is written here.
CONTENT_TYPE = "application/json; charset=utf-8"
_SIGNED = "content-type;host"


def authorization(secret_id: str, secret: str, at: int, host: str, content_type: str, body: bytes) -> str:
    """What stands in the header `Authorization`.

    Args:
        secret_id, secret: the key.
        at: seconds since 1970, as `X-TC-Timestamp` says.
        host, content_type: as the headers say.
        body: as it is sent.
    """
    request = "\n".join(
        ("POST", "/", "", f"content-type:{content_type}", f"host:{host}", "", _SIGNED, hashlib.sha256(body).hexdigest())
    )
    day = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
    scope = f"{day}/{SERVICE}/tc3_request"
    text = f"{ALGORITHM}\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"TC3{secret}".encode()
    for part in (day, SERVICE, "tc3_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    made = hmac.new(key, text.encode(), "sha256").hexdigest()
    return f"{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={_SIGNED}, Signature={made}"


class Tc3(httpx.Auth):
    """Signs each try anew.

    Args:
        secret_id, secret: the key.
        clock: the clock on the wall.
    """

    requires_request_body = True

    def __init__(self, secret_id: str, secret: str, clock: Callable[[], datetime]) -> None:
        self._secret_id, self._secret, self.clock = secret_id, secret, clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Time and signature."""
        at = int(self.clock().timestamp())
        request.headers["x-tc-timestamp"] = str(at)
        request.headers["authorization"] = authorization(
            self._secret_id,
            self._secret,
            at,
            request.headers["host"],
            request.headers["content-type"],
            request.content,
        )
        yield request
