"""How a vendor is described in the configuration: what is sent, what an answer means, what comes back.

Everything is checked when the configuration is read: names of placeholders, places, reasons, and whether what belongs
together is there.
"""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from crmkit import GatewaySettings, Hmac, PathSecret, SecretPath, Signature
from crmkit_sms.answer import Format, Place, Scalar, said, written
from crmkit_sms.filling import Tree

#: What a refusal may be: a reason a message ends with, "not now", or "this account may not send".
Refusal = Literal[
    "bad-address",
    "not-capable",
    "opted-out",
    "blocked",
    "content",
    "vendor-policy",
    "sender",
    "funds",
    "expired",
    "other",
    "retry",
    "auth",
]
#: What a receipt's status may be: a state, or the reason for which it did not arrive.
Outcome = Literal[
    "sent",
    "delivered",
    "failed",
    "bounced",
    "bad-address",
    "not-capable",
    "opted-out",
    "blocked",
    "content",
    "vendor-policy",
    "sender",
    "funds",
    "expired",
    "other",
    "ignore",
]
#: They mean the same for every vendor, unless they are named: credentials were refused.
CREDENTIALS = frozenset({401, 403})
_STATUS = re.compile(r"[1-5][0-9]{2}|[45]xx")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Success(_Table):
    """An answer that means "taken": all that is given must hold."""

    #: HTTP statuses
    status: Annotated[list[Annotated[int, Field(ge=200, le=599)]], Field(min_length=1)] = list(range(200, 300))
    #: where in the answer a word says so
    path: Place | None = None
    #: what that word is, or may be
    equals: Scalar | list[Scalar] | None = None
    #: what the answer's text contains
    contains: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.path is None) != (self.equals is None):
            raise ValueError("path and equals go together: give both or neither")
        return self

    @property
    def words(self) -> set[str | None]:
        """What `equals` allows, as it is written."""
        return {written(one) for one in (self.equals if isinstance(self.equals, list) else [self.equals])}

    def holds(self, status: int, text: str, document: Any) -> bool:
        """Whether an answer says so."""
        says_so = self.path is None or said(document, self.path) in self.words
        return status in self.status and says_so and (self.contains is None or self.contains in text)


class Refusals(_Table):
    """Answers that mean "not taken", and why. The first that fits counts, in this order."""

    #: where in the answer a code stands
    path: Place | None = None
    #: what each code means
    values: dict[str, Refusal] = Field(default_factory=dict)
    #: what the answer's text contains
    contains: dict[str, Refusal] = Field(default_factory=dict)
    #: by HTTP status: "402", or "4xx" for all that are not named but 401 and 403
    status: dict[str, Refusal] = Field(default_factory=dict)
    #: where the answer says in words what is wrong
    detail: Place | None = None

    @field_validator("status")
    @classmethod
    def _are_statuses(cls, value: dict[str, Refusal]) -> dict[str, Refusal]:
        for status in value:
            if not _STATUS.fullmatch(status):
                raise ValueError(f'"{status}" should be an HTTP status like "402", or "4xx"')
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.path is None) != (not self.values):
            raise ValueError("path and values go together: give both or neither")
        if "" in self.contains:
            raise ValueError('contains = { "" = ... } would fit every answer')
        return self

    def of(self, status: int, text: str, document: Any) -> Refusal | None:
        """What an answer means; None where nobody said."""
        found = self.values.get(said(document, self.path) or "")
        by_text = (meaning for part, meaning in self.contains.items() if part in text)
        by_class = None if status in CREDENTIALS else self.status.get(f"{status // 100}xx")
        return found or next(by_text, None) or self.status.get(str(status)) or by_class


class BodySignature(_Table):
    """A keyed hash of the body in a header."""

    #: its name
    header: str
    #: the key; a list while it is changed over
    secret: SecretStr | Annotated[list[SecretStr], Field(min_length=1)]
    #: the hash
    digest: Literal["sha1", "sha256", "sha512", "md5"] = "sha256"
    #: how the hash is written
    encoding: Literal["base64", "hex"] = "hex"
    #: what stands before it in the header: `sha256=`
    prefix: str = ""


