"""The section of crmkit.toml of a shop on WooCommerce."""

from datetime import timedelta
from typing import Literal, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from crmkit import Duration, SourceSettings

#: What a status may mean to a buyer; an ignored one is no order at all.
Meaning = Literal["placed", "paid", "shipped", "delivered", "completed", "cancelled", "ignored"]
#: Where parcels may be found.
Strategy = Literal["fulfillments", "shipment-tracking", "shipment-trackings", "aftership", "meta"]


class TrackingMeta(BaseModel):
    """The keys of an order's own fields in which some plugin writes the one parcel it knows of."""

    model_config = ConfigDict(extra="forbid")

    #: the key of the parcel's number
    number: str
    #: of who carries it
    carrier: str | None = None
    #: of the address it is followed at
    url: str | None = None
    #: of when it left
    shipped_at: str | None = None


class WooSettings(SourceSettings):
    """How to reach a shop, and what its statuses and plugins mean.

    Attributes:
        url: the shop's address; the one it calls itself, since OAuth signs it.
        consumer_key, consumer_secret: of an API key that may read.
        auth: `auto` is Basic over https and OAuth over http; `query` for hosts that drop the header.
        rest_route: for shops without pretty permalinks: `/?rest_route=/wc/v3/...`.
        webhook_secret: that of its webhooks, or several while they change.
        statuses: what the statuses of plugins mean, or other meanings for those of WooCommerce.
        tracking: where parcels are found; the first place that has any for an order counts.
        tracking_meta: for `meta`: the keys of an order's own fields that tell of its parcel.
        completed_means_shipped: the shop completes an order when it leaves the house.
        customers, reviews: whether they are read.
        customers_every: how often all customers are read again, since no filter finds those that changed.
        per_page: rows in a page.
    """

    url: str
    consumer_key: SecretStr
    consumer_secret: SecretStr
    auth: Literal["auto", "basic", "oauth", "query"] = "auto"
    rest_route: bool = False
    webhook_secret: SecretStr | list[SecretStr] | None = None
    statuses: dict[str, Meaning] = Field(default_factory=dict)
    tracking: list[Strategy] = ["fulfillments", "shipment-tracking", "aftership"]
    tracking_meta: TrackingMeta | None = None
    completed_means_shipped: bool = False
    customers: bool = True
    reviews: bool = True
    customers_every: Duration = timedelta(days=7)
    per_page: int = Field(default=100, ge=10, le=100)

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
            raise ValueError("holds more than host and path; keys belong into consumer_key and consumer_secret")
        path = url.path.partition("/wp-json")[0].rstrip("/")
        return str(url.copy_with(path=path or "/")).rstrip("/")

    @field_validator("statuses")
    @classmethod
    def _without_prefix(cls, statuses: dict[str, Meaning]) -> dict[str, Meaning]:
        return {slug.strip().lower().removeprefix("wc-"): meaning for slug, meaning in statuses.items()}

    @model_validator(mode="after")
    def _names_the_fields(self) -> Self:
        if ("meta" in self.tracking) != (self.tracking_meta is not None):
            raise ValueError('tracking = ["meta"] and tracking_meta = { number = "..." } go together')
        return self

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return httpx.URL(self.url).scheme

    @property
    def way(self) -> Literal["basic", "oauth", "query"]:
        """How requests are authenticated."""
        if self.auth == "auto":
            return "basic" if self.scheme == "https" else "oauth"
        return self.auth
