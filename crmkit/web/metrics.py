"""Metrics: what the database counts and how it stands, in the form Prometheus reads; behind a token of its own."""

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from math import inf
from typing import Any, NamedTuple

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

import crmkit
from crmkit.core.events import EVENTS
from crmkit.core.message import Reason
from crmkit.store import silences
from crmkit.store.bulk import Row
from crmkit.store.metrics import BUCKETS, Totals
from crmkit.store.standing import Queue, Standing, standing
from crmkit.web.guard import allowed
from crmkit.web.site import Site

#: The form of the answer.
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds for which an answer is given again.
FRESH = 1.0
#: What stands where a label would be something nobody configured.
OTHER = "other"


class Measure(NamedTuple):
    """A metric: its name (a counter's without `_total`), kind, labels, and what it says."""

    name: str
    kind: Any
    labels: tuple[str, ...]
    meaning: str


MEASURES = {
    one.name: one
    for one in (
        Measure(
            "crmkit_interactions",
            CounterMetricFamily,
            ("type", "account"),
            "interactions that entered the log, by type",
        ),
        Measure("crmkit_webhooks", CounterMetricFamily, ("account",), "webhooks that were verified and kept"),
        Measure(
            "crmkit_webhooks_refused",
            CounterMetricFamily,
            ("account", "status"),
            "calls this process turned away or could not keep, by what they were answered",
        ),
        Measure(
            "crmkit_strangers", CounterMetricFamily, ("account",), "calls that could not show they are the vendor's"
        ),
        Measure(
            "crmkit_decided", CounterMetricFamily, (), "interactions that were decided, once their dispatch has ended"
        ),
        Measure("crmkit_messages", CounterMetricFamily, ("channel", "purpose"), "messages that were decided"),
        Measure("crmkit_suppressed", CounterMetricFamily, ("reason",), "messages that will not leave, by reason"),
        Measure(
            "crmkit_deliveries",
            CounterMetricFamily,
            ("gateway", "outcome"),
            "tries at delivering, by what came of them",
        ),
        Measure(
            "crmkit_delivery_errors",
            CounterMetricFamily,
            ("gateway", "reason"),
            "tries that were not accepted, by reason",
        ),
        Measure("crmkit_delivery_seconds", HistogramMetricFamily, ("gateway",), "how long tries took"),
        Measure("crmkit_receipts", CounterMetricFamily, ("account", "state"), "receipts, by what they say"),
        Measure("crmkit_webhooks_waiting", GaugeMetricFamily, ("account",), "webhooks that were not taken in yet"),
        Measure(
            "crmkit_webhooks_lag_seconds", GaugeMetricFamily, ("account",), "how long the oldest of them has waited"
        ),
        Measure("crmkit_decisions_due", GaugeMetricFamily, (), "decisions that are due"),
        Measure("crmkit_decisions_lag_seconds", GaugeMetricFamily, (), "how late the oldest of them is"),
        Measure("crmkit_messages_due", GaugeMetricFamily, ("gateway",), "messages that may leave and have not"),
        Measure("crmkit_messages_lag_seconds", GaugeMetricFamily, ("gateway",), "how late the oldest of them is"),
        Measure(
            "crmkit_messages_in_doubt",
            GaugeMetricFamily,
            ("gateway",),
            "messages of which it is not known whether they left",
        ),
        Measure(
            "crmkit_quarantine_open", GaugeMetricFamily, ("account",), "records that were refused, and are so still"
        ),
        Measure(
            "crmkit_sync_age_seconds",
            GaugeMetricFamily,
            ("account",),
            "how long ago an account was last read to its end; `+Inf` where it never was",
        ),
        Measure(
            "crmkit_silence_seconds",
            GaugeMetricFamily,
            ("account", "kind"),
            "for how long `orders`, `webhooks` or `receipts` are missing where that is unusual; 0 where it is not",
        ),
        Measure("crmkit_build", InfoMetricFamily, (), "the version that runs"),
    )
}


