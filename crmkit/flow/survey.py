"""Surveys on a page of the customer's own: one answer for each customer, survey and order."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy.engine import Connection

from crmkit.core.customer import Customer
from crmkit.core.survey import Answers
from crmkit.store import bulk, customers, log
from crmkit.store import tables as t
from crmkit.store.bulk import Row


def is_answered(tx: Connection, customer: Customer, survey: str, order: Row | None) -> bool:
    """Whether this customer, by whichever profile, answered a survey about this order, or about none."""
    members = customers.members(tx, [customer.id])[customer.id]
    keys = [_key(survey, order, member) for member in members]
    return bool(bulk.select_in(tx, (t.interaction.c.id,), t.interaction.c.key, keys))


def answer(
    tx: Connection,
    customer: Customer,
    survey: str,
    order: Row | None,
    answers: Answers,
    *,
    listened: Collection[str],
    now: datetime,
    correlation_id: str | None = None,
) -> bool:
    """Tell that a survey was answered. False: it was before, and nothing of this is kept."""
    bulk.lock(tx, f"survey:{customer.id}")
    if is_answered(tx, customer, survey, order):
        return False
    payload = {"survey": survey, "score": answers.score, "answers": answers.values}
    row = {
        "type": "survey-answered",
        "profile_id": customer.profile_id,
        "shop_id": order["shop_id"] if order is not None else None,
        "order_id": order["id"] if order is not None else None,
        "actor": "customer",
        "occurred_at": now,
        "payload": {name: value for name, value in payload.items() if value is not None},
        "key": _key(survey, order, customer.profile_id),
        "correlation_id": correlation_id,
    }
    return bool(log.append(tx, [row], listened, now))


def _key(survey: str, order: Row | None, profile: int) -> str:
    return f"page:answer:{survey}:{profile}:{order['id'] if order is not None else 0}"
