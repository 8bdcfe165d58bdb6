"""The sections of crmkit.toml of a shop on Taobao, and of text messages by order token."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator

from crmkit import GatewaySettings, SourceSettings, secrets_of

from ..endpoint import is_public

#: The types of trades that are goods somebody waits for. The platform lists five of them unless it is told more.
TYPES = (
    *("guarantee_trade", "auto_delivery", "ec", "cod", "step"),
    *("fixed", "auction", "b2c_cod", "independent_simple_trade", "independent_shop_trade", "instant_trade"),
    *("external_trade", "shopex_trade", "super_market_trade", "super_market_cod_trade", "waimai", "o2o_offlinetrade"),
    *("eticket", "hotel_trade", "tmall_i18n", "nopaid", "pre_auth_type"),
)
#: What signatures look like, and in words.
SIGN = r"[^\s【】]{2,16}"
SIGN_WORDS = "2 to 16 characters without spaces, without 【 and 】"
Secrets = SecretStr | Annotated[list[SecretStr], Field(min_length=1)]


class AppSettings(BaseModel):
    """The application that is registered with the platform, and whose shop it may see.

    Attributes:
        app_key, app_secret: those of the application; several secrets while one changes, the first signs.
        session: the seller's token; `crmkit connect` gets one that can be renewed.
        redirect_url: the address that is registered as the application's.
        sign_method: how requests are signed.
        url: the platform's address.
    """

    app_key: Annotated[str, Field(pattern=r"^\d{1,20}$")]
    app_secret: Secrets
    session: SecretStr | None = None
    redirect_url: str = "urn:ietf:wg:oauth:2.0:oob"
    sign_method: Literal["md5", "hmac", "hmac-sha256"] = "hmac-sha256"
    url: str = "https://gw.api.taobao.com/router/rest"

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, written: str) -> str:
        parts = urlsplit(written.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.username:
            raise ValueError("is no address of http:// or https://, without a query")
        if parts.scheme == "http" and is_public(parts.hostname):
            raise ValueError("would send the seller's token in the clear; use https")
        return written.strip()

    @property
    def secrets(self) -> list[str]:
        """The secrets of the application, the one that signs first."""
        return secrets_of(self, "app_secret")


class TaobaoSettings(SourceSettings, AppSettings):
    """What is read of a shop.

    Attributes:
        types: the types of trades that are read; those that are not named are not even mentioned by the platform.
        details: each trade that changed is read by itself, since lists leave fields out; one call for each.
        page_size: rows in a page; 40 to 50 are recommended.
        reviews, refunds: whether they are read.
        messages: the group of the message service that is the shop's own, whose messages are taken out; None: none is.
        marketing: buyers may be sent marketing for which the shop has their own consent, by other means than tokens.
    """

    types: Annotated[list[str], Field(min_length=1)] = list(TYPES)
    details: bool = True
    page_size: Annotated[int, Field(ge=1, le=100)] = 50
    reviews: bool = True
    refunds: bool = True
    messages: Annotated[str, Field(pattern=r"^\w{1,64}$")] | None = None
    marketing: bool = False


class TaobaoSmsSettings(GatewaySettings, AppSettings):
    """How the receivers of a shop's orders are texted.

    Attributes:
        sign_name: whom messages are signed with where a template does not say so.
    """

    sign_name: str | None = None

    @field_validator("sign_name")
    @classmethod
    def _is_a_sign(cls, written: str | None) -> str | None:
        if written is not None and not re.fullmatch(SIGN, written):
            raise ValueError(f"should be {SIGN_WORDS}")
        return written
