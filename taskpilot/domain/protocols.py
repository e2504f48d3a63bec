"""Protocols with more than one implementation, and the delivery of events to signals."""

from collections.abc import Callable, Sequence
from typing import Protocol

from taskpilot.domain.chat import ChatReply, ChatRequest
from taskpilot.domain.decisions import PolicyInput, PolicyResult
from taskpilot.domain.events import Fact


class Model(Protocol):
    """A chat model behind a name. Threads may share one."""

    @property
    def name(self) -> str:
        """The name as configured, also used in metrics and records."""
        ...

    def chat(self, request: ChatRequest, *, seconds_left: float, before_retry: Callable[[], None] = lambda: None) -> ChatReply:
        """One answer, retries included, within `seconds_left`.

        `before_retry` is called before each further try after one that may be billed; what it raises ends the call.
        Raises ModelUnavailable (a later try may help) or ModelRefused (it will not).
        """
        ...

    def close(self) -> None:
        """Closes connections."""
        ...


class PolicyEngine(Protocol):
    """Decides one tool call. Never raises: an engine that fails denies."""

    def decide(self, question: PolicyInput) -> PolicyResult:
        """A definite allow, a need for approval, or a denial."""
        ...


class Signal(Protocol):
    """Receives events as they are recorded."""

    def emit(self, fact: Fact) -> None:
        """Receives one event; may fail."""
        ...


class Signals:
    """Sends each event to every signal; a signal that fails is counted, and the others still receive the event."""

    def __init__(self, signals: Sequence[Signal] = ()) -> None:
        self._signals = tuple(signals)
        self.failures: dict[str, int] = {}

    def emit(self, fact: Fact) -> None:
        """Never raises: telemetry cannot change what a run does."""
        for signal in self._signals:
            try:
                signal.emit(fact)
            except Exception:
                sink = type(signal).__name__
                self.failures[sink] = self.failures.get(sink, 0) + 1
