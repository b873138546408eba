"""Choreographed sagas on Kafka: what agents/ and flows/ need, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farandole.event import Call, CancelTimer, Event, Meta, Row, Timer, Withdraw

if TYPE_CHECKING:
    from farandole.app import App
    from farandole.flow import Flow

__all__ = ["App", "Call", "CancelTimer", "Event", "Flow", "Meta", "Row", "Timer", "Withdraw"]


def __getattr__(name: str) -> Any:
    """App and Flow when they are asked for: App brings Faust, half a second that most commands have no use for."""
    if name == "App":
        from farandole.app import App

        return App
    if name == "Flow":
        from farandole.flow import Flow

        return Flow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
