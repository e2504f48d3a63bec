"""RunContext, the first argument of a job function."""

import json
import re
import uuid as uuids
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, overload

from pydantic import BaseModel

from taskpilot.context import scope
from taskpilot.context.llm_steps import LLMSteps
from taskpilot.context.mapping import map_items
from taskpilot.context.questions import ask_person
from taskpilot.context.serialization import digestible, from_json, to_json
from taskpilot.context.session import Session
from taskpilot.context.tool_steps import JOB_CODE, ToolSteps
from taskpilot.domain.errors import ItemError, LeaseLost, RequirementNotMet, StoreBusy
from taskpilot.domain.steps import MEMORY, StepKind, StepPlace, StepStatus
from taskpilot.domain.tasks import WorkflowResult
from taskpilot.files import atomic_write
from taskpilot.telemetry.logs import RunLogger
from taskpilot.tools.arguments import parse_arguments
from taskpilot.tools.decorator import tool_spec
from taskpilot.tools.invocation import read_result

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def write_artifact(run_dir: Path, name: str, data: str | bytes | Any) -> Path:
    """Writes `artifacts/<name>` of a run atomically. Raises ValueError for a name that is not a plain file name."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:64]!r} is not an artifact name: letters, digits, dots, dashes and underscores, at most 128, a letter or digit first"
        )
    folder = run_dir / "artifacts"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if isinstance(data, bytes):
        content = data
    else:
        content = (data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, indent=2)).encode("utf-8", "replace")
    atomic_write(folder / name, content, follow=False)
    return folder / name


Shape = TypeVar("Shape", bound=BaseModel)
Result = TypeVar("Result")
Item = TypeVar("Item")

_PROGRESS_EVERY: Final = 0.5
"""Seconds between two recorded progress updates; each one is a durable write."""


class RunContext:
    """One run, for its job. The results of ask, call, step, now, uuid and recall are journaled: a later attempt gets the same ones."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._llm_steps = LLMSteps(session)
        self._tool_steps = ToolSteps(session)
        self._memory = scope.Scope(MEMORY)
        self._progress_at: datetime | None = None

    @property
    def run_id(self) -> str:
        """The run's id, a UUIDv7."""
        return self._session.run.id

    @property
    def scheduled_for(self) -> datetime | None:
        """The scheduled time of the run, in UTC; None if a person started it."""
        return self._session.run.scheduled_for

    @property
    def data_interval(self) -> tuple[datetime, datetime] | None:
        """From the previous scheduled time to this one; None for a run without one, or for the first one."""
        run = self._session.run
        return None if run.scheduled_for is None or run.previous_fire is None else (run.previous_fire, run.scheduled_for)

    @property
    def previous_success(self) -> datetime | None:
        """When a run of this job last succeeded before this one was created, in UTC."""
        return self._session.run.previous_success

    @property
    def attempt(self) -> int:
        """1 for the first start of this run."""
        return self._session.identity.attempt

    @property
    def log(self) -> RunLogger:
        """Log lines of this run: `ctx.log.info("read %d lines", n, field=value)`; also debug, warning, error and exception."""
        return self._session.log

    def workflow(self, request: object) -> WorkflowResult:
        """Plans, reviews and executes one request. Raises ModelError, or Waiting after all other tasks are done."""
        assert self._session.workflow is not None
        return self._session.workflow(self._session, self._llm_steps, self._tool_steps, request)

    @overload
    def ask(self, agent: str, prompt: str, output: type[Shape], *, system: str = "") -> Shape: ...
    @overload
    def ask(self, agent: str, prompt: str, output: None = None, *, system: str = "", allow_partial: bool = False) -> str: ...
    def ask(self, agent: str, prompt: str, output: type[BaseModel] | None = None, *, system: str = "", allow_partial: bool = False) -> Any:
        """Asks the model as `agent`; the reply is text, or an instance of the pydantic model `output`.

        `allow_partial` takes a text that was cut off or is empty. Raises ModelError.
        """
        agent = self._session.journal.mask(agent)
        if output is None:
            return self._llm_steps.text(agent, prompt, system=system, allow_partial=allow_partial)
        if allow_partial:
            raise ValueError("allow_partial is for a text: a part of a structured reply cannot be read")
        return self._llm_steps.structured(agent, prompt, output, system=system)

    @overload
    def call(self, tool: Callable[..., Result], /, **arguments: Any) -> Result: ...
    @overload
    def call(self, tool: str, /, **arguments: Any) -> Any: ...
    def call(self, tool: Callable[..., Any] | str, /, **arguments: Any) -> Any:
        """Calls a tool once, if policy allows it. Raises Denied, ToolFailed, ToolArgumentsInvalid or Waiting."""
        spec = self._session.tools.get(tool) if isinstance(tool, str) else tool_spec(tool)
        if spec is None:
            raise self._tool_steps.unknown(str(tool), to_json(arguments), agent=JOB_CODE, offered=self._session.tools)
        parsed = parse_arguments(spec, to_json(arguments, by_alias=True))
        return read_result(spec, self._tool_steps.call(spec, parsed, agent=JOB_CODE))

    def approve(self, question: str, /, **details: Any) -> None:
        """Asks a person, once; returns after a yes. The answer holds for exactly these words and details: others are another question.

        Raises Denied after a no and without an answer in time (`approval_timeout`), or Waiting until then.
        """
        ask_person(self._session, question, to_json(details))

    def step(self, name: str, function: Callable[..., Result], /, *args: Any) -> Result:
        """Calls a Python function once; its result is recorded as JSON and always read by its return annotation."""
        session = self._session
        # A name is in the record, in logs and in spans.
        name = session.journal.mask(name)
        given = digestible(args)
        place = scope.current().place(StepKind.STEP, name, given)
        recorded = session.journal.recorded(place)
        if recorded is None or recorded.status is not StepStatus.SUCCEEDED:
            session.seconds_left()
            try:
                started = session.journal.start(place, value=given)
            except LeaseLost as stop:
                raise session.stopped(stop) from None
            session.check_lease(started, f"the step {name} started")
            try:
                with scope.inside(name):
                    value = to_json(function(*args))
            except Exception as error:
                session.journal.record(started, place, StepStatus.FAILED, error=error)
                raise
            session.journal.record(started, place, StepStatus.SUCCEEDED, result=value)
        else:
            scope.current().child_path(name)
            value = recorded.result
        result: Result = from_json(function, value, name=name)
        return result

    @overload
    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        concurrency: int = 1,
        on_error: Literal["raise"] = "raise",
    ) -> list[Result]: ...
    @overload
    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        concurrency: int = 1,
        on_error: Literal["collect"],
    ) -> list[Result | ItemError]: ...
    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        concurrency: int = 1,
        on_error: Literal["raise", "collect"] = "raise",
    ) -> list[Result] | list[Result | ItemError]:
        """Results in the order of the items, with `concurrency` threads. `on_error` is for items that fail: "raise" raises the first
        one's error, "collect" returns an ItemError in place of the result.
        """
        return map_items(self._session, function, items, concurrency=concurrency, on_error=on_error)

    def now(self) -> datetime:
        """The time in UTC, the same one in every attempt."""
        place = scope.current().place(StepKind.NOW, "now", None)
        return datetime.fromisoformat(self._noted(place, lambda: self._session.now().isoformat()))

    def uuid(self) -> uuids.UUID:
        """A random UUID, the same one in every attempt."""
        place = scope.current().place(StepKind.UUID, "uuid", None)
        return uuids.UUID(self._noted(place, lambda: str(uuids.uuid4())))

    def remember(self, key: str, value: Any) -> None:
        """Keeps a JSON value for later runs of this job, which can `recall` it once this run has succeeded.

        Use a key for each thing that the job keeps apart, such as each repository.
        """
        result, key = to_json(value), self._session.journal.mask(key)
        self._noted(self._memory.place(StepKind.REMEMBER, key, result), lambda: result)

    def recall(self, key: str) -> Any:
        """The value that the newest succeeded run remembered with the key, or None.

        It has plain JSON types, and is the same in every attempt.
        """
        key = self._session.journal.mask(key)
        return self._noted(scope.current().place(StepKind.RECALL, key, None), lambda: self._session.journal.remembered(key))

    def artifact(self, name: str, data: str | bytes | Any) -> Path:
        """Writes a file of this run (text, bytes, or JSON of anything else) and returns its path. Raises ValueError for a bad name."""
        content = data if isinstance(data, str | bytes) else to_json(data)
        return write_artifact(self._session.run_dir, name, content)

    def progress(self, done: int, total: int | None = None) -> None:
        """Records how far the run is, for the live display and `taskpilot runs show`."""
        now = self._session.now()
        if self._progress_at is None or done == total or (now - self._progress_at).total_seconds() >= _PROGRESS_EVERY:
            self._progress_at = now
            try:
                self._session.journal.progress(done, total)
            except StoreBusy:
                self._session.emit("progress-lost", "a progress update was not recorded: the store is busy", level="debug")

    def require(self, condition: object, why: str) -> None:
        """Checks a result. Raises RequirementNotMet, with which the run fails and exits with 15, if the condition is false."""
        if not condition:
            raise RequirementNotMet(why)

    def _noted(self, place: StepPlace, make: Callable[[], Any]) -> Any:
        recorded = self._session.journal.recorded(place)
        if recorded is None:
            try:
                recorded = self._session.journal.note(place, StepStatus.SUCCEEDED, result=make())
            except LeaseLost as stop:
                raise self._session.stopped(stop) from None
        return recorded.result
