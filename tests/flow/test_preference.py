"""What a page says of permission is what is decided, whatever the ledger holds; what is said there holds at once."""

from datetime import datetime
from itertools import count
from typing import Any

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.actions import Send
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Buyer
from crmkit.flow import consent, preference
from crmkit.store import customers, facts
from crmkit.store import tables as t
from tests.play import MINUTE, NOON, Mail, Play, Text, entry, order

CHANNELS, PURPOSES = ("email", "sms"), ("transactional", "marketing")
CELLS = [(channel, purpose) for channel in CHANNELS for purpose in PURPOSES]
TEMPLATE = 'purpose = "{purpose}"\n{subject}---\nHi'

said = st.fixed_dictionaries(
    {
        "whose": st.sampled_from(["profile", "guest", "email", "phone"]),
        "channel": st.sampled_from([*CHANNELS, "*"]),
        "purpose": st.sampled_from([*PURPOSES, "*"]),
        "state": st.sampled_from(["granted", "withdrawn"]),
        "source": st.sampled_from(["shop:1", "shop:2", "page", "gateway:text", "hand"]),
    }
)
on_the_page = st.tuples(st.sampled_from(["grant", "withdraw"]), st.sampled_from(CELLS))
told = st.lists(said | on_the_page, max_size=8)
people = count(1)


def prepare(play: Play) -> None:
    play.channels = {"email": [entry(Mail)], "sms": [entry(Text)]}
    for channel, purpose in CELLS:
        subject = 'subject = "S"\n' if channel == "email" else ""
        play.template(f"{purpose}.en.{channel}", TEMPLATE.format(purpose=purpose, subject=subject))
    sends = [Send(purpose, via=(channel,), key=f"{purpose}{channel}") for channel, purpose in CELLS]
    play.plugin("one", on(OrderPlaced)(lambda event, crm: sends if event.order.number.startswith("last") else []))


def family(play: Play, number: int) -> tuple[int, int, dict[str, str]]:
    """A customer of two profiles, an e-mail address and a phone number."""
    name, phone = f"b{number}", f"+1202555{number % 9000 + 1000:04}"
    mail = f"{name}@example.com"
    play.take(
        order(f"g{number}", Buyer(email=mail)), order(f"o{number}", Buyer(external_id=name, email=mail, phone=phone))
    )
    rows = {row["key"]: row["id"] for row in play.rows(t.profile)}
    return rows[f"buyer:shop:1:{name}"], rows[f"email:{mail}"], {"email": mail, "phone": phone}


def allowed(play: Play, profile: int, now: datetime) -> dict[tuple[str, str], bool]:
    """What a page says."""
    with play.store.read() as tx:
        number = customers.family_of(tx, [profile])[profile]
        reach = facts.reach_of(tx, [number], now)
        found = preference.channels(play.setup, reach, number)
    return {(one.name, purpose): holds for one in found for purpose, holds in one.allowed.items()}


def tell(play: Play, what: Any, profile: int, guest: int, addresses: dict[str, str], now: datetime) -> None:
    given = {"wording": None, "listened": (), "now": now}
    with play.store.begin() as tx:
        if isinstance(what, tuple):
            act, (channel, purpose) = what
            getattr(preference, act)(tx, profile, channel, purpose, **given)
            return
        whose = what["whose"]
        about = {"profile_id": profile if whose == "profile" else guest} if whose not in addresses else {}
        entry = {**what, **about, "address": addresses.get(whose), "actor": "customer", "occurred_at": now}
        consent.enter(tx, [{**entry, "wording": None}], listened=(), now=now)


@given(told=told, suppressed=st.none() | st.sampled_from(["email", "phone"]))
def test_the_page_says_what_is_decided(play: Play, told: list[Any], suppressed: str | None) -> None:
    prepare(play)
    number = next(people)
    profile, guest, addresses = family(play, number)
    if suppressed is not None:
        channel = "email" if suppressed == "email" else "sms"
        what = {"channel": channel, "address": addresses[suppressed], "reason": "bounced", "source": "mail"}
        play.write(lambda tx: customers.suppress(tx, **what, now=NOON))
    now = NOON
    for what in told:
        now += MINUTE
        tell(play, what, profile, guest, addresses, now)
        if isinstance(what, tuple):
            act, (channel, purpose) = what
            is_reached = suppressed != ("email" if channel == "email" else "phone")
            assert allowed(play, profile, now)[channel, purpose] is (act == "grant" and is_reached)
    shown = allowed(play, profile, now)
    play.take(order(f"last{number}", Buyer(external_id=f"b{number}"), at=now), now=now)
    play.decide(now)
    last = play.one(t.orders, external_id=f"last{number}")["id"]
    rows = play.rows(t.message, order_id=last)
    assert {(row["channel"], row["template"]): row["state"] == "queued" for row in rows} == shown


def test_what_is_said_twice_is_entered_once(play: Play) -> None:
    profile, _, _ = family(play, next(people))
    for minutes in range(3):
        with play.store.begin() as tx:
            given = {"wording": "w", "listened": (), "now": NOON + minutes * MINUTE}
            assert preference.withdraw(tx, profile, "*", "*", **given) is (minutes == 0)
            assert preference.withdraw(tx, profile, "email", "marketing", **given) is False
    with play.store.read() as tx:
        assert tx.execute(sa.select(sa.func.count()).select_from(t.consent)).scalar() == 3
