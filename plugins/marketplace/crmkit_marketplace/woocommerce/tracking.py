"""Where parcels are found: WooCommerce's own fulfillments, and the fields in which tracking plugins write.

What is known of each place:

- `fulfillments`: WooCommerce 10 and newer, `/orders/ID/fulfillments`; they have ids.
- `shipment-tracking`: the field `_wc_shipment_tracking_items` of the extensions Shipment Tracking and Advanced Shipment
  Tracking, whose `date_shipped` is a day as seconds since 1970. `shipment-trackings` is the route of both.
- `aftership`: the field `_aftership_tracking_items`, whose times are the site's, though they end in `Z`.
- `meta`: fields the operator names.

A plugin's id is a hash of the tracking number, which is corrected, so its parcels are told apart by their ordinal.
Times are kept between the order's creation and its last change: a plugin's may be of another zone, or a whole day.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from crmkit import ParcelRecord

from .settings import TrackingMeta, WooSettings
from .shape import WooFulfillment, WooOrder

_DAY = timedelta(days=1)


def in_fields(order: WooOrder, place: str, settings: WooSettings, seen_at: datetime | None) -> list[ParcelRecord]:
    """The parcels the order itself tells of."""
    if place == "shipment-tracking":
        return of_items(order, order.meta("_wc_shipment_tracking_items"), seen_at)
    if place == "aftership":
        return _of_aftership(order, order.meta("_aftership_tracking_items"), seen_at)
    if place == "meta" and settings.tracking_meta is not None:
        return _of_meta(order, settings.tracking_meta, seen_at)
    return []


def of_fulfillment(row: WooFulfillment, order: WooOrder, seen_at: datetime | None) -> ParcelRecord | None:
    """One of WooCommerce's own shipments; None for one that was deleted."""
    if row.date_deleted is not None:
        return None
    shipped = _moment(row.meta("_date_fulfilled")) or row.date_updated or order.date_modified_gmt
    return ParcelRecord(
        order_external_id=str(order.id),
        external_id=str(row.id),
        carrier=_text(row.meta("_provider_name", "_shipment_provider", "_shipping_provider")),
        tracking_number=_text(row.meta("_tracking_number")),
        tracking_url=_link(row.meta("_tracking_url")),
        vendor_status=row.status,
        shipped_at=_within(order, shipped) if row.is_fulfilled else None,
        updated_at=row.date_updated or order.date_modified_gmt,
        observed_at=seen_at,
    )


def of_items(order: WooOrder, items: Any, seen_at: datetime | None) -> list[ParcelRecord]:
    """Parcels of Shipment Tracking, from its field or its route."""
    return [
        _parcel(
            order,
            ordinal,
            seen_at,
            carrier=item.get("custom_tracking_provider")
            or item.get("formatted_tracking_provider")
            or item.get("tracking_provider"),
            number=item.get("tracking_number"),
            url=item.get("custom_tracking_link")
            or item.get("formatted_tracking_link")
            or item.get("ast_tracking_link")
            or item.get("tracking_link"),
            shipped_at=_within_day(order, _moment(item.get("date_shipped"))),
        )
        for ordinal, item in enumerate(_items(items), start=1)
    ]


def _of_aftership(order: WooOrder, items: Any, seen_at: datetime | None) -> list[ParcelRecord]:
    found = []
    for ordinal, item in enumerate(_items(items), start=1):
        metrics = item.get("metrics")
        written = metrics.get("created_at") if isinstance(metrics, Mapping) else None
        found.append(
            _parcel(
                order,
                ordinal,
                seen_at,
                carrier=item.get("slug"),
                number=item.get("tracking_number"),
                url=None,
                shipped_at=_within(order, _moment(written)),
            )
        )
    return found


def _of_meta(order: WooOrder, keys: TrackingMeta, seen_at: datetime | None) -> list[ParcelRecord]:
    number = _text(order.meta(keys.number))
    if number is None:
        return []
    shipped = _moment(order.meta(keys.shipped_at)) if keys.shipped_at else None
    return [
        _parcel(
            order,
            1,
            seen_at,
            carrier=order.meta(keys.carrier) if keys.carrier else None,
            number=number,
            url=order.meta(keys.url) if keys.url else None,
            shipped_at=_within_day(order, shipped),
        )
    ]


def _parcel(
    order: WooOrder,
    ordinal: int,
    seen_at: datetime | None,
    *,
    carrier: Any,
    number: Any,
    url: Any,
    shipped_at: datetime | None,
) -> ParcelRecord:
    return ParcelRecord(
        order_external_id=str(order.id),
        ordinal=ordinal,
        carrier=_text(carrier),
        tracking_number=_text(number),
        tracking_url=_link(url),
        shipped_at=shipped_at,
        updated_at=order.date_modified_gmt,
        observed_at=seen_at,
    )


def _items(items: Any) -> Iterable[Mapping[str, Any]]:
    listed = items.values() if isinstance(items, Mapping) else items if isinstance(items, list) else ()
    return [item for item in listed if isinstance(item, Mapping) and _text(item.get("tracking_number"))]


def _text(value: Any) -> str | None:
    return str(value).strip() or None if isinstance(value, str | int) and not isinstance(value, bool) else None


def _link(value: Any) -> str | None:
    """An address for people; anything may stand in such a field, and it ends up in mails."""
    text = _text(value)
    return text if text and text.lower().startswith(("https://", "http://")) and len(text) <= 1_000 else None


def _moment(value: Any) -> datetime | None:
    """A time as plugins write it: seconds since 1970, a day, or a time, which is UTC where it names no zone."""
    text = _text(value)
    if text is None:
        return None
    try:
        moment = datetime.fromtimestamp(int(text), UTC) if text.isdigit() else datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _within(order: WooOrder, moment: datetime | None) -> datetime | None:
    """`moment`, but neither before the order was placed nor after it was last changed."""
    first, last = order.date_created_gmt, order.date_modified_gmt
    found = moment or last
    if found is not None and last is not None:
        found = min(found, last)
    if found is not None and first is not None:
        found = max(found, first)
    return found


def _within_day(order: WooOrder, moment: datetime | None) -> datetime | None:
    """As `_within`; what is midnight sharp is a day, of which only its end is certain."""
    if moment is None or moment.time() != datetime.min.time():
        return _within(order, moment)
    last = order.date_modified_gmt
    if last is not None and moment > last:  # a label made for a day to come
        return moment
    return _within(order, moment + _DAY - timedelta(seconds=1))
