"""For tests of jobs: a scripted model, a manual clock, and `run_job`, which needs no network, no key and no set-up."""

import json
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from taskpilot.app.wiring import App
from taskpilot.config import SETTINGS_FILE, load
from taskpilot.domain.chat import ChatReply, ChatRequest, ToolCall
from taskpilot.domain.decisions import Decision
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.ids import new_id
from taskpilot.domain.protocols import Model
from taskpilot.domain.reasons import Fact, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus, TriggerKind, exit_code
from taskpilot.domain.steps import Step
from taskpilot.domain.tasks import Task
from taskpilot.domain.times import BootTime, boot_time, utc_now
from taskpilot.domain.usage import Usage
from taskpilot.jobs.decorator import job_spec
from taskpilot.jobs.parameters import parse_parameters
from taskpilot.ledger.claims import Claim, RunPlan
from taskpilot.messages.reasons import reason_sentence
from taskpilot.runner import Runner
from taskpilot.store import runs, steps, tasks

Reply = str | BaseModel | Mapping[str, Any] | Sequence[ToolCall] | ChatReply | Exception
"""A reply of a scripted model: text, a structured reply, tool calls, a whole ChatReply, or an error to raise."""


class ScriptedModel:
    """A model with prepared replies: those of a list, one after the other, or what a function returns for each request."""

    def __init__(
        self, replies: Sequence[Reply] | Callable[[ChatRequest], Reply], *, name: str = "scripted", usage: Usage | None = None
    ) -> None:
        self._replies = replies
        self._name = name
        self._usage = usage or Usage(input=10, output=5)
        self._lock = threading.Lock()
        self.requests: list[ChatRequest] = []
        """Every request so far."""

    @property
    def name(self) -> str:
        """The name in records and metrics."""
        return self._name

    def chat(self, request: ChatRequest, *, seconds_left: float, before_retry: Callable[[], None] = lambda: None) -> ChatReply:
        """The next reply. Raises it if it is an error, or AssertionError if there is none left."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
        if callable(self._replies):
            reply = self._replies(request)
        elif number < len(self._replies):
            reply = self._replies[number]
        else:
            raise AssertionError(f"the script has {len(self._replies)} replies, but {request.agent} asked once more")
        return self._reply(reply)

    def close(self) -> None:
        """Nothing to close."""

    def _reply(self, reply: Reply) -> ChatReply:
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, ChatReply):
            return reply if reply.usage is not None else replace(reply, usage=self._usage)
        if isinstance(reply, str):
            return ChatReply(reply, usage=self._usage)
        if isinstance(reply, BaseModel):
            return ChatReply(reply.model_dump_json(), usage=self._usage)
        if isinstance(reply, Mapping):
            return ChatReply(json.dumps(dict(reply)), usage=self._usage)
        return ChatReply("", tool_calls=tuple(reply), finish_reason="tool_calls", usage=self._usage)


def tool_call(name: str, /, **arguments: Any) -> ToolCall:
    """A tool call, as a reply of a scripted model."""
    return ToolCall(id=new_id(), name=name, arguments=json.dumps(arguments))


class ManualClock:
    """A clock that only `advance` and `set` move."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._started, self._elapsed = boot_time(), timedelta(0)

    def __call__(self) -> datetime:
        """The time in UTC."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Moves the clock forward."""
        self._now += by
        self._elapsed += by

    def set(self, now: datetime) -> None:
        """Sets the time, as a person or NTP does: no time passes by the boot clock."""
        self._now = now

    def boot(self) -> BootTime:
        """The boot clock of this machine, moved like this clock."""
        return self._started + self._elapsed


@dataclass(frozen=True)
class JobResult:
    """The result of a job in a test."""

    status: RunStatus
    reason: str
    """Why it ended so, as a sentence; empty where it succeeded."""
    reason_code: ReasonCode
    reason_facts: Mapping[str, Fact]
    result: Any
    exit_code: ExitCode
    tasks: tuple[Task, ...]
    decisions: tuple[Decision, ...]
    steps: tuple[Step, ...]
    artifacts: Mapping[str, bytes]
    """What `ctx.artifact` wrote, by name."""


def run_job(
    job: Callable[..., Any],
    *,
    model: Model | None = None,
    parameters: Mapping[str, Any] | None = None,
    scheduled_for: datetime | None = None,
    settings: str = "",
    attempts: int = 1,
    now: Callable[[], datetime] = utc_now,
    root: Path | None = None,
) -> JobResult:
    """Runs a job in this process, with a store in a temporary folder, and returns what was recorded.

    Runs with the same `root`, a folder of the test, share its store: a later one recalls what an earlier one remembered. `settings` is the
    text of a taskpilot.toml. If an attempt fails and the job's `retry` allows another one, it starts at once, up to `attempts` in all; each
    one continues from the journal. The environment is not read. Raises UsageError or ConfigurationError.
    """
    with nullcontext(root) if root is not None else tempfile.TemporaryDirectory(prefix="taskpilot-test-") as folder:
        root = Path(folder)
        (root / SETTINGS_FILE).write_text(settings, encoding="utf-8")
        app = App(load(root=root, environ={}), now=now)
        try:
            return _run(app, job, model or ScriptedModel([]), parameters or {}, scheduled_for, attempts)
        finally:
            app.deployment.close()


def _run(
    app: App,
    job: Callable[..., Any],
    model: Model,
    parameters: Mapping[str, Any],
    scheduled_for: datetime | None,
    attempts: int,
) -> JobResult:
    deployment = app.deployment
    spec = job_spec(job)
    # The last attempt ends the run: nothing of it is in the way of a later one.
    spec = replace(spec, retry=replace(spec.retry, attempts=min(spec.retry.attempts, attempts)))
    plan = RunPlan(
        run_id=new_id(),
        spec=spec,
        parameters=parse_parameters(spec, [], parameters),
        model=model.name,
        trigger=TriggerKind.MANUAL if scheduled_for is None else TriggerKind.SCHEDULE,
        scheduled_for=scheduled_for,
    )
    claim = deployment.ledger.claim(plan)
    assert isinstance(claim, Claim)
    deployment.make_run_dir(plan.run_id)
    deployment.make_current()
    grant = claim.grant
    while True:
        session = app.open_session(spec, grant, spec.deadline.total_seconds(), model=model)
        outcome: Outcome = Runner(end=deployment.ledger.end, now=deployment.now).run(session, grant)
        with deployment.store.read() as connection:
            run = runs.get_run(connection, plan.run_id)
        assert run is not None
        if run.status is not RunStatus.QUEUED:
            break
        grant = deployment.ledger.next_attempt(grant, spec)
    with deployment.store.read() as connection:
        return JobResult(
            status=outcome.status,
            reason=reason_sentence(outcome.reason, now=outcome.status is RunStatus.WAITING),
            reason_code=outcome.reason.code,
            reason_facts=outcome.reason.facts,
            result=run.result,
            exit_code=exit_code(outcome.status, outcome.reason.cause),
            tasks=tuple(tasks.tasks_of(connection, run.id)),
            decisions=tuple(tasks.decisions_of(connection, run.id)),
            steps=tuple(steps.steps_of(connection, run.id)),
            artifacts={path.name: path.read_bytes() for path in sorted(deployment.run_dir(run.id).glob("artifacts/*"))},
        )