class Webhook(_Table):
    """How calls of the vendor are known to be its own, and how they are written."""

    #: the address the vendor is given ends in it; for vendors that sign nothing
    secret: PathSecret | None = None
    signature: BodySignature | None = None
    #: how its body is written
    format: Format = "json"
    #: where the list is, if one call tells of several messages
    items: Place | None = None
    #: what the vendor wants to be answered
    reply: str = ""
    #: of what content type that is
    reply_type: str = "text/plain; charset=utf-8"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.secret is None) == (self.signature is None):
            raise ValueError("give secret or signature, one of the two: anybody could call otherwise")
        return self

    @property
    def door(self) -> tuple[Signature, BaseModel]:
        """How a call is verified, and the settings that hold the secret."""
        if self.signature is None:
            return SecretPath("secret"), self
        one = self.signature
        return Hmac(one.header, "secret", one.digest, one.encoding, one.prefix), one


class Receipts(_Table):
    """What becomes of messages, in the vendor's calls."""

    #: where the vendor's id stands
    id: Place | None = None
    #: where our key stands, if the vendor sends it back
    key: Place | None = None
    #: where the status stands
    status: Place
    #: what each status means; one that is not here is quarantined, "ignore" is not
    statuses: Annotated[dict[str, Outcome], Field(min_length=1)]
    #: where it says in words what is wrong
    detail: Place | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.id is None and self.key is None:
            raise ValueError("give id or key: it is not known otherwise which message is meant")
        return self


class Replies(_Table):
    """What customers write back, in the vendor's calls."""

    #: where the vendor's id of the reply stands
    id: Place
    #: where the number stands that it came from
    sender: Place
    #: where its text stands
    text: Place
    #: what stands before a number that is written without +, `+` or `+86`
    prefix: Annotated[str, StringConstraints(pattern=r"^(\+[0-9]{0,3})?$")] = ""


