"""What one attempt works with, and what happened in it that its outcome must know."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from taskpilot.budget import Spending
from taskpilot.domain.decisions import Decision
from taskpilot.domain.errors import DeadlineExceeded, LeaseLost, Stop, Waiting
from taskpilot.domain.events import DecisionMade, Event, RunIdentity
from taskpilot.domain.protocols import Model, PolicyEngine, Signals
from taskpilot.domain.reasons import Reason
from taskpilot.domain.runs import Run
from taskpilot.domain.specs import JobSpec, ToolSpec
from taskpilot.domain.tasks import WorkflowResult
from taskpilot.journal.journal import Journal
from taskpilot.journal.started_step import StartedStep
from taskpilot.messages.reasons import reason_sentence
from taskpilot.telemetry.logs import RunLogger


@dataclass(kw_only=True)
class Session:
    """One attempt's tools and its memory. Threads share it."""

    run: Run
    spec: JobSpec
    identity: RunIdentity
    journal: Journal
    spending: Spending
    open_model: Callable[[], Model]
    """Opens the model at the first call: a run that asks nothing loads no client."""
    policy: PolicyEngine
    open_tools: Callable[[], Mapping[str, ToolSpec]]
    """Makes `tools` when they are first needed: their schemas cost more than three steps do."""
    signals: Signals
    now: Callable[[], datetime]
    log: RunLogger
    run_dir: Path
    deadline: float
    """On the monotonic clock: when the run's active seconds are used up."""
    workflow: Callable[..., WorkflowResult] | None = None
    stops: list[Stop] = field(default_factory=list)
    """Every stop that was raised, so that a job that swallows one changes nothing."""
    every_item_failed: Exception | None = None
    in_flight: int = 0
    """LLM calls that are begun and not settled; guarded by `landing`, which is notified when one of them ends."""
    landing: threading.Condition = field(default_factory=threading.Condition)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _model: Model | None = None
    _tools: Mapping[str, ToolSpec] | None = None

    @property
    def model(self) -> Model:
        """The one client of this process."""
        with self._lock:
            if self._model is None:
                self._model = self.open_model()
            return self._model

    @property
    def tools(self) -> Mapping[str, ToolSpec]:
        """What a call may name: the built-in tools and the job's own."""
        with self._lock:
            if self._tools is None:
                self._tools = self.open_tools()
            return self._tools

    def close(self) -> None:
        """Closes the client, where one was opened."""
        if self._model is not None:
            self._model.close()

    def seconds_left(self) -> float:
        """Active seconds until the deadline. Raises DeadlineExceeded when none are left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self.stopped(DeadlineExceeded())
        return left

    def check_lease(self, begun: StartedStep, what: str) -> None:
        """Right before an effect. Raises LeaseLost where the process stood still since the begin: the run may be somebody else's."""
        if self.now() >= begun.lease_until:
            raise self.stopped(LeaseLost(f"the lease ended before {what}"))

    def stopped(self, stop: Stop) -> Stop:
        """Remembers a stop; gives it back to be raised."""
        self.stops.append(stop)
        return stop

    def waiting(self, reason: Reason, action: str) -> Waiting:
        """Remembers that a person is asked; gives the stop to be raised."""
        # The run's own id is in every line.
        subject = {name: fact for name, fact in reason.facts.items() if name.endswith("_id") and name != "run_id"}
        self.tell(action, reason_sentence(reason, now=True), level="warning", **subject)
        waiting = Waiting(reason)
        self.stops.append(waiting)
        return waiting

    def tell(self, action: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Tells the signals what happened."""
        self.signals.emit(Event(run=self.identity, at=self.now(), action=action, message=message, level=level, fields=fields))

    def tell_decision(self, decision: Decision) -> None:
        """Tells the signals of a recorded verdict."""
        self.signals.emit(DecisionMade(run=self.identity, decision=decision))
