"""Claims runs, grants leases for their attempts and records their ends."""

import os
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from taskpilot.domain.errors import LeaseLost, NotFound, TransitionRefused
from taskpilot.domain.fires import Fire
from taskpilot.domain.ids import new_id
from taskpilot.domain.instruments import ATTEMPTS, FIRE_LATENESS, FIRES
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, LeaseGrant, Outcome, Owner, Run, RunStatus
from taskpilot.domain.specs import NEXT_FIRE, JobSpec
from taskpilot.domain.times import BootTime, boot_time, from_micros, to_micros, utc_iso
from taskpilot.ledger.admission import admit, check_free, holds_lease, is_active
from taskpilot.ledger.claims import Claim, Hold, RunPlan, Skip
from taskpilot.ledger.due_policy import OVERLAP
from taskpilot.ledger.expiry import expire_due, follow_answers, requeue
from taskpilot.ledger.finish_attempt import BY_PERSON, end_attempt
from taskpilot.ledger.fires import Fires
from taskpilot.store import fires, runs, tasks, totals
from taskpilot.store.database import Record, Store, Transaction
from taskpilot.store.records import dumps, reason_columns, reason_of, run_of


class Ledger:
    """Transactions over fires, runs and leases. Only the process that holds a run's lease may write to the run."""

    def __init__(
        self,
        store: Store,
        *,
        owner: Owner,
        is_gone: Callable[[Owner], bool],
        lease_seconds: float,
        now: Callable[[], datetime],
        boot: Callable[[], BootTime] = boot_time,
    ) -> None:
        self._store = store
        self._owner = owner
        self._is_gone = is_gone
        self._lease = timedelta(seconds=lease_seconds)
        self._now = now
        self._boot = boot
        self._fires = Fires(store, is_gone=is_gone, now=now, boot=boot)

    def claim(self, plan: RunPlan) -> Claim | Skip | Hold:
        """Starts the planned run, or continues the lost run of its fire, or returns why it does neither; one transaction.

        After a Hold the command that waits, or the server that has the fire in its queue, tries again later.
        """
        now = self._now()
        with self._store.write() as connection:
            due = plan.scheduled_for
            fire = None if due is None else fires.fire_row(connection, plan.spec.name, due)
            if fire is not None and fire.outcome != FireOutcome.BUFFERED:
                return self._continue_fire(connection, fire, plan.spec, now)
            admission = admit(connection, plan, queued=fire is not None, is_gone=self._is_gone, now=now, boot=self._boot())
            if admission.refusal is not None:
                return admission.refusal
            for row in admission.dead:
                self._end_lost(connection, row, now, retry=False)
            claim = self._start(connection, plan, now)
            if due is not None:
                self._fires.follow_command(connection, plan.spec, due)
            return claim

    def start_queued(self, plan: RunPlan) -> Claim | None:
        """The next attempt of a queued run that no process holds; None where another process started it, or it has ended."""
        now = self._now()
        with self._store.write() as connection:
            row = self._row(connection, plan.run_id)
            if row.status != RunStatus.QUEUED or self._is_alive(row):
                return None
            runs.update_run(connection, row.id, model=plan.model, parameters=dumps(dict(plan.parameters)))
            grant = self._start_attempt(connection, row, plan.spec, now)
            return Claim(run=run_of(self._row(connection, row.id)), grant=grant)

    def enqueue(self, plan: RunPlan) -> Run:
        """Adds a new run to the queue of the server. Raises TransitionRefused."""
        now = self._now()
        with self._store.write() as connection:
            check_free(connection, plan.spec, is_gone=self._is_gone, boot=self._boot())
            self._insert(connection, plan, now, start_after=to_micros(now))
            return run_of(self._row(connection, plan.run_id))

    def requeue_waiting(self, run_id: str) -> bool:
        """Adds a run that waited for a person to the queue of the server; False where it does not wait."""
        now = self._now()
        with self._store.write() as connection:
            row = self._row(connection, run_id)
            if row.status != RunStatus.WAITING:
                return False
            requeue(connection, row, now)
            return True

    def expire(self) -> bool:
        """Ends the questions that nobody answered in time; whether anything was due."""
        now = self._now()
        with self._store.read() as connection:
            # A server asks every second: the common case takes no lock.
            due = tasks.next_expiry(connection)
        if due is None or due > to_micros(now):
            return False
        with self._store.write() as connection:
            return expire_due(connection, now=now, boot=self._boot())

    def next_attempt(self, grant: LeaseGrant, spec: JobSpec) -> LeaseGrant:
        """The lease of the next attempt, for the supervisor that holds the run. Raises LeaseLost."""
        now = self._now()
        with self._store.write() as connection:
            row = self._held(connection, grant)
            return self._start_attempt(connection, row, spec, now)

    def resume(self, plan: RunPlan) -> Claim:
        """A further attempt of a run that waits, failed, or has a task approved since; with the job's current ceilings.

        Raises TransitionRefused.
        """
        now, run_id = self._now(), plan.run_id
        with self._store.write() as connection:
            self._reopen(connection, plan, now)
            grant = self._start_attempt(connection, self._row(connection, run_id), plan.spec, now)
            return Claim(run=run_of(self._row(connection, run_id)), grant=grant)

    def enqueue_resume(self, plan: RunPlan) -> Run:
        """The same as `resume`, by the server: adds the run to its queue. Raises TransitionRefused."""
        now, run_id = self._now(), plan.run_id
        with self._store.write() as connection:
            self._reopen(connection, plan, now)
            queued = {"status": RunStatus.QUEUED, "start_after": to_micros(now), "launched_at": None, "launched_by": None}
            runs.update_run(connection, run_id, **queued)
            totals.mark_dirty(connection, plan.spec.name)
            return run_of(self._row(connection, run_id))

    def _reopen(self, connection: Transaction, plan: RunPlan, now: datetime) -> None:
        """Prepares a run for a further attempt. Raises TransitionRefused."""
        run_id, spec = plan.run_id, plan.spec
        row = self._row(connection, run_id)
        status = RunStatus(row.status)
        if status in (RunStatus.RUNNING, RunStatus.QUEUED):
            if self._is_alive(row):
                raise TransitionRefused(f"run {run_id} is {status} and its supervisor is alive", hint=f"taskpilot runs show {run_id}")
            self._end_lost(connection, row, now, retry=True)
        elif not tasks.may_resume(connection, run_id, status):
            raise TransitionRefused(f"run {run_id} is {status}: there is nothing to resume", hint=f"taskpilot run {row.job}")
        if not OVERLAP[spec.overlap].concurrent and (other := self._other_active(connection, row)) is not None:
            hint = f"when it has ended: taskpilot runs resume {run_id}"
            raise TransitionRefused(f"run {other} of {row.job} is active", hint=hint)
        runs.update_run(
            connection,
            run_id,
            model=plan.model,
            ended_at=None,
            cancel_requested_at=None,
            cancel_grace_micros=None,
            deadline_micros=spec.deadline // timedelta(microseconds=1),
            attempts_allowed=max(row.attempts_allowed, row.attempts + 1),
            **plan.ceilings,
        )

    def renew(self, grant: LeaseGrant, *, active_seconds: float) -> bool:
        """Renews the lease and records the active time; False where another process holds the run."""
        expires = self._boot() + self._lease
        with self._store.write() as connection:
            return runs.renew_lease(connection, grant, expires_at=expires, active_micros=round(active_seconds * 1_000_000))

    def end(self, grant: LeaseGrant, outcome: Outcome, *, active_seconds: float, keep_lease: bool) -> RunStatus:
        """Records the attempt's end and the run's state after it. Raises LeaseLost where the grant no longer holds, or it ended already."""
        now = self._now()
        with self._store.write() as connection:
            row = self._held(connection, grant)
            if runs.open_attempt(connection, grant.run_id) is None:
                raise LeaseLost(f"attempt {grant.attempt} of run {grant.run_id} has an end already")
            runs.set_active(connection, grant.run_id, grant.attempt_id, round(active_seconds * 1_000_000))
            status = end_attempt(connection, row, outcome, now=now, keep_lease=keep_lease)
            if status is RunStatus.WAITING and outcome.reason.code is ReasonCode.APPROVAL:
                # What it asks may have been answered, or have expired, while other parts of it ran.
                expire_due(connection, now=now, boot=self._boot(), job=row.job)
                if tasks.expired_of(connection, row.id) or tasks.has_unused_approval(connection, row.id):
                    follow_answers(connection, row.id, now=now, boot=self._boot())
                status = RunStatus(self._row(connection, row.id).status)
            return status

    def give_up(self, grant: LeaseGrant, outcome: Outcome) -> None:
        """Ends a queued run between two attempts; this supervisor makes no further one."""
        now = self._now()
        with self._store.write() as connection:
            row = self._held(connection, grant)
            end_attempt(connection, row, outcome, now=now, keep_lease=False)

    def cancel(self, run_id: str) -> RunStatus:
        """Asks the supervisor of a run to end it, or ends a run without a process at once; returns the state before."""
        now = self._now()
        with self._store.write() as connection:
            row = self._row(connection, run_id)
            status = RunStatus(row.status)
            if status in (RunStatus.RUNNING, RunStatus.QUEUED) and self._is_alive(row):
                runs.update_run(connection, run_id, cancel_requested_at=to_micros(now))
            elif status in (RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.WAITING):
                end_attempt(connection, row, BY_PERSON, now=now, keep_lease=False)
            else:
                raise TransitionRefused(f"run {run_id} is {status}: there is nothing to cancel")
            return status

    def reap(self) -> list[Run]:
        """Ends the attempts of all runs whose lease ended or whose process is gone; returns those runs."""
        now = self._now()
        with self._store.read() as connection:
            if not self._dead(connection):
                # A server asks every few seconds: the common case takes no lock.
                return []
        with self._store.write() as connection:
            dead = self._dead(connection)
            for row in dead:
                self._end_lost(connection, row, now, retry=True)
            return [run_of(self._row(connection, row.id)) for row in dead]

    def _dead(self, connection: Transaction) -> list[Record]:
        rows = runs.all_active_runs(connection)
        return [row for row in rows if row.lease_token is not None and not self._is_alive(row)]

    def _start(self, connection: Transaction, plan: RunPlan, now: datetime) -> Claim:
        self._insert(connection, plan, now, start_after=None)
        name, when = plan.spec.name, plan.scheduled_for
        if when is not None:
            started = FireOutcome.STARTED
            if not fires.settle_fire(connection, name, when, started, now=now, run_id=plan.run_id):
                fires.insert_fires(connection, [Fire(name, when, started, plan.run_id, NO_REASON, now)])
            late = max(0, to_micros(now) - to_micros(when))
            totals.add(connection, name, [totals.count(FIRES, outcome=started), *totals.observed(FIRE_LATENESS, late)])
            totals.set_state(connection, name, last_scheduled=to_micros(when))
        grant = self._start_attempt(connection, self._row(connection, plan.run_id), plan.spec, now)
        return Claim(run=run_of(self._row(connection, plan.run_id)), grant=grant)

    def _insert(self, connection: Transaction, plan: RunPlan, now: datetime, *, start_after: int | None) -> None:
        spec = plan.spec
        state = runs.job_state_row(connection, spec.name)
        previous = runs.previous_fire(connection, spec.name, plan.scheduled_for)
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
                "trace_id": _trace_id(plan.traceparent),
                "root_span_id": os.urandom(8).hex(),
                "traceparent": plan.traceparent,
                "created_at": to_micros(now),
                "start_after": start_after,
                "attempts_allowed": spec.retry.attempts,
                "pause_after_failures": spec.pause_on_failure,
                "asks_until_fire": int(spec.approval_timeout == NEXT_FIRE),
                "deadline_micros": spec.deadline // timedelta(microseconds=1),
                **plan.ceilings,
            },
        )

    def _start_attempt(self, connection: Transaction, row: Record, spec: JobSpec, now: datetime) -> LeaseGrant:
        grant = LeaseGrant(
            run_id=row.id, attempt_id=new_id(), attempt=row.attempts + 1, token=uuid.uuid4().hex, expires_at=self._boot() + self._lease
        )
        runs.insert_attempt(connection, grant, started_at=now, file_digest=spec.file_digest)
        started = to_micros(now) if row.started_at is None else row.started_at
        state = {"status": RunStatus.RUNNING, **reason_columns(NO_REASON), "attempts": grant.attempt, "started_at": started}
        out_of_queue = dict.fromkeys(("start_after", "launched_at", "launched_by"))
        runs.grant_lease(connection, grant, self._owner, **state, **out_of_queue)
        totals.add(connection, row.job, [totals.count(ATTEMPTS)])
        totals.set_state(connection, row.job, last_start=to_micros(now))
        return grant

    def _continue_fire(self, connection: Transaction, fire: Record, spec: JobSpec, now: datetime) -> Claim | Skip:
        row = runs.run_row(connection, fire.run_id) if fire.run_id else None
        when = utc_iso(from_micros(fire.scheduled_for))
        outcome = FireOutcome(fire.outcome)
        if row is None:
            reason = reason_of(fire).as_cause_of(ReasonCode.ALREADY_CLAIMED, scheduled_for=when, outcome=outcome.value)
            return Skip(outcome, reason)
        if row.status not in (RunStatus.QUEUED, RunStatus.RUNNING) or is_active(connection, row, self._is_gone, self._boot()):
            taken = {"scheduled_for": when, "outcome": outcome.value, "run_id": row.id, "run_status": row.status}
            return Skip(outcome, Reason(ReasonCode.ALREADY_CLAIMED, taken))
        if not OVERLAP[spec.overlap].concurrent and (other := self._other_active(connection, row)) is not None:
            return Skip(outcome, Reason(ReasonCode.RUN_ACTIVE, {"run_id": other, "lost_run_id": row.id}))
        if self._end_lost(connection, row, now, retry=True) is not RunStatus.QUEUED:
            return Skip(outcome, Reason(ReasonCode.NO_ATTEMPT_LEFT, {"fire": when, "run_id": row.id}))
        grant = self._start_attempt(connection, self._row(connection, row.id), spec, now)
        return Claim(run=run_of(self._row(connection, row.id)), grant=grant)

    def _other_active(self, connection: Transaction, row: Record) -> str | None:
        others = (other for other in runs.active_runs(connection, row.job) if other.id != row.id)
        return next((other.id for other in others if is_active(connection, other, self._is_gone, self._boot())), None)

    def _end_lost(self, connection: Transaction, row: Record, now: datetime, *, retry: bool) -> RunStatus:
        outcome = Outcome(RunStatus.LOST, Reason(ReasonCode.LEASE), retry=retry)
        return end_attempt(connection, row, outcome, now=now, keep_lease=False)

    def _is_alive(self, row: Record) -> bool:
        return holds_lease(row, self._is_gone, self._boot())

    def _held(self, connection: Transaction, grant: LeaseGrant) -> Record:
        row = self._row(connection, grant.run_id)
        if row.lease_token != grant.token:
            raise LeaseLost(f"attempt {grant.attempt} no longer holds run {grant.run_id}")
        return row

    def _row(self, connection: Transaction, run_id: str) -> Record:
        row = runs.run_row(connection, run_id)
        if row is None:
            raise NotFound(f"there is no run {run_id}", hint="taskpilot runs list")
        return row


def _trace_id(traceparent: str | None) -> str:
    """The caller's trace (W3C Trace Context, `00-<trace id>-<span id>-<flags>`), or a new one."""
    return os.urandom(16).hex() if traceparent is None else traceparent.split("-")[1]