class HttpSettings(GatewaySettings):
    """How a vendor is called, what it answers, and what it tells later."""

    model_config = ConfigDict(hide_input_in_errors=True)

    #: the vendor's address, which may hold placeholders after its host
    url: str
    #: of the call
    method: Literal["GET", "POST", "PUT"] = "POST"
    #: headers of the call
    headers: dict[str, str] = Field(default_factory=dict)
    #: what stands behind the ? of the address
    query: dict[str, Any] = Field(default_factory=dict)
    #: a table, or text with `format = "text"`
    body: dict[str, Any] | str | None = None
    #: how the body is written
    format: Literal["form", "json", "text"] = "json"
    #: of a text body; it also decides how placeholders are escaped
    content_type: str = "text/plain; charset=utf-8"
    #: what `{secrets.NAME}` stands for
    secrets: dict[str, SecretStr] = Field(default_factory=dict)
    #: as whom to sign in by name and password (Basic)
    username: str | None = None
    #: goes with `username`
    password: SecretStr | None = None
    #: a token that signs in instead
    bearer: SecretStr | None = None
    #: what `{sender}` stands for
    sender: str | None = None
    #: of the numbers `{to_national}` is used for, `86`
    country_code: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,2}$")] | None = None
    success: Success
    refusals: Refusals = Field(default_factory=Refusals)
    #: where the answer has the vendor's id of the message
    id: Place | None = None
    #: instead of `id`: a pattern whose one group is it
    id_pattern: str | None = None
    #: whether the vendor takes a key it has seen for a repeat
    deduplicates: bool = False
    webhook: Webhook | None = None
    receipts: Receipts | None = None
    replies: Replies | None = None
    #: languages whose opt-out words count; all where unset
    opt_out_locales: list[str] | None = None

    @field_validator("headers", "query", "body", "url")
    @classmethod
    def _can_be_filled(cls, value: Any) -> Any:
        if isinstance(value, dict | str):
            Tree.of(value, None)  # which secrets there are is known once all is read
        return value

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host = re.sub(r"^[a-z]+://([^/?#]*).*", r"\1", value, flags=re.DOTALL)
        if "{" in host or "}" in host:
            raise ValueError("should have no placeholder in its host")
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise ValueError("should be an address like https://api.vendor.example/send")
        if parts.query or parts.fragment or value.endswith(("?", "#")):
            raise ValueError("should have nothing after ?; write it in the table `query`")
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _HEADER.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a header")
            if name.lower() in {"content-length", "host", "transfer-encoding", "connection"}:
                raise ValueError(f"{name} is written by the client; leave it out")
        return value

    @field_validator("id_pattern")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"is no pattern: {error}") from None
        if groups != 1:
            raise ValueError("should have one group in parentheses: the id")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self._check_body()
        named = self.names
        if not named & {"to", "to_digits", "to_national"}:
            raise ValueError("nothing says whom it is for; put {to} into url, query or body")
        if "text" not in named and not any(name.startswith("params.") for name in named):
            raise ValueError("nothing says what is to be sent; put {text} into query or body")
        if "sender" in named and self.sender is None:
            raise ValueError("{sender} is used, and sender is not set")
        if "to_national" in named and self.country_code is None:
            raise ValueError("{to_national} is used, and country_code is not set")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together: give both or neither")
        if self.bearer is not None and (self.username is not None or self._has_header("authorization")):
            raise ValueError("bearer, username and the header Authorization are three ways to sign in; choose one")
        if self.deduplicates and not named & {"key", "key_hash"}:
            raise ValueError("deduplicates needs {key} or {key_hash} in headers, query or body")
        if self.id is not None and self.id_pattern is not None:
            raise ValueError("give id or id_pattern, not both")
        if self.success.path is not None and self.success.path == self.refusals.path:
            both = sorted(word for word in self.success.words if word in self.refusals.values and word is not None)
            if both:
                raise ValueError(f'"{both[0]}" is both success and a refusal')
        self._check_webhook()
        return self

    def _check_body(self) -> None:
        if self.body is not None and self.method == "GET":
            raise ValueError("a GET has no body; write it in the table `query`")
        if isinstance(self.body, str) and self.format != "text":
            raise ValueError('body is text: write format = "text" and its content_type, or make it a table')
        if isinstance(self.body, dict) and self.format == "text":
            raise ValueError('body is a table: write format = "json" or "form", or make it text')
        for where, table in (("query", self.query), ("body", self.body if self.format == "form" else {})):
            for name, one in (table if isinstance(table, dict) else {}).items():
                several = one if isinstance(one, list) else [one]
                if any(isinstance(item, dict | list) for item in several):
                    raise ValueError(f"{where}.{name} is a table, which no field can hold")
        for template in (self.url, self.query, self.headers, self.body):
            if template is not None:
                Tree.of(template, self.secrets)

    def _check_webhook(self) -> None:
        if self.webhook is None and (self.receipts is not None or self.replies is not None):
            raise ValueError("receipts and replies need a table `webhook`, which says how they are verified")
        if self.webhook is not None and self.receipts is None and self.replies is None:
            raise ValueError("webhook needs a table `receipts` or `replies`, which says how they are read")
        if self.receipts is not None and self.receipts.key is None and self.id is None and self.id_pattern is None:
            raise ValueError("receipts.id is compared with the answer's; set id or id_pattern, or receipts.key")
        if self.receipts is not None and self.receipts.key is not None and "key" not in self.names:
            raise ValueError("receipts.key is our key coming back; put {key} into query or body")

    def _has_header(self, name: str) -> bool:
        return any(one.lower() == name for one in self.headers)

    @property
    def names(self) -> set[str]:
        """What the templates name."""
        whole = {"url": self.url, "query": self.query, "headers": self.headers, "body": self.body or ""}
        return Tree.of(whole, self.secrets).names
