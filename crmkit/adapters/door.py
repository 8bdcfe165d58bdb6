"""The door: a vendor's call is verified on its raw bytes before anything is kept. What it says is read later.

An adapter declares a signature (`verifies = Hmac("x-signature", secret="webhook_secret")`) and what the vendor wants to
hear (`accepts_with`); one whose vendor signs in a way of its own writes `verify`. Secrets are compared in constant
time, and a setting may hold two of them while the vendor changes over.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import AfterValidator, Field, SecretStr

from crmkit.core.errors import PluginError


@dataclass(frozen=True, slots=True)
class Call:
    """A webhook as it came in.

    Attributes:
        body: the raw bytes.
        headers: by name in lower case.
        url: the address the vendor called, with its query: made from `[web] url`, never from what the caller claims.
        query: the part of the address after `?`, as it came.
        path_secret: what came after the account's name in the path, for vendors that sign nothing.
        received_at: when it came.
        method: `POST`, or another of the adapter's `methods`.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    query: str = ""
    path_secret: str = ""
    received_at: datetime = field(default_factory=lambda: datetime(1970, 1, 1, tzinfo=UTC))
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Verified:
    """The vendor sent this. A call with a `dedupe_key` that was taken in before is answered, and not taken in again.

    One that could not be read, or whose body was let go, is: the vendor sends it again because somebody asked for it.

    Attributes:
        dedupe_key: what tells it from other calls; the vendor's own id of it, where there is one.
        is_fingerprint: the key is made of what the call says. One that says the same later may be news (`order 7
            changed`, twice), so it is taken in again unless the first still waits. Whoever repeats a call of the vendor
            makes that happen as often as an account may be called; what it says is known, and changes nothing.
    """

    dedupe_key: str
    is_fingerprint: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller is answered."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


#: A caller who cannot show who he is: nothing of it is kept.
REFUSED = Reply(401, b"unverified")

#: What bodies of webhooks are written in, unless an adapter says otherwise; one that begins with `+` is an ending.
CONTENT_TYPES = (
    "application/json",
    "+json",
    "application/x-www-form-urlencoded",
    "text/plain",
    "application/xml",
    "text/xml",
)
_IN_A_PATH = re.compile(r"[A-Za-z0-9._~-]{16,500}")
#: Bytes of a webhook's body at the most, unless an adapter says otherwise.
LARGEST_BODY = 1024 * 1024


def fingerprint(*parts: str | bytes) -> str:
    """A key that is equal for equal parts."""
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def secrets_of(settings: Any, name: str) -> list[str]:
    """The secrets a setting holds: one, or several while the vendor changes over; none where it is unset."""
    found = getattr(settings, name)
    several: Iterable[Any] = found if isinstance(found, list | tuple) else [found]
    plain = [one.get_secret_value() if isinstance(one, SecretStr) else str(one) for one in several if one is not None]
    return [one for one in plain if one]


def same(given: str | bytes, expected: str | bytes) -> bool:
    """Whether two secrets are equal, in a time that tells nothing about where they differ."""
    one, other = (
        part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in (given, expected)
    )
    return hmac.compare_digest(one, other)


class Signature(Protocol):
    """How a vendor shows that a call is its own."""

    def holds(self, call: Call, settings: Any) -> bool:
        """Whether the call is the vendor's."""
        ...


@runtime_checkable
class Named(Protocol):
    """A signature that covers the vendor's own id of a call."""

    def key(self, call: Call) -> str:
        """The id of a call whose signature holds."""
        ...


