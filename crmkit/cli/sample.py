"""A template filled in by hand: from a real order, or from a made-up one that has everything."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from crmkit.cli.call import Call
from crmkit.core.account import Shop
from crmkit.core.customer import Customer
from crmkit.core.errors import ConfigError
from crmkit.core.message import Message, Receipt
from crmkit.core.money import Money
from crmkit.core.order import Line, Order, Parcel, Refund, Review
from crmkit.flow.render import Rendered, Template, context_of, locale_chain
from crmkit.flow.setup import Setup


@dataclass
class Sample:
    """A template, and the facts it is filled in with."""

    call: Call
    setup: Setup
    template: Template
    shop: Shop | None
    facts: dict[str, Any]

    @classmethod
    def of(
        cls, call: Call, name: str, channel: str, *, order: str | None, locale: str | None, shop: str | None
    ) -> "Sample":
        """The sample that was asked for.

        Raises:
            ConfigError: there is no such template, order or shop.
        """
        setup, shop_facts, facts = _facts(call, order, shop)
        customer = facts["customer"]
        locales = locale_chain(
            locale, customer.locale if customer else None, shop_facts.locale if shop_facts else None, setup.locale
        )
        template = setup.templates.find(name, channel, locales, shop_facts.name if shop_facts else None)
        if template is None:
            from crmkit.host.document import nearest

            channels = setup.templates.channels(name)
            do = f"there is one for {', '.join(channels)}" if channels else nearest(name, setup.templates.names())
            raise ConfigError(f"there is no template {name!r} for {channel}", who="messages", operation="test", do=do)
        return cls(call, setup, template, shop_facts, facts)

    def render(self) -> Rendered:
        """What it says.

        Raises:
            ConfigError: a fact it needs is not known, or it fails.
        """
        from crmkit.flow.render import MissingVariable

        zone = self.shop.zone if self.shop else self.setup.zone
        context = context_of(shop=self.shop, now=self.call.now, zone=zone, **self.facts)
        try:
            return self.template.render(context)
        except MissingVariable as error:
            raise ConfigError(str(error), who=self.template.file, operation="render") from error

    async def send(self, rendered: Rendered, to: str) -> Receipt:
        """Hand it to the channel's first gateway.

        Raises:
            ConfigError: no gateway serves the channel.
            AdapterError: it could not be handed over.
        """
        channel = self.template.channel
        shop = self.shop.name if self.shop else None
        entry = next((one for one in self.setup.channels.get(channel, ()) if one.serves(shop)), None)
        if entry is None:
            raise ConfigError(f"no gateway serves {channel}", who="messages", operation="test", do="configure one")
        gateway = self.call.host.gateway(entry)
        message = Message(
            id=0,
            key=f"test:{secrets.token_hex(8)}",
            channel=channel,
            address_kind=entry.adapter.reaches[0],
            address=to,
            purpose=self.template.purpose,
            template=self.template.name,
            locale=self.template.locale,
            text=rendered.text,
            subject=rendered.subject,
            html=rendered.html,
            shop=shop,
            decided_at=self.call.now,
        )
        try:
            await gateway.open()
            try:
                return await gateway.deliver(message)
            finally:
                await gateway.close()
        finally:
            await gateway.http.aclose()


def _facts(call: Call, order: str | None, shop: str | None) -> tuple[Setup, Shop | None, dict[str, Any]]:
    if order is not None:
        return _real(call, order, shop)
    now = call.now
    entry = call.host.shops.get(shop) if shop is not None else next(iter(call.host.shops.values()), None)
    if shop is not None and entry is None:
        raise ConfigError(f"no shop {shop!r} is switched on", who="messages", operation="test")
    known = {} if entry is None else {entry.name: (0, now)}
    setup = call.host.setup(known)
    currency = (entry.account.currency if entry else None) or "EUR"
    amount = Money(Decimal(42), currency)
    parcel = Parcel(
        1, "1", "Parcel Post", "PP123456789", "https://track.example/PP123456789", now - timedelta(days=1), now
    )
    made_up = Order(
        id=0,
        shop_id=0,
        external_id="1001",
        number="1001",
        status="shipped",
        currency=currency,
        total=amount,
        placed_at=now - timedelta(days=3),
        paid_at=now - timedelta(days=3),
        shipped_at=now - timedelta(days=1),
        delivered_at=now,
        promised_at=now + timedelta(days=2),
        lines=(Line("Sample goods", Decimal(2), "SKU-1", total=amount),),
        parcels=(parcel,),
    )
    return (
        setup,
        setup.shops.get(0),
        {
            "customer": Customer(0, 0, name="Sam Sample"),
            "order": made_up,
            "parcel": parcel,
            "refund": Refund(0, "R-1", amount, now, now, "changed my mind"),
            "review": Review(0, "V-1", Decimal(5), "Good", "Came as promised.", now),
            "extra": {"promised_at": made_up.promised_at},
        },
    )


def _real(call: Call, order: str, shop: str | None) -> tuple[Setup, Shop | None, dict[str, Any]]:
    from crmkit.store import facts, report

    with call.reading() as tx:
        setup = call.setup(tx)
        found = [
            row
            for row in report.orders_called(tx, order)
            if shop is None or (row["shop_id"] in setup.shops and setup.shops[row["shop_id"]].name == shop)
        ]
        if not found:
            raise ConfigError(f"there is no order {order!r}", who="messages", operation="test")
        row = found[0]
        known = facts.orders_at(tx, [row["id"]], call.now)[row["id"]]
        customers = facts.customers_of(tx, [row["profile_id"]]) if row["profile_id"] is not None else {}
    parcel = known.parcels[-1] if known.parcels else None
    return (
        setup,
        setup.shops.get(row["shop_id"]),
        {
            "customer": customers.get(row["profile_id"]),
            "order": known,
            "parcel": parcel,
            "extra": {"promised_at": known.promised_at},
        },
    )
