"""The journal of a run: records steps as they happen, and returns them to a later attempt."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from taskpilot.domain.chat import ChatReply
from taskpilot.domain.decisions import Decision
from taskpilot.domain.errors import LeaseLost, StoreBusy, StoreError
from taskpilot.domain.events import EventKind
from taskpilot.domain.instruments import AGENT_DURATION, AGENT_INVOCATIONS, TOOL_CALLS
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import LeaseGrant, Run
from taskpilot.domain.steps import Step, StepKind, StepPlace, StepStatus
from taskpilot.domain.tasks import Task, TaskStatus
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.domain.usage import Reservation, Usage
from taskpilot.journal.started_step import CallEnd, StartedStep, call_totals, check_budget, error_text, micros, new_step
from taskpilot.store import runs, steps, tasks, totals
from taskpilot.store.database import Record, Store, Transaction
from taskpilot.store.events import record_event
from taskpilot.store.group_commit import GroupCommit
from taskpilot.store.records import dumps

Recorded = TypeVar("Recorded")


class Journal:
    """One attempt's view of its run's journal. Every write raises LeaseLost where another process holds the run. Threads may share it."""

    def __init__(self, store: Store, run: Run, grant: LeaseGrant, *, now: Callable[[], datetime], mask: Callable[[str], str] = str) -> None:
        self._store = store
        self._group = GroupCommit(store)
        self._run = run
        self._grant = grant
        self._now = now
        self.mask = mask
        """Removes secrets from an error message before it is recorded: a server may repeat the key that it refused."""
        self._labels: dict[str, str] = {}
        self._lock = threading.Lock()
        self.unrecorded: StoreError | StoreBusy | None = None
        """Why an effect that happened could not be recorded: the run then fails, even where its job catches the error."""
        with store.read() as connection:
            recorded = steps.steps_of(connection, run.id)
        # A step takes its position when it starts: a plain step is recorded after the steps inside of it.
        self._positions = itertools.count(max((step.position for step in recorded), default=-1) + 1)
        self._by_key = {step.key: step for step in sorted(recorded, key=lambda step: step.make)}
        self._by_place: dict[tuple[str, StepKind, int], dict[str, Step]] = {}
        for step in self._by_key.values():
            self._by_place.setdefault((step.scope, step.kind, step.ordinal), {})[step.key] = step

    def recorded(self, place: StepPlace) -> Step | None:
        """The newest step that an earlier attempt recorded for this place and input."""
        return self._by_key.get(place.key)

    def conflicting(self, place: StepPlace) -> Step | None:
        """The step that an earlier attempt recorded at this place for another input, unless a person asked for it to be made again."""
        others = self._by_place.get((place.scope, place.kind, place.ordinal), {})
        return next((step for step in others.values() if step.key != place.key and step.status is not StepStatus.RETRY_REQUESTED), None)

    def remembered(self, key: str) -> Any:
        """The value that the job's newest succeeded run remembered last under this key; None where there is none."""
        with self._store.read() as connection:
            return steps.remembered(connection, self._run.job, key)

    def begin(
        self,
        place: StepPlace,
        *,
        value: Any,
        agent: str | None = None,
        model: str | None = None,
        reservation: Reservation = Reservation(),
        decision: Decision | None = None,
        decision_id: str | None = None,
        idempotent: bool = True,
        diverged: bool = False,
    ) -> StartedStep:
        """Records that a step starts, with the decision that allows it and its reservation, all or nothing.

        Raises LeaseLost or BudgetExceeded; nothing is recorded then.
        """

        def record(connection: Transaction, row: Record, now: datetime) -> StartedStep:
            check_budget(row, reservation)
            if decision is not None:
                tasks.insert_decision(connection, decision)
            step = replace(
                self._step(place, StepStatus.BEGUN, value, now),
                agent=agent,
                model=model,
                reserved_nano=reservation.cost_nano,
                reserved_tokens=reservation.tokens,
                diverged=diverged,
                decision_id=decision_id if decision is None else decision.id,
                idempotent=idempotent,
            )
            steps.insert_step(connection, step, input_digest=place.input_digest)
            if reservation != Reservation():
                steps.reserve(
                    connection,
                    self._run.id,
                    cost_nano=reservation.cost_nano or 0,
                    tokens=reservation.tokens,
                    llm_calls=reservation.llm_calls,
                    tool_calls=reservation.tool_calls,
                )
            return StartedStep(step=step, lease_until=from_micros(row.lease_expires_at))

        return self._write(record, effect=True)

    def start(self, place: StepPlace, *, value: Any) -> StartedStep:
        """A step without an effect outside of the process, not recorded before its end: where it is interrupted, it runs again.

        Raises LeaseLost.
        """
        with self._store.read() as connection:
            row, now = self._checked(connection, effect=True)
            return StartedStep(step=self._step(place, StepStatus.BEGUN, value, now), lease_until=from_micros(row.lease_expires_at))

    def record(
        self, started: StartedStep, place: StepPlace, status: StepStatus, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        """Records a step of `start` with its end."""

        def record(connection: Transaction, _row: Record, now: datetime) -> None:
            text, kind = self._failure(error)
            step = replace(started.step, status=status, ended_at=now, result=result, error=text, error_type=kind)
            steps.insert_step(connection, step, input_digest=place.input_digest)

        with self._loudly():
            self._write(record)

    def note(
        self,
        place: StepPlace,
        status: StepStatus,
        *,
        value: Any = None,
        result: Any = None,
        error: BaseException | None = None,
        decision: Decision | None = None,
        idempotent: bool = True,
    ) -> Step:
        """Records a step that begins and ends at once: a clock reading, a denial, a call about which a person has to decide."""

        def record(connection: Transaction, _row: Record, now: datetime) -> Step:
            if decision is not None:
                tasks.insert_decision(connection, decision)
            step = replace(
                self._step(place, status, value, now),
                result=result,
                ended_at=now,
                error=error_text(error, mask=self.mask, limit=None),
                error_type=None if error is None else type(error).__name__,
                decision_id=None if decision is None else decision.id,
                idempotent=idempotent,
            )
            steps.insert_step(connection, step, input_digest=place.input_digest)
            if status is StepStatus.DIVERGED:
                asked = Reason(ReasonCode.DIVERGED_STEP, {"run_id": self._run.id, "step_id": step.id, "tool": step.name})
                event = EventKind.APPROVAL_ASKED
                record_event(connection, event, self._run.job, at=now, run_id=self._run.id, subject=step.id, reason=asked)
            if place.kind is StepKind.CALL and status is StepStatus.DENIED:
                totals.add(connection, self._run.job, [totals.count(TOOL_CALLS, tool=place.name, status=status)])
            return step

        return self._write(record, effect=True)

    def decide(self, decision: Decision) -> None:
        """Records a verdict alone."""
        self._write(lambda connection, _row, _now: tasks.insert_decision(connection, decision), effect=True)

    def approval(self, place: StepPlace) -> Decision | None:
        """The question to a person about exactly this call, asked in an earlier attempt."""
        with self._store.read() as connection:
            return tasks.approval_of(connection, self._run.id, place.key)

    def denial(self, step: Step) -> Decision | None:
        """The verdict behind a denied step: a person's where one was asked, else the policy's."""
        with self._store.read() as connection:
            asked = tasks.approval_of(connection, self._run.id, step.key)
            return asked or (None if step.decision_id is None else tasks.get_decision(connection, step.decision_id))

    def end(self, begun: StartedStep, status: StepStatus, *, result: Any = None, error: BaseException | None = None) -> None:
        """Records the end of a tool call."""

        def record(connection: Transaction, _row: Record, now: datetime) -> None:
            self._close(connection, begun.step, status, now, result=result, error=error)
            totals.add(connection, self._run.job, [totals.count(TOOL_CALLS, tool=begun.step.name, status=status)])

        with self._loudly():
            self._write(record)

    def end_ask(
        self,
        begun: StartedStep,
        *,
        reply: ChatReply | None,
        result: Any,
        cost_nano: int | None,
        retries: tuple[str, ...],
        lost: int = 0,
        error: BaseException | None = None,
    ) -> None:
        """Records the end of an LLM call, settles its reservation and counts its tokens and cost.

        A try without an answer costs nothing; each of the `lost` ones, which may be billed although no answer arrived, costs the
        whole reservation; an answer without usage keeps its reservation in the budget.
        """
        step = begun.step
        usage = reply.usage if reply is not None else None
        answered = reply is not None
        status = StepStatus.SUCCEEDED if answered else StepStatus.UNKNOWN if lost else StepStatus.FAILED
        known = usage or Usage()
        unpriced = (answered and cost_nano is None) or (lost > 0 and step.reserved_nano is None)
        if lost and step.reserved_nano is not None and (cost_nano is not None or not answered):
            cost_nano = (cost_nano or 0) + lost * step.reserved_nano
        tokens = (step.reserved_tokens if usage is None else usage.total) if answered else 0
        values: dict[str, Any] = {"retries": dumps(list(retries)) if retries else None, "cost_nano": cost_nano}
        if usage is not None:
            values |= {"input_tokens": usage.input, "cached_input_tokens": usage.cached_input, "output_tokens": usage.output}

        def record(connection: Transaction, _row: Record, now: datetime) -> None:
            self._close(connection, step, status, now, result=result, error=error, **values)
            steps.settle(
                connection,
                step,
                cost_nano=cost_nano if answered else cost_nano or 0,
                unpriced=unpriced,
                tokens=tokens + lost * step.reserved_tokens,
                usage=(known.input, known.cached_input, known.output),
            )
            end = CallEnd(status, known, cost_nano, unpriced, retries)
            label = self._agent_label(connection, step.agent or "other")
            totals.add(connection, self._run.job, call_totals(step, end, agent_label=label, now=now))

        with self._loudly():
            self._write(record)

    def record_agent(self, agent: str, scope: str, *, succeeded: bool, started_at: datetime) -> None:
        """Records one invocation of an agent in this attempt."""
        status = StepStatus.SUCCEEDED if succeeded else StepStatus.FAILED

        def record(connection: Transaction, _row: Record, now: datetime) -> None:
            steps.record_agent(
                connection,
                run_id=self._run.id,
                scope=scope,
                attempt=self._grant.attempt,
                agent=agent,
                status=status,
                started_at=started_at,
                ended_at=now,
            )
            label = self._agent_label(connection, agent)
            duration = totals.observed(AGENT_DURATION, micros(now - started_at), agent=label)
            totals.add(connection, self._run.job, [totals.count(AGENT_INVOCATIONS, agent=label, status=status), *duration])

        self._write(record)

    def task_at(self, scope: str) -> Task | None:
        """The task that was proposed at this place, in its current state."""
        with self._store.read() as connection:
            return tasks.task_at(connection, self._run.id, scope)

    def propose(self, task: Task) -> None:
        """Records a proposed task."""
        self._write(lambda connection, _row, _now: tasks.insert_task(connection, task), effect=True)

    def move_task(self, task_id: str, after: TaskStatus, reason: str | None = None) -> Task:
        """Changes a task's state; without a `reason` it keeps the one that it has. Raises TransitionRefused."""
        return self._write(lambda connection, _row, now: tasks.move_task(connection, task_id, after, reason=reason, now=now), effect=True)

    def progress(self, done: int, total: int | None) -> None:
        """Records the progress that the job reports."""
        self._write(lambda connection, _row, _now: runs.update_run(connection, self._run.id, progress_done=done, progress_total=total))

    @contextmanager
    def _loudly(self) -> Iterator[None]:
        """Remembers a store error as `unrecorded`."""
        try:
            yield
        except (StoreError, StoreBusy) as error:
            self.unrecorded = error
            raise

    def _write(self, record: Callable[[Transaction, Record, datetime], Recorded], *, effect: bool = False) -> Recorded:
        """What `record` gives, once its rows are durable. Raises LeaseLost as `_checked` does."""

        def write(connection: Transaction) -> Recorded:
            row, now = self._checked(connection, effect=effect)
            return record(connection, row, now)

        return self._group.write(write)

    def _checked(self, connection: Transaction, *, effect: bool) -> tuple[Record, datetime]:
        """The run's row and the time. Raises LeaseLost where another process holds the run; with `effect` also after the lease's end."""
        row = runs.run_row(connection, self._run.id)
        now = self._now()
        if row is None or row.lease_token != self._grant.token:
            raise LeaseLost(f"attempt {self._grant.attempt} no longer holds run {self._run.id}")
        if effect and row.lease_expires_at <= to_micros(now):
            raise LeaseLost(f"the lease of run {self._run.id} ended at {from_micros(row.lease_expires_at).isoformat()}")
        return row, now

    def _step(self, place: StepPlace, status: StepStatus, value: Any, now: datetime) -> Step:
        before = self._by_key.get(place.key)
        attempt, position = self._grant.attempt, next(self._positions)
        return new_step(place, status, value, run_id=self._run.id, attempt=attempt, before=before, now=now, position=position)

    def _failure(self, error: BaseException | None) -> tuple[str | None, str | None]:
        return error_text(error, mask=self.mask), None if error is None else type(error).__name__

    def _close(
        self,
        connection: Transaction,
        step: Step,
        status: StepStatus,
        now: datetime,
        *,
        result: Any,
        error: BaseException | None,
        **values: Any,
    ) -> None:
        text, kind = self._failure(error)
        values |= {
            "status": status,
            "ended_at": to_micros(now),
            "result": None if status is not StepStatus.SUCCEEDED else dumps(result),
            "error": text,
            "error_type": kind,
        }
        if not steps.end_step(connection, step.id, **values):
            raise LeaseLost(f"step {step.id} of run {self._run.id} has an end already")

    def _agent_label(self, connection: Transaction, agent: str) -> str:
        with self._lock:
            if agent not in self._labels:
                self._labels[agent] = totals.bounded_agent(connection, self._run.job, agent, AGENT_INVOCATIONS.name)
            return self._labels[agent]
