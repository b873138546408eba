"""What every worker answers over HTTP: whether it is well, and its figures for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farandole.app import App


def health_of(app: App) -> dict[str, Any]:
    """State of the app's engine: `ready` when it owns its share of the partitions and handles messages."""
    service = app.engine
    engine = service.engine if service is not None else None
    return {
        "service": app.service_name,
        "ready": bool(engine and engine.assigned),
        "partitions": sorted(engine.owned) if engine else [],
        "parked": sum(len(part.rows) for part in list(engine.processor.parked.table.parts.values())) if engine else 0,
        "calls": service.performer.under_way() if engine else 0,
        "stuck_calls": [key for key, _ in service.performer.stuck()][:100] if engine else [],
        **(engine.counts if engine else {}),
    }


def add_views(app: App) -> None:
    """`GET /health`: 200 when ready, 503 until then."""

    @app.page("/health")
    async def health(web: Any, request: Any) -> Any:
        state = health_of(app)
        return web.json(state, status=200 if state["ready"] else 503)
