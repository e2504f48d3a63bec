"""Decides whether a planned run may start now: by leases, pause, fire and active runs of the job."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from taskpilot.domain.errors import TransitionRefused
from taskpilot.domain.fires import Fire
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Owner, RunStatus
from taskpilot.domain.specs import NEXT_FIRE, JobSpec
from taskpilot.domain.times import BootTime, utc_iso
from taskpilot.ledger.claims import Hold, RunPlan, Skip
from taskpilot.ledger.due_policy import OVERLAP, busy_reason, start_deadline_passed, start_deadline_reason, waiting_refusal
from taskpilot.ledger.expiry import expire_due, expire_for_fire
from taskpilot.ledger.finish_attempt import ask_to_end
from taskpilot.ledger.record_outcome import close_waiting, count_fire
from taskpilot.messages.times import paused
from taskpilot.schedules.schedule import schedule_of
from taskpilot.store import fires, runs, schedules
from taskpilot.store.database import Record, Transaction
from taskpilot.store.records import owner_of
from taskpilot.store.schedulers import awake_schedulers

IsGone = Callable[[Owner], bool]
"""Whether the process that holds a lease has ended; False where that is unknown."""


def holds_lease(row: Record, is_gone: IsGone, boot: BootTime) -> bool:
    """True where a living process holds the run. A lease of another boot is over: SQLite's log is shared memory of one machine."""
    if row.lease_token is None or row.lease_expires_at is None or row.lease_expires_at <= boot.micros:
        return False
    owner = owner_of(row.owner)
    return owner is None or (owner.boot_id == boot.boot_id and not is_gone(owner))


def is_active(connection: Transaction, row: Record, is_gone: IsGone, boot: BootTime) -> bool:
    """True where a living process holds the run, or it is in the queue of a running scheduler."""
    if holds_lease(row, is_gone, boot):
        return True
    in_queue = row.status == RunStatus.QUEUED and row.lease_token is None and row.start_after is not None
    return in_queue and bool(awake_schedulers(connection, boot))


def active_job_runs(connection: Transaction, is_gone: IsGone, boot: BootTime) -> dict[str, str]:
    """One active run of each job that has any."""
    return {row.job: row.id for row in runs.all_active_runs(connection) if is_active(connection, row, is_gone, boot)}


@dataclass(frozen=True, slots=True)
class Admission:
    """Why a plan may not start, if it may not, and the lost runs that must be ended before it starts."""

    refusal: Skip | Hold | None
    dead: tuple[Record, ...] = ()


def admit(connection: Transaction, plan: RunPlan, *, queued: bool, is_gone: IsGone, now: datetime, boot: BootTime) -> Admission:
    """Decides about a plan whose fire, if it has one, has no row yet or is in the queue (`queued`).

    A fire that is refused gets its final outcome here; one that may wait for its turn is put into the queue.
    """
    spec = plan.spec
    when = plan.scheduled_for
    # A fire in the queue has no outcome yet. A gap may surround it where the clock was set back and forward again.
    gap = None if when is None or queued else fires.gap_at(connection, spec.name, when)
    if gap is not None and when is not None and schedule_of(gap.schedule).is_fire(when):
        reason = gap.reason.as_cause_of(ReasonCode.ALREADY_CLAIMED, scheduled_for=utc_iso(when), outcome=gap.outcome.value)
        return Admission(Skip(gap.outcome, reason))
    pause = schedules.pauses_in_force(connection).get(spec.name)
    if pause is not None:
        return Admission(_skip(connection, plan, FireOutcome.PAUSED, pause.reason(), now))
    if when is not None and start_deadline_passed(spec, when, now):
        return Admission(_skip(connection, plan, FireOutcome.MISSED, start_deadline_reason(spec), now))
    if when is not None:
        expire_due(connection, now=now, boot=boot, job=spec.name)
        if spec.approval_timeout == NEXT_FIRE:
            expire_for_fire(connection, spec.name, now=now)
    rows = runs.active_runs(connection, spec.name)
    busy = next((row for row in rows if is_active(connection, row, is_gone, boot)), None)
    dead = tuple(row for row in rows if not is_active(connection, row, is_gone, boot))
    asking = None if when is None or busy is not None else runs.waiting_runs(connection, spec.name).get(spec.name)
    if asking is not None and (refusal := waiting_refusal(spec, asking)) is not None:
        return Admission(_skip(connection, plan, FireOutcome.SKIPPED_OVERLAP, refusal, now), dead)
    if busy is None or OVERLAP[spec.overlap].concurrent:
        return Admission(None, dead)
    return Admission(_behind(connection, plan, busy, now, queued=queued), dead)


def check_free(connection: Transaction, spec: JobSpec, *, is_gone: IsGone, boot: BootTime) -> None:
    """Raises TransitionRefused where the job is paused, or has an active run and no other may run at the same time."""
    pause = schedules.pauses_in_force(connection).get(spec.name)
    if pause is not None:
        raise TransitionRefused(f"job {spec.name} is {paused(pause)}", hint=f"taskpilot jobs resume {spec.name}")
    busy = next((row for row in runs.active_runs(connection, spec.name) if is_active(connection, row, is_gone, boot)), None)
    if busy is not None and not OVERLAP[spec.overlap].concurrent:
        hint = f"taskpilot runs cancel {busy.id}"
        raise TransitionRefused(f"run {busy.id} of {spec.name} is {busy.status}, and no other may run at the same time", hint=hint)


def _behind(connection: Transaction, plan: RunPlan, busy: Record, now: datetime, *, queued: bool) -> Skip | Hold:
    spec, when, policy = plan.spec, plan.scheduled_for, OVERLAP[plan.spec.overlap]
    waiting = fires.waiting_fires(connection, [spec.name]).get(spec.name, [])
    if not queued:
        # A run without a fire does not join the queue, so the queue does not count.
        refusal = policy.refusal(busy.id, waiting if when is not None else ())
        if refusal is not None:
            return _skip(connection, plan, FireOutcome.SKIPPED_OVERLAP, refusal, now)
    reason = busy_reason(busy.id, waiting)
    if when is not None and not queued:
        fires.insert_fires(connection, [Fire(spec.name, when, FireOutcome.BUFFERED, None, reason, now, now)])
    if policy.cancel_grace is not None:
        for fire in waiting:
            if when is not None and fire < when:
                replaced = Reason(ReasonCode.REPLACED, {"fire": utc_iso(when)})
                close_waiting(connection, spec.name, fire, FireOutcome.SKIPPED_OVERLAP, replaced, now=now)
        ask_to_end(connection, busy.id, grace=policy.cancel_grace, now=now)
    return Hold(reason)


def _skip(connection: Transaction, plan: RunPlan, outcome: FireOutcome, reason: Reason, now: datetime) -> Skip:
    """Records the outcome of the fire, where the plan has one, and returns the skip."""
    name, when = plan.spec.name, plan.scheduled_for
    if when is not None and not close_waiting(connection, name, when, outcome, reason, now=now):
        fires.insert_fires(connection, [Fire(name, when, outcome, None, reason, now)])
        count_fire(connection, name, outcome)
    return Skip(outcome, reason)
