"""What every worker answers over HTTP: whether it is well, and its figures for Prometheus.

GET /health     200 when it owns its share of the partitions and a broker answers, 503 otherwise, with its state as JSON
GET /metrics    the same figures in Prometheus' text format
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from farandole.app import App

BELIEVED_FOR = 2.0
"""Seconds for which a broker's answer is believed before it is asked again: health is asked many times a second."""


def health_of(app: App) -> dict[str, Any]:
    """State of the app's engine: `ready` when it owns its share of the partitions and handles messages."""
    service = app.engine
    engine = service.engine if service is not None else None
    return {
        "service": app.service_name,
        "ready": bool(engine and engine.assigned),
        "partitions": sorted(engine.owned) if engine else [],
        "parked": sum(len(part.rows) for part in list(engine.processor.parked.table.parts.values())) if engine else 0,
        "open_sagas": sum(map(engine.processor.open_sagas, list(engine.owned))) if engine else 0,
        "calls": service.performer.under_way() if engine else 0,
        "stuck_calls": [key for key, _ in service.performer.stuck()][:100] if engine else [],
        **(engine.counts if engine else {}),
    }


class _Broker:
    """Whether a broker answers, asked at most once in BELIEVED_FOR seconds."""

    def __init__(self, app: App) -> None:
        self._app, self._answers, self._asked = app, True, 0.0

    async def answers(self) -> bool:
        if time.monotonic() - self._asked > BELIEVED_FOR:
            self._asked = time.monotonic()
            self._answers = await asyncio.to_thread(self._app.engine.clients.reachable)
        return self._answers


COUNTERS = {
    "messages": "Messages decided.",
    "transactions": "Transactions committed.",
    "aborts": "Transactions that failed.",
    "dead_letters": "Messages written to the dead letter queue.",
    "events": "Events published.",
}
GAUGES = {
    "parked": "Sagas that are parked.",
    "open_sagas": "Sagas that have begun and not ended, where clients begin them.",
    "calls": "Outside calls under way.",
    "stuck_calls": "Outside calls that have waited long for an answer.",
    "partitions": "Partitions that this worker owns.",
}


class Figures:
    """A Prometheus collector over one app's engine."""

    def __init__(self, app: App) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        state = health_of(self._app)
        service = [state["service"]]
        for name, says in COUNTERS.items():
            counter = CounterMetricFamily(f"farandole_{name}", says, labels=["service"])
            counter.add_metric(service, state.get(name, 0))
            yield counter
        for name, says in GAUGES.items():
            value = state[name]
            gauge = GaugeMetricFamily(f"farandole_{name}", says, labels=["service"])
            gauge.add_metric(service, len(value) if isinstance(value, list) else value)
            yield gauge


def add_views(app: App) -> None:
    broker = _Broker(app)
    figures = CollectorRegistry()
    figures.register(Figures(app))

    @app.page("/health")
    async def health(web: Any, request: Any) -> Any:
        state = health_of(app)
        state["ready"] = state["ready"] and await broker.answers()
        return web.json(state, status=200 if state["ready"] else 503)

    @app.page("/metrics")
    async def metrics(web: Any, request: Any) -> Any:
        return web.bytes(generate_latest(figures), content_type=CONTENT_TYPE_LATEST.partition(";")[0])
