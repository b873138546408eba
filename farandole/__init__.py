"""Choreographed sagas on Kafka: what agents/ and flows/ need, and nothing else."""

from farandole.app import App
from farandole.event import Call, CancelTimer, Event, Meta, Row, Timer, Withdraw
from farandole.flow import Flow

__all__ = ["App", "Call", "CancelTimer", "Event", "Flow", "Meta", "Row", "Timer", "Withdraw"]
