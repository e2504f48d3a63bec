"""The journal of a run: records steps as they happen, and returns them to a later attempt."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from taskpilot.domain.chat import ChatReply
from taskpilot.domain.decisions import Decision, DecisionStatus
from taskpilot.domain.errors import LeaseLost, StoreBusy, StoreError
from taskpilot.domain.events import EventKind
from taskpilot.domain.ids import new_id
from taskpilot.domain.instruments import AGENT_DURATION, AGENT_INVOCATIONS, TOOL_CALLS
from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.runs import LeaseGrant, Run
from taskpilot.domain.steps import Step, StepKind, StepPlace, StepStatus
from taskpilot.domain.tasks import Task, TaskStatus
from taskpilot.domain.times import BootTime, boot_time, to_micros
from taskpilot.domain.usage import Reservation, Usage
from taskpilot.journal.large_values import LargeValues
from taskpilot.journal.started_step import AgentEnd, CallEnd, StartedStep, call_totals, check_budget, error_text, micros, new_step
from taskpilot.store import runs, steps, tasks, totals
from taskpilot.store.database import Store, Transaction
from taskpilot.store.events import record_event
from taskpilot.store.grants import granted
from taskpilot.store.group_commit import GroupCommit
from taskpilot.store.records import dumps
from taskpilot.store.runs import HeldRun

Recorded = TypeVar("Recorded")


class Journal:
    """One attempt's view of its run's journal. Every write raises LeaseLost where another process holds the run. Threads may share it."""

    def __init__(
        self,
        store: Store,
        run: Run,
        grant: LeaseGrant,
        *,
        now: Callable[[], datetime],
        boot: Callable[[], BootTime] = boot_time,
        mask: Callable[[str], str] = str,
    ) -> None:
        self._store = store
        self._group = GroupCommit(store)
        self.large = LargeValues(store.path.parent / "runs", run.id)
        self._run = run
        self._grant = grant
        self._now = now
        self._boot = boot
        self.mask = mask
        """Removes secrets from an error message before it is recorded: a server may repeat the key that it refused."""
        self._labels: dict[str, str] = {}
        self._lock = threading.Lock()
        self.unrecorded: StoreError | StoreBusy | None = None
        """Why an effect that happened could not be recorded: the run then fails, even where its job catches the error."""
        with store.read() as connection:
            recorded = steps.steps_of(connection, run.id)
            self._asked = {(one.tool, dumps(one.arguments)) for one in tasks.asked_of(connection, run.id)}
        # A step takes its position when it starts: a plain step is recorded after the steps inside of it.
        self._positions = itertools.count(max((step.position for step in recorded), default=-1) + 1)
        self._by_key = {step.key: step for step in sorted(recorded, key=lambda step: step.make)}
        given = (step for step in recorded if step.kind is StepKind.GIVEN and step.status is StepStatus.SUCCEEDED)
        self.given = {step.scope: step.result for step in given}
        """What the maps and workflows of earlier attempts were given, by their scopes."""
        self._by_place: dict[tuple[str, StepKind, int], dict[str, Step]] = {}
        for step in self._by_key.values():
            self._by_place.setdefault((step.scope, step.kind, step.ordinal), {})[step.key] = step

    def recorded(self, place: StepPlace) -> Step | None:
        """The newest step that an earlier attempt recorded for this place and input, with its whole result."""
        step = self._by_key.get(place.key)
        return None if step is None else replace(step, result=self.large.read(step.result))

    def conflicting(self, place: StepPlace) -> Step | None:
        """The step that an earlier attempt recorded at this place for another input, unless a person asked for it to be made again."""
        others = self._by_place.get((place.scope, place.kind, place.ordinal), {})
        return next((step for step in others.values() if step.key != place.key and step.status is not StepStatus.RETRY_REQUESTED), None)

    def remembered(self, key: str) -> Any:
        """The value that the job's newest succeeded run remembered last under this key; None where there is none."""
        with self._store.read() as connection:
            return self.large.read(steps.remembered(connection, self._run.job, key))

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

        def record(connection: Transaction, held: HeldRun, now: datetime) -> StartedStep:
            check_budget(held, reservation)
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
            self._reserve(connection, reservation)
            return StartedStep(step=step, lease_until=held.lease_expires_at or 0, reservation=reservation)

        return self._write(record, effect=True)

    def reserve_retry(self, begun: StartedStep) -> StartedStep:
        """Reserves one more try of an LLM call, beside those before it that may be billed. Raises LeaseLost or BudgetExceeded."""
        step, more = begun.step, begun.reservation
        total_nano = None if step.reserved_nano is None else step.reserved_nano + (more.cost_nano or 0)
        retried = replace(step, reserved_nano=total_nano, reserved_tokens=step.reserved_tokens + more.tokens)

        def record(connection: Transaction, held: HeldRun, _now: datetime) -> None:
            check_budget(held, more)
            steps.reserve_retry(connection, retried)
            self._reserve(connection, more)

        self._write(record, effect=True)
        return replace(begun, step=retried)

    def start(self, place: StepPlace, *, value: Any) -> StartedStep:
        """A step without an effect outside of the process, not recorded before its end: where it is interrupted, it runs again.

        Raises LeaseLost.
        """
        with self._store.read() as connection:
            held, now = self._checked(connection, effect=True)
            return StartedStep(step=self._step(place, StepStatus.BEGUN, value, now), lease_until=held.lease_expires_at or 0)

    def record(
        self, started: StartedStep, place: StepPlace, status: StepStatus, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        """Records a step of `start` with its end."""

        def record(connection: Transaction, _held: HeldRun, now: datetime) -> None:
            text, kind = self._failure(error)
            step = replace(started.step, status=status, ended_at=now, result=kept, error=text, error_type=kind)
            steps.insert_step(connection, step, input_digest=place.input_digest)

        with self._loudly():
            kept = self.large.keep(started.step.id, result)
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
        decision_id: str | None = None,
        idempotent: bool = True,
        label: str | None = None,
    ) -> Step:
        """Records a step that begins and ends at once: a clock reading, a denial, a call about which a person has to decide.

        `label` is the tool in the metrics where its name is not one of ours.
        """
        kept = self.large.keep(new_id(), result)

        def record(connection: Transaction, _held: HeldRun, now: datetime) -> Step:
            if decision is not None:
                tasks.insert_decision(connection, decision)
            step = replace(
                self._step(place, status, value, now),
                result=kept,
                ended_at=now,
                error=error_text(error, mask=self.mask, limit=None),
                error_type=None if error is None else type(error).__name__,
                decision_id=decision_id if decision is None else decision.id,
                idempotent=idempotent,
            )
            steps.insert_step(connection, step, input_digest=place.input_digest)
            if status is StepStatus.DIVERGED:
                about: dict[str, Fact] = {"item": next(iter(step.input))} if step.kind is StepKind.GIVEN else {"tool": step.name}
                asked = Reason(ReasonCode.DIVERGED_STEP, {"run_id": self._run.id, "step_id": step.id, **about})
                event = EventKind.APPROVAL_ASKED
                record_event(connection, event, self._run.job, at=now, run_id=self._run.id, subject=step.id, reason=asked)
            if place.kind is StepKind.CALL and status is StepStatus.DENIED:
                totals.add(connection, self._run.job, [totals.count(TOOL_CALLS, tool=label or place.name, status=status)])
            return step

        return self._write(record, effect=True)

    def ask_person(self, decision: Decision, *, grants: bool = True) -> Decision:
        """Records a question to a person; with `grants`, as approved where a standing grant does so. Gives it as it was recorded."""

        def record(connection: Transaction, _held: HeldRun, now: datetime) -> Decision:
            asked = (granted(connection, decision, now=now) if grants else None) or decision
            tasks.insert_decision(connection, asked)
            return asked

        recorded = self._write(record, effect=True)
        self._asked.add((decision.tool, dumps(decision.arguments)))
        return recorded

    def answer(self, place: StepPlace, arguments: dict[str, Any]) -> Decision | None:
        """The question to a person about exactly this call, answered or not; else a no to the same call at another place of the run."""
        if (place.name, dumps(arguments)) not in self._asked:
            return None
        with self._store.read() as connection:
            asked = tasks.asked_of(connection, self._run.id)
        same = [one for one in asked if (one.tool, dumps(one.arguments)) == (place.name, dumps(arguments))]
        here = next((one for one in reversed(same) if one.step_key == place.key), None)
        if here is not None and here.status is DecisionStatus.PENDING and here.expires_at is not None and here.expires_at <= self._now():
            here = self._expired(here)
        return here or next((one for one in same if one.status in (DecisionStatus.REJECTED, DecisionStatus.EXPIRED)), None)

    def _expired(self, asked: Decision) -> Decision:
        """A question whose time is over, as it is after that was recorded; an answer may have come first."""

        def record(connection: Transaction, _held: HeldRun, now: datetime) -> Decision | None:
            current = tasks.get_decision(connection, asked.id)
            if current is not None and current.status is DecisionStatus.PENDING:
                tasks.expire_question(connection, current, now=now)
            return tasks.get_decision(connection, asked.id)

        return self._write(record, effect=True) or asked

    def effects_below(self, scope: str) -> list[Step]:
        """The calls below a scope that had an effect or may have had one, and must not be repeated."""
        with self._store.read() as connection:
            return steps.effects_below(connection, self._run.id, scope)

    def denial(self, step: Step) -> Decision | None:
        """The verdict behind a denied step: a person's where one was asked, else the policy's."""
        with self._store.read() as connection:
            asked = tasks.approval_of(connection, self._run.id, step.key)
            return asked or (None if step.decision_id is None else tasks.get_decision(connection, step.decision_id))

    def end(self, begun: StartedStep, status: StepStatus, *, result: Any = None, error: BaseException | None = None) -> None:
        """Records the end of a tool call."""

        def record(connection: Transaction, _held: HeldRun, now: datetime) -> None:
            self._close(connection, begun.step, status, now, result=kept, error=error)
            totals.add(connection, self._run.job, [totals.count(TOOL_CALLS, tool=begun.step.name, status=status)])

        with self._loudly():
            kept = self.large.keep(begun.step.id, result)
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
        completed: AgentEnd | None = None,
    ) -> None:
        """Records the end of an LLM call, settles its reservation and counts its tokens and cost; with the invocation that it completed.

        A try without an answer costs nothing; each of the `lost` ones, which may be billed although no answer arrived, costs the
        whole reservation of a try; an answer without usage keeps its reservation in the budget.
        """
        step, each = begun.step, begun.reservation
        usage = reply.usage if reply is not None else None
        answered = reply is not None
        status = StepStatus.SUCCEEDED if answered else StepStatus.UNKNOWN if lost else StepStatus.FAILED
        known = usage or Usage()
        unpriced = (answered and cost_nano is None) or (lost > 0 and each.cost_nano is None)
        if lost and each.cost_nano is not None and (cost_nano is not None or not answered):
            cost_nano = (cost_nano or 0) + lost * each.cost_nano
        tokens = (each.tokens if usage is None else usage.total) if answered else 0
        values: dict[str, Any] = {"retries": dumps(list(retries)) if retries else None, "cost_nano": cost_nano}
        if usage is not None:
            values |= {"input_tokens": usage.input, "cached_input_tokens": usage.cached_input, "output_tokens": usage.output}

        def record(connection: Transaction, _held: HeldRun, now: datetime) -> None:
            self._close(connection, step, status, now, result=self.large.keep(step.id, result), error=error, **values)
            steps.settle(
                connection,
                step,
                cost_nano=cost_nano if answered else cost_nano or 0,
                unpriced=unpriced,
                tokens=tokens + lost * each.tokens,
                usage=(known.input, known.cached_input, known.output),
            )
            end = CallEnd(status, known, cost_nano, unpriced, retries)
            label = self._agent_label(connection, step.agent or "other")
            added = call_totals(step, end, agent_label=label, now=now)
            if completed is not None:
                added += self._record_agent(connection, completed, now)
            totals.add(connection, self._run.job, added)

        with self._loudly():
            self._write(record)

    def record_agent(self, end: AgentEnd) -> None:
        """Records one invocation of an agent in this attempt."""

        def record(connection: Transaction, _held: HeldRun, now: datetime) -> None:
            totals.add(connection, self._run.job, self._record_agent(connection, end, now))

        self._write(record)

    def task_at(self, scope: str) -> Task | None:
        """The task that was proposed at this place, in its current state."""
        with self._store.read() as connection:
            return tasks.task_at(connection, self._run.id, scope)

    def propose(self, task: Task) -> None:
        """Records a proposed task."""
        self._write(lambda connection, _held, _now: tasks.insert_task(connection, task), effect=True)

    def move_task(self, task_id: str, after: TaskStatus, reason: str | None = None, *, expires_at: datetime | None = None) -> Task:
        """Changes a task's state; without a `reason` it keeps the one that it has. Raises TransitionRefused."""

        def record(connection: Transaction, _held: HeldRun, now: datetime) -> Task:
            return tasks.move_task(connection, task_id, after, reason=reason, now=now, expires_at=expires_at)

        return self._write(record, effect=True)

    def progress(self, done: int, total: int | None) -> None:
        """Records the progress that the job reports."""
        self._write(lambda connection, _held, _now: runs.update_run(connection, self._run.id, progress_done=done, progress_total=total))

    @contextmanager
    def _loudly(self) -> Iterator[None]:
        """Remembers a store error as `unrecorded`."""
        try:
            yield
        except (StoreError, StoreBusy) as error:
            self.unrecorded = error
            raise

    def _write(self, record: Callable[[Transaction, HeldRun, datetime], Recorded], *, effect: bool = False) -> Recorded:
        """What `record` gives, once its rows are durable. Raises LeaseLost as `_checked` does."""

        def write(connection: Transaction) -> Recorded:
            held, now = self._checked(connection, effect=effect)
            return record(connection, held, now)

        return self._group.write(write)

    def _checked(self, connection: Transaction, *, effect: bool) -> tuple[HeldRun, datetime]:
        """The run's lease and budget, and the time. Raises LeaseLost where another process has it; with `effect` also after its end."""
        held = runs.held_run(connection, self._run.id)
        now = self._now()
        if held is None or held.lease_token != self._grant.token:
            raise LeaseLost(f"attempt {self._grant.attempt} no longer holds run {self._run.id}")
        if effect and (held.lease_expires_at or 0) <= self._boot().micros:
            raise LeaseLost(f"the lease of run {self._run.id} has ended")
        return held, now

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

    def _reserve(self, connection: Transaction, wanted: Reservation) -> None:
        if wanted != Reservation():
            steps.reserve(
                connection,
                self._run.id,
                cost_nano=wanted.cost_nano or 0,
                tokens=wanted.tokens,
                llm_calls=wanted.llm_calls,
                tool_calls=wanted.tool_calls,
            )

    def _record_agent(self, connection: Transaction, end: AgentEnd, now: datetime) -> list[totals.Increment]:
        """Records it, and gives what it adds to the totals."""
        steps.record_agent(
            connection,
            run_id=self._run.id,
            scope=end.scope,
            attempt=self._grant.attempt,
            agent=end.agent,
            status=end.status,
            started_at=end.started_at,
            ended_at=now,
        )
        label = self._agent_label(connection, end.agent)
        duration = totals.observed(AGENT_DURATION, micros(now - end.started_at), agent=label)
        return [totals.count(AGENT_INVOCATIONS, agent=label, status=end.status), *duration]

    def _agent_label(self, connection: Transaction, agent: str) -> str:
        with self._lock:
            if agent not in self._labels:
                self._labels[agent] = totals.bounded_agent(connection, self._run.job, agent, AGENT_INVOCATIONS.name)
            return self._labels[agent]
