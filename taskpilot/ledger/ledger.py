"""The one who may start a run: claims fires, judges overlap on leases, grants attempts and records their ends."""

import os
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from taskpilot.domain.errors import LeaseLost, NotFound, TransitionRefused
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.identity import new_id
from taskpilot.domain.instruments import ATTEMPTS, FIRE_LATENESS, FIRES
from taskpilot.domain.moments import from_micros, to_micros
from taskpilot.domain.runs import FireOutcome, LeaseGrant, Outcome, Owner, Reason, Run, RunStatus
from taskpilot.domain.specs import JobSpec
from taskpilot.ledger.claims import Claim, RunPlan, Skip
from taskpilot.ledger.endings import end_attempt
from taskpilot.store import runs, tasks, totals
from taskpilot.store.database import Record, Store, Transaction
from taskpilot.store.records import dumps, owner_of, run_of


class Ledger:
    """Transactions over fires, runs and leases. Whoever holds a lease is the only one whose writes to that run are taken."""

    def __init__(
        self, store: Store, *, owner: Owner, is_gone: Callable[[Owner], bool], lease_seconds: float, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._owner = owner
        self._is_gone = is_gone
        self._lease = timedelta(seconds=lease_seconds)
        self._now = now

    def claim(self, plan: RunPlan) -> Claim | Skip:
        """Starts the planned run, goes on with the fire's lost one, or says why neither is to be done; one transaction."""
        now = self._now()
        with self._store.write() as connection:
            if plan.scheduled_for is not None:
                fire = runs.fire_row(connection, plan.spec.name, plan.scheduled_for)
                if fire is not None:
                    return self._go_on_with_fire(connection, fire, plan.spec, now)
            for row in runs.active_runs(connection, plan.spec.name):
                if not self._is_alive(row, now):
                    self._end_lost(connection, row, now, retry=False)
                elif plan.spec.overlap == "skip":
                    return self._skip_overlap(connection, row, plan, now)
            return self._start(connection, plan, now)

    def next_attempt(self, grant: LeaseGrant, spec: JobSpec) -> LeaseGrant:
        """The lease of the run's next attempt, for the supervisor that holds the run. Raises LeaseLost."""
        now = self._now()
        with self._store.write() as connection:
            row = self._held(connection, grant)
            return self._start_attempt(connection, row, spec, now)

    def resume(self, plan: RunPlan) -> Claim:
        """A further attempt of the plan's run, with the job's ceilings of now: it waits, ended badly, or has a task approved since.

        Raises TransitionRefused.
        """
        now, run_id, spec = self._now(), plan.run_id, plan.spec
        with self._store.write() as connection:
            row = self._row(connection, run_id)
            status = RunStatus(row.status)
            if status in (RunStatus.RUNNING, RunStatus.QUEUED):
                if self._is_alive(row, now):
                    raise TransitionRefused(f"run {run_id} is {status} and its supervisor lives: `taskpilot runs show {run_id}` shows it")
                self._end_lost(connection, row, now, retry=True)
            elif not tasks.may_resume(connection, run_id, status):
                raise TransitionRefused(f"run {run_id} is {status}: there is nothing to resume. `taskpilot run {row.job}` starts a new one")
            if spec.overlap == "skip" and (other := self._active_beside(connection, row, now)) is not None:
                raise TransitionRefused(f"run {other} of {row.job} is active: resume {run_id} when it has ended")
            runs.update_run(
                connection,
                run_id,
                model=plan.model,
                ended_at=None,
                cancel_requested_at=None,
                deadline_micros=spec.deadline // timedelta(microseconds=1),
                attempts_allowed=max(row.attempts_allowed, row.attempts + 1),
                **plan.ceilings,
            )
            grant = self._start_attempt(connection, self._row(connection, run_id), spec, now)
            return Claim(run=run_of(self._row(connection, run_id)), grant=grant)

    def renew(self, grant: LeaseGrant, *, active_seconds: float) -> bool:
        """Prolongs the lease and records the active time; False where the lease is no longer ours."""
        expires = self._now() + self._lease
        with self._store.write() as connection:
            return runs.renew_lease(connection, grant, expires_at=expires, active_micros=round(active_seconds * 1_000_000))

    def end(self, grant: LeaseGrant, outcome: Outcome, *, active_seconds: float, keep_lease: bool) -> RunStatus:
        """Records the attempt's end and the run's state after it. Raises LeaseLost where another holds the run, or it ended already."""
        now = self._now()
        with self._store.write() as connection:
            row = self._held(connection, grant)
            if runs.open_attempt(connection, grant.run_id) is None:
                raise LeaseLost(f"attempt {grant.attempt} of run {grant.run_id} has an end already")
            runs.set_active(connection, grant.run_id, grant.attempt_id, round(active_seconds * 1_000_000))
            return end_attempt(connection, row, outcome, now=now, keep_lease=keep_lease)

    def give_up(self, grant: LeaseGrant, outcome: Outcome) -> None:
        """Ends a queued run between two attempts: no further one is to be made by this supervisor."""
        now = self._now()
        with self._store.write() as connection:
            row = self._held(connection, grant)
            end_attempt(connection, row, outcome, now=now, keep_lease=False)

    def cancel(self, run_id: str) -> RunStatus:
        """Asks a living run's supervisor to end it, or ends at once what has no process; gives the state before."""
        now = self._now()
        with self._store.write() as connection:
            row = self._row(connection, run_id)
            status = RunStatus(row.status)
            if status in (RunStatus.RUNNING, RunStatus.QUEUED) and self._is_alive(row, now):
                runs.update_run(connection, run_id, cancel_requested_at=to_micros(now))
            elif status in (RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.WAITING):
                outcome = Outcome(RunStatus.CANCELLED, Reason.CANCELLED_BY_PERSON, "cancelled by a person")
                end_attempt(connection, row, outcome, now=now, keep_lease=False)
            else:
                raise TransitionRefused(f"run {run_id} is {status}: there is nothing to cancel")
            return status

    def reap(self) -> list[Run]:
        """Ends the attempts of all runs whose lease ended or whose process is gone; gives those runs as they stand now."""
        now = self._now()
        with self._store.write() as connection:
            dead = [row for row in runs.all_active_runs(connection) if not self._is_alive(row, now) and row.lease_token is not None]
            for row in dead:
                self._end_lost(connection, row, now, retry=True)
            return [run_of(self._row(connection, row.id)) for row in dead]

    def _start(self, connection: Transaction, plan: RunPlan, now: datetime) -> Claim:
        spec = plan.spec
        state = runs.job_state_row(connection, spec.name)
        previous = runs.previous_fire(connection, spec.name, plan.scheduled_for)
        trace_id = _trace_id(plan.traceparent)
        runs.insert_run(
            connection,
            {
                "id": plan.run_id,
                "job": spec.name,
                "status": RunStatus.QUEUED,
                "trigger": plan.trigger,
                "scheduled_for": None if plan.scheduled_for is None else to_micros(plan.scheduled_for),
                "previous_fire": None if previous is None else to_micros(previous),
                "previous_success": None if state is None else state.last_success,
                "parameters": dumps(dict(plan.parameters)),
                "model": plan.model,
                "trace_id": trace_id,
                "root_span_id": os.urandom(8).hex(),
                "traceparent": plan.traceparent,
                "created_at": to_micros(now),
                "attempts_allowed": spec.retry.attempts,
                "deadline_micros": spec.deadline // timedelta(microseconds=1),
                **plan.ceilings,
            },
        )
        if plan.scheduled_for is not None:
            runs.insert_fire(connection, spec.name, plan.scheduled_for, FireOutcome.STARTED, run_id=plan.run_id, reason="", now=now)
            late = max(0, to_micros(now) - to_micros(plan.scheduled_for))
            counted = [totals.count(FIRES, outcome=FireOutcome.STARTED), *totals.observed(FIRE_LATENESS, late)]
            totals.add(connection, spec.name, counted)
            totals.set_state(connection, spec.name, last_scheduled=to_micros(plan.scheduled_for))
        grant = self._start_attempt(connection, self._row(connection, plan.run_id), spec, now)
        return Claim(run=run_of(self._row(connection, plan.run_id)), grant=grant)

    def _start_attempt(self, connection: Transaction, row: Record, spec: JobSpec, now: datetime) -> LeaseGrant:
        grant = LeaseGrant(
            run_id=row.id, attempt_id=new_id(), attempt=row.attempts + 1, token=uuid.uuid4().hex, expires_at=now + self._lease
        )
        runs.insert_attempt(connection, grant, started_at=now, file_digest=spec.file_digest)
        started = to_micros(now) if row.started_at is None else row.started_at
        state = {"status": RunStatus.RUNNING, "reason": Reason.NONE, "detail": "", "attempts": grant.attempt, "started_at": started}
        runs.grant_lease(connection, grant, self._owner, **state)
        totals.add(connection, row.job, [totals.count(ATTEMPTS)])
        totals.set_state(connection, row.job, last_start=to_micros(now))
        return grant

    def _go_on_with_fire(self, connection: Transaction, fire: Record, spec: JobSpec, now: datetime) -> Claim | Skip:
        row = runs.run_row(connection, fire.run_id) if fire.run_id else None
        when = from_micros(fire.scheduled_for).isoformat()
        outcome = FireOutcome(fire.outcome)
        if row is None:
            return Skip(outcome, ExitCode.SKIPPED, f"the fire of {when} is claimed already: {outcome}")
        claimed = Skip(outcome, ExitCode.SKIPPED, f"the fire of {when} is claimed already by run {row.id}, which is {row.status}", row.id)
        if row.status not in (RunStatus.QUEUED, RunStatus.RUNNING) or self._is_alive(row, now):
            return claimed
        if spec.overlap == "skip" and (other := self._active_beside(connection, row, now)) is not None:
            return Skip(outcome, ExitCode.SKIPPED_OVERLAP, f"run {other} of {row.job} is active; run {row.id} waits for its end", row.id)
        if self._end_lost(connection, row, now, retry=True) is not RunStatus.QUEUED:
            return Skip(
                outcome,
                ExitCode.SKIPPED,
                f"run {row.id} of the fire of {when} is lost and has no attempt left; `taskpilot runs resume {row.id}` goes on with it",
                row.id,
                recorded=True,
            )
        grant = self._start_attempt(connection, self._row(connection, row.id), spec, now)
        return Claim(run=run_of(self._row(connection, row.id)), grant=grant)

    def _skip_overlap(self, connection: Transaction, row: Record, plan: RunPlan, now: datetime) -> Skip:
        message = f"run {row.id} of {row.job} is active"
        if plan.scheduled_for is not None:
            outcome = FireOutcome.SKIPPED_OVERLAP
            runs.insert_fire(connection, row.job, plan.scheduled_for, outcome, run_id=None, reason=message, now=now)
            totals.add(connection, row.job, [totals.count(FIRES, outcome=outcome)])
            totals.touch(connection, row.job)
        recorded = plan.scheduled_for is not None
        return Skip(FireOutcome.SKIPPED_OVERLAP, ExitCode.SKIPPED_OVERLAP, message, row.id, recorded=recorded)

    def _active_beside(self, connection: Transaction, row: Record, now: datetime) -> str | None:
        others = (other for other in runs.active_runs(connection, row.job) if other.id != row.id)
        return next((other.id for other in others if self._is_alive(other, now)), None)

    def _end_lost(self, connection: Transaction, row: Record, now: datetime, *, retry: bool) -> RunStatus:
        detail = "the lease ended, or the process that held it is gone"
        outcome = Outcome(RunStatus.LOST, Reason.LEASE, detail, retry=retry)
        return end_attempt(connection, row, outcome, now=now, keep_lease=False)

    def _is_alive(self, row: Record, now: datetime) -> bool:
        if row.lease_expires_at is None or row.lease_expires_at <= to_micros(now):
            return False
        owner = owner_of(row.owner)
        return owner is None or not self._is_gone(owner)

    def _held(self, connection: Transaction, grant: LeaseGrant) -> Record:
        row = self._row(connection, grant.run_id)
        if row.lease_token != grant.token:
            raise LeaseLost(f"attempt {grant.attempt} no longer holds run {grant.run_id}")
        return row

    def _row(self, connection: Transaction, run_id: str) -> Record:
        row = runs.run_row(connection, run_id)
        if row is None:
            raise NotFound(f"there is no run {run_id}; `taskpilot runs list` shows them")
        return row


def _trace_id(traceparent: str | None) -> str:
    """The caller's trace (W3C Trace Context, `00-<trace id>-<span id>-<flags>`), or a new one."""
    return os.urandom(16).hex() if traceparent is None else traceparent.split("-")[1]