class Meter(Collector):
    """Measures an installation.

    Args:
        site: the installation.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.totals = Totals(site.local.store)
        #: calls turned away by this process, by account and status
        self.refused: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._told: tuple[float, bytes] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def text(self) -> bytes:
        """Everything that is measured, as of now or a moment ago."""
        with self._lock:
            if self._told is None or time.monotonic() - self._told[0] >= FRESH:
                self._told = (time.monotonic(), generate_latest(self._registry))
            return self._told[1]

    def describe(self) -> Iterable[Metric]:
        """Nothing is looked up when this is registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Look."""
        now = self.site.clock()
        self.totals.refresh()
        with self.site.local.store.read() as tx:
            found = standing(tx, now)
            known = silences.known(tx)
        accounts = self._accounts(found)
        yield from self._counted(found.accounts, accounts)
        yield from self._delivered()
        configured = self.site.local.accounts
        lag = found.late(configured.named(), now)
        yield _metric("crmkit_webhooks_waiting", _all(accounts, _depths(found.webhooks)))
        yield _metric("crmkit_webhooks_lag_seconds", _all(accounts, lag))
        yield _metric("crmkit_decisions_due", {(): found.pending.count})
        yield _metric("crmkit_decisions_lag_seconds", {(): found.pending.behind(now)})
        gateways = self._gateways()
        lag = {name: one.behind(now) for name, one in found.messages.items()}
        yield _metric("crmkit_messages_due", _all(gateways, _depths(found.messages)))
        yield _metric("crmkit_messages_lag_seconds", _all(gateways, lag))
        yield _metric("crmkit_messages_in_doubt", _all(gateways, found.in_doubt))
        yield _metric("crmkit_strangers", _all(accounts, found.strangers))
        yield _metric("crmkit_quarantine_open", _all(accounts, found.quarantine))
        ages = {(name,): inf if age is None else age for name, age in found.ages(configured.readable(), now).items()}
        yield _metric("crmkit_sync_age_seconds", ages)
        yield _metric("crmkit_silence_seconds", _silences(known, found.accounts, configured.named(), now))
        yield InfoMetricFamily("crmkit_build", MEASURES["crmkit_build"].meaning, {"version": crmkit.__version__})

    def _accounts(self, found: Standing) -> list[str]:
        return sorted({*found.accounts.values(), *self.site.local.accounts.named()})

    def _gateways(self) -> list[str]:
        return sorted({entry.name for entries in self.site.local.host.channels.values() for entry in entries})

    def _counted(self, names: Mapping[int, str], accounts: list[str]) -> Iterator[Metric]:
        totals = self.totals
        interactions: Counter[tuple[str, ...]] = Counter()
        for (kind, number), count in totals.interactions.counts.items():
            interactions[kind if kind in EVENTS else OTHER, names.get(number, OTHER)] += count
        yield _metric("crmkit_interactions", interactions)
        kept = {names.get(number, OTHER): count for (number,), count in totals.webhooks.counts.items()}
        yield _metric("crmkit_webhooks", _all(accounts, kept))
        yield _metric("crmkit_webhooks_refused", {(a, str(s)): count for (a, s), count in self.refused.items()})
        yield _metric("crmkit_decided", {(): totals.decided.counts[()]})
        yield _metric("crmkit_messages", totals.messages.counts)
        suppressed: Counter[str] = Counter()
        for (reason,), count in totals.suppressed.counts.items():
            suppressed[_reason(reason)] += count
        yield _metric("crmkit_suppressed", {(reason,): count for reason, count in suppressed.items()})
        yield _metric("crmkit_receipts", totals.receipts.counts)

    def _delivered(self) -> Iterator[Metric]:
        outcomes: Counter[tuple[str, ...]] = Counter()
        errors: Counter[tuple[str, ...]] = Counter()
        buckets: dict[str, list[int]] = {}
        for (gateway, outcome, reason, bucket), count in self.totals.tries.counts.items():
            outcomes[gateway, outcome] += count
            if outcome != "accepted":
                errors[gateway, _reason(reason)] += count
            if outcome != "looked-up":
                buckets.setdefault(gateway, [0] * (len(BUCKETS) + 1))[bucket] += count
        yield _metric("crmkit_deliveries", outcomes)
        yield _metric("crmkit_delivery_errors", errors)
        measure = MEASURES["crmkit_delivery_seconds"]
        took = HistogramMetricFamily(measure.name, measure.meaning, labels=measure.labels)
        for gateway, counts in buckets.items():
            upto = [str(upper) for upper in BUCKETS] + ["+Inf"]
            sums = [sum(counts[: number + 1]) for number in range(len(counts))]
            seconds = self.totals.took.counts[(gateway,)] / 1000
            took.add_metric([gateway], list(zip(upto, sums, strict=True)), seconds)
        yield took


def _metric(name: str, values: Mapping[tuple[Any, ...], float]) -> Metric:
    measure = MEASURES[name]
    metric = measure.kind(measure.name, measure.meaning, labels=measure.labels)
    for labels, value in sorted(values.items(), key=lambda item: tuple(map(str, item[0]))):
        metric.add_metric([str(label) for label in labels], value)
    found: Metric = metric
    return found


def _all(names: Iterable[str], values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    """A value for each name there is: what has none yet is 0, so that a first one is seen as a change."""
    return {(name,): values.get(name, 0) for name in {*names, *values}}


def _silences(
    known: Mapping[silences.Series, Row], accounts: Mapping[int, str], on: Collection[str], now: datetime
) -> dict[tuple[str, str], float]:
    """How long each account is silent that is on and was looked at: what is not unusual is no silence."""
    found = {}
    for (number, kind), row in known.items():
        name, since = accounts.get(number), row["silent_since"]
        if name is not None and name in on:
            found[name, kind] = 0.0 if since is None else max(0.0, (now - since).total_seconds())
    return found


def _depths(queues: Mapping[str, Queue]) -> dict[str, float]:
    return {name: one.count for name, one in queues.items()}


def _reason(reason: str | None) -> str:
    return reason if reason in set(Reason) else OTHER


router = APIRouter()


#: What is answered, for who reads it from the schema.
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
    401: {"description": "a token is needed"},
    403: {"description": "the token does not allow this"},
}


@router.get("/metrics", dependencies=[Depends(allowed("metrics"))], response_class=Response, responses=_ANSWERS)
async def metrics(request: Request) -> Response:
    """Everything that is measured, in Prometheus' text format."""
    meter: Meter = request.app.state.meter
    return Response(await run_sync(meter.text), media_type=EXPOSITION)
