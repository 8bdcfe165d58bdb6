"""The section of crmkit.toml of a shop on Vendure."""

from typing import Literal, Self

import httpx
from pydantic import Field, SecretStr, field_validator, model_validator

from crmkit import SourceSettings, StandardWebhooks

from ..endpoint import is_public

#: What a state may mean to a buyer; an ignored one is no order at all.
Meaning = Literal["placed", "paid", "shipped", "delivered", "completed", "cancelled", "ignored"]


class VendureSettings(SourceSettings):
    """How to reach a shop, and what its states mean.

    Attributes:
        url: the address of its Admin API: `https://shop.example/admin-api`.
        username, password: an administrator who may read orders and customers, and nothing else.
        api_key: one that Vendure (3.6 and newer) made for that administrator, instead of these.
        session: a session's token instead of these, for shops that log in another way.
        channel: the token of the channel to read; the default channel where unset.
        webhook_secret: that of the webhooks your own plugin of Vendure sends, or several while they change.
        states: what states of your own order process mean.
        seller_orders: read the orders of each seller of a multi-vendor shop, instead of what the buyer ordered.
        marks_delivered: somebody, or something, of the shop marks parcels as delivered: only then can one be late.
        customers: whether registered customers are read.
        money_digits: decimal places of the shop's amounts; another than 2 only with a MoneyStrategy of your own.
        per_page: orders asked for at once.
    """

    url: str
    username: str | None = None
    password: SecretStr | None = None
    api_key: SecretStr | None = None
    session: SecretStr | None = None
    channel: SecretStr | None = None
    webhook_secret: SecretStr | list[SecretStr] | None = None
    states: dict[str, Meaning] = Field(default_factory=dict)
    seller_orders: bool = False
    marks_delivered: bool = False
    customers: bool = True
    money_digits: int = Field(default=2, ge=0, le=6)
    per_page: int = Field(default=50, ge=2, le=1000)

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, written: str) -> str:
        try:
            url = httpx.URL(written.strip())
        except httpx.InvalidURL:
            raise ValueError("is no address") from None
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("begins with neither http:// nor https://")
        if url.query or url.fragment or url.userinfo:
            raise ValueError("holds more than host and path; credentials belong into username and password")
        if url.scheme == "http" and is_public(url.host):
            raise ValueError("would send the password in the clear; use https")
        path = url.path.rstrip("/")
        return str(url.copy_with(path=path or "/admin-api"))

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_key(cls, given: SecretStr | list[SecretStr] | None) -> SecretStr | list[SecretStr] | None:
        for secret in given if isinstance(given, list) else [given]:
            if secret is not None and StandardWebhooks.written(secret.get_secret_value(), b"") is None:
                raise ValueError(
                    "is no key, so every webhook would be turned away; `openssl rand -base64 32` prints one"
                )
        return given

    @model_validator(mode="after")
    def _says_who_asks(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        given = [one for one in (self.username, self.api_key, self.session) if one is not None]
        if len(given) != 1:
            raise ValueError("needs username and password of an administrator, or api_key, or session: one of them")
        return self