@dataclass(frozen=True, slots=True)
class Hmac:
    """A keyed hash over the raw body in a header.

    Attributes:
        header: where the signature stands.
        secret: the setting that holds the secret, or a list of them.
        digest: `sha1`, `sha256`, `sha512`, `md5`.
        encoding: how the signature is written.
        prefix: what stands before it, `sha256=`.
        signs: what is signed; the raw body where None.
        timestamp: the header that holds the moment of the call in seconds since 1970, where the vendor signs one.
        within: how far that moment may be from now.

    Raises:
        PluginError: a moment that is not signed proves nothing.
    """

    header: str
    secret: str
    digest: Literal["sha1", "sha256", "sha512", "md5"] = "sha256"
    encoding: Literal["base64", "hex"] = "base64"
    prefix: str = ""
    signs: Callable[[Call], bytes] | None = None
    timestamp: str | None = None
    within: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        """Refuse what would look like a guard against old calls and be none."""
        if self.timestamp is not None and self.signs is None:
            do = "say in signs=... how the vendor signs it, or leave it out"
            raise PluginError("it has a timestamp that is not signed", who="Hmac", operation=self.header, do=do)

    def holds(self, call: Call, settings: Any) -> bool:
        """Whether the signature is that of one of the secrets, and the call is not from another day."""
        given = call.headers.get(self.header.lower())
        if given is None or not given.startswith(self.prefix) or not self._is_fresh(call):
            return False
        signed = call.body if self.signs is None else self.signs(call)
        written = given.removeprefix(self.prefix).strip()
        if self.encoding == "hex":
            written = written.lower()
        found = [same(written, self.written(secret, signed)) for secret in secrets_of(settings, self.secret)]
        return any(found)

    def written(self, secret: str, signed: bytes) -> str:
        """The signature of `signed`, as the vendor writes it, without the prefix."""
        made = hmac.new(secret.encode(), signed, self.digest).digest()
        return made.hex() if self.encoding == "hex" else base64.b64encode(made).decode()

    def _is_fresh(self, call: Call) -> bool:
        return self.timestamp is None or is_fresh(call.headers.get(self.timestamp.lower(), ""), call, self.within)


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """The signature of standardwebhooks.com, which several vendors share: over an id, the moment and the raw body.

    Attributes:
        secret: the setting that holds the secret, `whsec_` and base64, or a list of them.
        prefix: what the names of its headers begin with; `svix-` with some vendors.
        within: how far the moment may be from now.
    """

    secret: str
    prefix: str = "webhook-"
    within: timedelta = timedelta(minutes=5)

    def key(self, call: Call) -> str:
        """The vendor's own id of a call; it is signed."""
        return call.headers[f"{self.prefix}id"]

    def holds(self, call: Call, settings: Any) -> bool:
        """Whether one of the signatures is that of one of the secrets, and the call is not from another day."""
        name, at, given = (call.headers.get(f"{self.prefix}{part}", "") for part in ("id", "timestamp", "signature"))
        if not name or not is_fresh(at, call, self.within):
            return False
        signed = f"{name}.{at}.".encode("utf-8", "surrogatepass") + call.body
        made = [self.written(secret, signed) for secret in secrets_of(settings, self.secret)]
        found = [same(one, other) for one in given.split(" ") for other in made if other is not None]
        return any(found)

    @staticmethod
    def written(secret: str, signed: bytes) -> str | None:
        """The signature of `signed`, as the vendor writes it; None where the secret is none."""
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            return None
        return f"v1,{base64.b64encode(hmac.new(key, signed, 'sha256').digest()).decode()}" if key else None


def is_fresh(written: str, call: Call, within: timedelta) -> bool:
    """Whether a moment, in seconds since 1970, is not far from when the call came in."""
    try:
        at = datetime.fromtimestamp(int(written), UTC)
    except (ValueError, OverflowError, OSError):
        return False
    return abs(call.received_at - at) <= within


def _fit_a_path(found: SecretStr | list[SecretStr]) -> SecretStr | list[SecretStr]:
    several = found if isinstance(found, list) else [found]
    if not all(_IN_A_PATH.fullmatch(one.get_secret_value()) for one in several):
        raise ValueError(
            "stands in an address, and should be at least 16 characters of A-Z, a-z, 0-9 and . _ ~ -; "
            "`openssl rand -hex 24` makes one"
        )
    return found


#: The setting a `SecretPath` names: one, or several while the vendor changes over. What other
#: characters become on their way, each vendor and proxy decides for itself.
PathSecret = Annotated[SecretStr | Annotated[list[SecretStr], Field(min_length=1)], AfterValidator(_fit_a_path)]


@dataclass(frozen=True, slots=True)
class SecretPath:
    """For vendors that sign nothing: the address they are given ends in a secret, `/webhooks/ACCOUNT/SECRET`.

    Attributes:
        secret: the setting that holds the secret, a `PathSecret`.
    """

    secret: str

    def holds(self, call: Call, settings: Any) -> bool:
        """Whether the address ends in one of the secrets."""
        found = [same(call.path_secret, secret) for secret in secrets_of(settings, self.secret)]
        return any(found)
