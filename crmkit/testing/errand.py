"""One message on its way through the real steps: an order, a handler that sends, a gateway, receipts that return.

What crmkit does itself, with one gateway as it stands, so that what a gateway says can be judged by what becomes of it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from crmkit.adapters.gateway import Gateway
from crmkit.adapters.stream import BEGINNING, Page
from crmkit.core.account import Shop
from crmkit.core.actions import Send
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.message import Message
from crmkit.core.records import Address, Buyer, OrderRecord, Record
from crmkit.flow.decide import decide
from crmkit.flow.deliver import deliver
from crmkit.flow.ingest import ingest
from crmkit.flow.render import Templates
from crmkit.flow.setup import Entry, Plugin, Setup
from crmkit.store import accounts
from crmkit.store import tables as t
from crmkit.store.engine import Store

_SHOP, _GATEWAY = "town", "gateway"


@dataclass
class Errand:
    """A message that a gateway is to deliver.

    Args:
        store: an open, migrated database with nothing in it.
        gateway: the open gateway.
        message: what it is to deliver: recipient, text, key and form.
        now: the clock.
        folder: where its template is written.
    """

    store: Store
    gateway: Gateway
    message: Message
    now: datetime
    folder: Path

    def __post_init__(self) -> None:
        """Write the template, let the order in, and decide."""
        name, message = self.gateway.account.name, self.message
        (self.folder / "templates").mkdir(exist_ok=True)
        file = self.folder / "templates" / f"errand.en.{message.channel}.txt"
        file.write_text(self._template(name), "utf-8")
        handler = on(OrderPlaced)(lambda event, crm: [Send("errand", via=(message.channel,))])
        entry = Entry(name, message.channel, type(self.gateway), self.gateway.settings)
        with self.store.begin() as tx:
            numbers = [
                accounts.meet(
                    tx, name=one, kind=kind, adapter=adapter, vendor_account=None, announce_from=BEGINNING, now=self.now
                )[0]
                for one, kind, adapter in ((_SHOP, "shop", "errand"), (name, _GATEWAY, self.gateway.name))
            ]
        self.shop, self.account = (
            self._account(number, one) for number, one in zip(numbers, (_SHOP, name), strict=True)
        )
        self.setup = Setup(
            shops={self.shop.id: self.shop},
            channels={message.channel: [entry]},
            plugins=[Plugin("errand", None, (handler,))],
            templates=Templates([self.folder / "templates"], None),
            zone=ZoneInfo("UTC"),
            locale="en",
        )
        buyer = Buyer(external_id="b1", name="Ann Li", **self._reached())
        order = OrderRecord(external_id=message.order or "17", number="1017", placed_at=self.now, buyer=buyer)
        self._take(self.shop, [order])
        with self.store.begin() as tx:
            decide(tx, self.setup, self.now, 10)
            tx.execute(sa.update(t.message).values(key=message.key))
        if self.row["state"] != "queued":
            raise AssertionError(f"the errand's message is {self.row['state']} ({self.row['reason']}), not queued")

    def _account(self, number: int, name: str) -> Shop:
        zone, kind = ZoneInfo("UTC"), _GATEWAY if name != _SHOP else "shop"
        return Shop(number, name, name, frozenset({"placed"}), BEGINNING, "en", zone, "GB", kind)

    def _reached(self) -> dict[str, Any]:
        kind, value = self.message.address_kind, self.message.address
        return {kind: value} if kind in {"email", "phone"} else {"addresses": (Address(kind=kind, value=value),)}

    def _template(self, name: str) -> str:
        front = ['purpose = "transactional"', f"subject = {json.dumps(self.message.subject or 'News')}"]
        form = self.message.form
        if form is not None:
            params = ", ".join(f"{json.dumps(key)} = {json.dumps(repr(value))}" for key, value in form.params.items())
            parts = [f"params = {{{params}}}"]
            parts += [f"template_id = {json.dumps(form.template_id)}"] if form.template_id is not None else []
            parts += [f"sign_name = {json.dumps(form.sign_name)}"] if form.sign_name is not None else []
            front.append(f"gateways = {{{json.dumps(name)} = {{{', '.join(parts)}}}}}")
        text = f"{{% raw %}}{self.message.text}{{% endraw %}}"
        return "\n".join(["---", *front, "---", text, ""])

    def _take(self, account: Shop, records: Iterable[Record]) -> None:
        with self.store.begin() as tx:
            listened = self.setup.listened if account is self.shop else frozenset()
            ingest(tx, account, Page(tuple(records)), stream="errand", listened=listened, now=self.now)

    def hear(self, records: Iterable[Record]) -> None:
        """Take in what came back from the gateway."""
        self._take(self.account, records)

    async def deliver(self, after: timedelta = timedelta(0)) -> Mapping[str, Any]:
        """Hand the message to the gateway if it is due; its row afterwards."""
        now = self.now + after
        await deliver(self.store.run, self.setup, self.gateway.account.name, self.gateway, lambda: now)
        return self.row

    @property
    def row(self) -> Mapping[str, Any]:
        """The message as it stands in the outbox."""
        with self.store.read() as tx:
            return dict(tx.execute(sa.select(t.message)).mappings().one())

    @property
    def receipts(self) -> int:
        """How many receipts are kept."""
        with self.store.read() as tx:
            return int(tx.execute(sa.select(sa.func.count()).select_from(t.receipt)).scalar_one())
