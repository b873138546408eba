"""What every worker answers over HTTP: whether it is well, and its figures for Prometheus.

GET /health     200 when it owns its share of the partitions and a broker answers, 503 otherwise, with its state as JSON
GET /metrics    the same figures in Prometheus' text format

Figures of a discreet app (`App(…, discreet=True)`) would tell strangers what its answers must not, as how long the call
that a request began is under way. They are for who sends `Authorization: Bearer` with what FARANDOLE_METRICS_KEY
says; to others /health says whether the worker is ready, and /metrics 403.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from farandole import answers, config

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


def may_see(app: App, request: Any, key: str) -> bool:
    """Whether figures are for who has sent this request."""
    said = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
    return not app.discreet or (bool(key) and hmac.compare_digest(said, f"Bearer {key}".encode()))


def add_views(app: App) -> None:
    """Register them. ConfigError if the key for figures of a discreet app could be tried out."""
    broker = _Broker(app)
    figures = CollectorRegistry()
    figures.register(Figures(app))
    key = config.metrics_key() if app.discreet else ""

    @app.page("/health")
    async def health(web: Any, request: Any) -> Any:
        state = health_of(app)
        state["ready"] = state["ready"] and await broker.answers()
        if not may_see(app, request, key):
            state = {name: state[name] for name in ("service", "ready")}
        return web.json(state, status=200 if state["ready"] else 503)

    @app.page("/metrics")
    async def metrics(web: Any, request: Any) -> Any:
        if not may_see(app, request, key):
            what = f"figures of {app.service_name} are for who has the key: Authorization: Bearer, {config.METRICS_KEY}"
            return web.json(answers.error(403, what, request), status=403)
        return web.bytes(generate_latest(figures), content_type=CONTENT_TYPE_LATEST.partition(";")[0])
