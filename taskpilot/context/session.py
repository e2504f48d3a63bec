"""The shared objects of one attempt, and the stops that its outcome depends on."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from taskpilot.budget import Spending
from taskpilot.domain.chat import DEFAULT_OUTPUT_TOKENS
from taskpilot.domain.decisions import Decision
from taskpilot.domain.errors import DeadlineExceeded, LeaseLost, Stop, Waiting
from taskpilot.domain.events import DecisionMade, Event, RunIdentity
from taskpilot.domain.protocols import Model, PolicyEngine, Signals
from taskpilot.domain.reasons import Reason
from taskpilot.domain.runs import Run
from taskpilot.domain.specs import DEFAULT_APPROVAL_TIMEOUT, JobSpec, ToolSpec
from taskpilot.domain.tasks import WorkflowResult
from taskpilot.domain.times import BootTime
from taskpilot.journal.journal import Journal
from taskpilot.journal.started_step import StartedStep
from taskpilot.messages.reasons import reason_sentence
from taskpilot.telemetry.logs import RunLogger

AnyStop = TypeVar("AnyStop", bound=Stop)


class CallsInFlight:
    """The LLM calls of this process that hold a reservation or ask for one; a call that does not fit beside them waits for an end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._active = 0
        self._ended = 0

    def begin(self) -> int:
        """Counts a call; gives how many have ended so far."""
        with self._changed:
            self._active += 1
            return self._ended

    def end(self, *, refused: bool = False) -> int:
        """Counts the end of a call, or that its reservation was refused; gives how many others are active."""
        with self._changed:
            self._active -= 1
            if not refused:
                self._ended += 1
                self._changed.notify()
            elif not self._active:
                # Those that waited for this one alone find that nothing is left to wait for.
                self._ended += 1
                self._changed.notify_all()
            return self._active

    def wait(self, ended: int) -> None:
        """Until a call ends, a second at most; not at all where more than `ended` have ended already."""
        with self._changed:
            if self._ended == ended:
                self._changed.wait(1.0)

    def admit_next(self) -> None:
        """Lets one more waiting call try: an ended call may have left room for several."""
        with self._changed:
            self._changed.notify()


@dataclass(kw_only=True)
class Session:
    """The objects of one attempt. Threads share it."""

    run: Run
    spec: JobSpec
    """Without its functions until `load` was called."""
    identity: RunIdentity
    journal: Journal
    spending: Spending
    open_model: Callable[[], Model]
    """Opens the model at the first call: a run without LLM calls loads no client."""
    policy: PolicyEngine
    open_tools: Callable[[], Mapping[str, ToolSpec]]
    """Makes `tools` when they are first needed: their schemas cost more than three steps do."""
    signals: Signals
    now: Callable[[], datetime]
    boot: Callable[[], BootTime]
    log: RunLogger
    run_dir: Path
    deadline: float
    """The end of the run's active seconds, on the monotonic clock."""
    hide: Callable[[Any], Any] = lambda value: value
    """Replaces the known secrets in a JSON value by PLACEHOLDER."""
    load_spec: Callable[[JobSpec], JobSpec] = lambda spec: spec
    """Imports the job's file into this process."""
    max_output_tokens: int = DEFAULT_OUTPUT_TOKENS
    """The limit of one reply."""
    approval_timeout: timedelta = DEFAULT_APPROVAL_TIMEOUT
    """How long a question to a person is open, where neither the tool nor the job says so."""
    expired: Reason | None = None
    """The first question that nobody answered, where this attempt met one: the run ends denied, whatever its job makes of it."""
    workflow: Callable[..., WorkflowResult] | None = None
    stops: list[Stop] = field(default_factory=list)
    """Every raised stop: a job that catches one does not change the outcome."""
    every_item_failed: Exception | None = None
    calls: CallsInFlight = field(default_factory=CallsInFlight)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _model: Model | None = None
    _tools: Mapping[str, ToolSpec] | None = None

    @property
    def model(self) -> Model:
        """The model client of this process."""
        with self._lock:
            if self._model is None:
                self._model = self.open_model()
            return self._model

    @property
    def tools(self) -> Mapping[str, ToolSpec]:
        """The built-in tools and the job's own, by name."""
        with self._lock:
            if self._tools is None:
                self._tools = self.open_tools()
            return self._tools

    def load(self) -> None:
        """Imports the job's file. Raises ConfigurationError."""
        self.spec = self.load_spec(self.spec)

    def close(self) -> None:
        """Closes the client, if one was opened."""
        if self._model is not None:
            self._model.close()

    def seconds_left(self) -> float:
        """Active seconds until the deadline. Raises DeadlineExceeded when none are left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self.stopped(DeadlineExceeded())
        return left

    def check_lease(self, begun: StartedStep, what: str) -> None:
        """Call it right before an effect. Raises LeaseLost if the process was suspended since the begin: another one may have the run."""
        if self.boot().micros >= begun.lease_until:
            raise self.stopped(LeaseLost(f"the lease ended before {what}"))

    def stopped(self, stop: AnyStop) -> AnyStop:
        """Records a stop and returns it, to be raised."""
        self.stops.append(stop)
        return stop

    def answer_by(self, timeout: timedelta | None = None) -> datetime:
        """Until when a question that is asked now may be answered; `timeout` is that of the tool."""
        now, chosen = self.now(), timeout or self.spec.approval_timeout or self.approval_timeout
        if isinstance(chosen, timedelta):
            return now + chosen
        fire = None if self.spec.schedule is None else self.spec.schedule.next_after(now)
        return fire or now + self.approval_timeout

    def not_answered(self, expiry: Reason) -> None:
        """Notes that nobody answered a question of this run."""
        self.expired = self.expired or expiry

    def waiting(self, reason: Reason, action: str) -> Waiting:
        """Records that a person is asked, and returns the stop, to be raised."""
        # The run's own id is in every line.
        subject = {name: fact for name, fact in reason.facts.items() if name.endswith("_id") and name != "run_id"}
        self.emit(action, reason_sentence(reason, now=True), level="warning", **subject)
        return self.stopped(Waiting(reason))

    def emit(self, action: str, message: str, *, level: str = "info", **fields: Any) -> None:
        """Sends an event to the telemetry."""
        self.signals.emit(Event(run=self.identity, at=self.now(), action=action, message=message, level=level, fields=fields))

    def emit_error(self, action: str, message: str, error: BaseException) -> None:
        """Sends an event about an exception, with its traceback."""
        self.signals.emit(Event(run=self.identity, at=self.now(), action=action, message=message, level="error", error=error))

    def emit_decision(self, decision: Decision) -> None:
        """Sends a recorded decision to the telemetry."""
        self.signals.emit(DecisionMade(run=self.identity, decision=decision))
