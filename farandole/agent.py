"""How a Faust agent and the engine's thread meet: the agent is a coroutine, and each batch is one step of it.

Invariant: a batch that the agent took and did not decide is not acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from farandole.message import Message
from farandole.processor import Processor


class Batch:
    """A batch of messages, as the service's Faust agent gets it."""

    def __init__(self, processor: Processor, messages: list[Message]) -> None:
        self._processor, self.messages = processor, messages
        self.decided = False

    def __len__(self) -> int:
        return len(self.messages)

    def decide(self) -> None:
        """Take each message to its decision, in order. The effects are committed when the agent asks for more."""
        if not self.decided:
            self.decided = True
            self._processor.process(self.messages)


class _NextBatch:
    """What the agent awaits: control goes back to the engine, which sends the next batch."""

    def __await__(self) -> Any:
        return (yield self)


class Batches:
    """The stream that the service's agent iterates over."""

    def __aiter__(self) -> Batches:
        return self

    async def __anext__(self) -> Batch:
        return await _NextBatch()  # type: ignore[no-any-return]


class AgentSteps:
    """Drives the service's agent, a coroutine, one batch per step, in the engine's thread.

    No event loop, future or task lies between a batch and its decisions; so the agent may await nothing but its
    batches.
    """

    def __init__(self, name: str, function: Callable[[Batches], Coroutine[Any, Any, None]]) -> None:
        self.name, self._function = name, function
        self._coroutine: Coroutine[Any, Any, None] | None = None

    def step(self, batch: Batch) -> None:
        if self._coroutine is None:
            self._coroutine = self._function(Batches())
            self._send(None)
        self._send(batch)
        if not batch.decided:
            raise RuntimeError(
                f"agent {self.name} took a batch and did not call batch.decide(): nothing is acknowledged"
            )

    def _send(self, value: Batch | None) -> None:
        assert self._coroutine is not None
        try:
            awaited = self._coroutine.send(value)
        except StopIteration:
            raise RuntimeError(f"agent {self.name} ended: it must go on iterating over its batches") from None
        if not isinstance(awaited, _NextBatch):
            raise RuntimeError(f"agent {self.name} awaits {awaited!r}: an agent of app.inbox awaits only its batches")
