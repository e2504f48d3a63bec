"""Claims due fires: records their outcomes and moves the cursors in one transaction."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.fires import LAUNCH, PUNCTUAL, ScheduleInForce
from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome
from taskpilot.domain.specs import NEXT_FIRE, JobSpec
from taskpilot.domain.times import BootTime, boot_time, utc_iso
from taskpilot.ledger.admission import IsGone, active_job_runs
from taskpilot.ledger.claims import Claimed, Definitions
from taskpilot.ledger.due_policy import OVERLAP, Due, JobSnapshot, Judgement, Stagger, judge
from taskpilot.ledger.expiry import expire_for_fire
from taskpilot.ledger.finish_attempt import ask_to_end
from taskpilot.ledger.record_outcome import (
    TICK,
    Likeness,
    close_open,
    close_paused,
    close_waiting,
    due_of,
    record,
    sum_of,
    window_of,
    without_taken,
)
from taskpilot.ledger.wrong_clock import ahead_of, set_back
from taskpilot.store import fires, runs, schedules
from taskpilot.store.database import Store, Transaction
from taskpilot.store.schedulers import awake_schedulers


def begin_and_end_schedules(store: Store, jobs: Definitions, *, now: datetime) -> list[str]:
    """Records new, changed and removed schedules; returns the jobs that are gone from the folder.

    A new job is due from the time at which its file was written, where that is not longer ago than a fire may be late: to load a file
    takes a moment. A changed schedule never catches up: the open fires of the old one are missed.
    """
    begin = max(now - PUNCTUAL, min(jobs.changed_at or now, now))
    with store.read() as connection:
        known = schedules.schedules_in_force(connection)
    texts = {job: spec.schedule.describe() for job, spec in jobs.specs.items() if spec.schedule is not None}
    unclear = jobs.broken.keys() | jobs.loading
    ended = [job for job, force in known.items() if job not in unclear and texts.get(job) != force.schedule]
    new = {job: text for job, text in texts.items() if job not in known or job in ended}
    if ended or new:
        with store.write() as connection:
            current = schedules.schedules_in_force(connection)
            for job in ended:
                # Another scheduler may have done the same meanwhile.
                if current.get(job) == known[job]:
                    end_schedule(connection, known[job], jobs.changed_at, now)
                    del current[job]
            schedules.begin_schedules(connection, {job: text for job, text in new.items() if job not in current}, begin)
    return [job for job in known if not jobs.knows(job) and job not in jobs.loading]


def end_schedule(connection: Transaction, old: ScheduleInForce, changed_at: datetime | None, now: datetime) -> None:
    """Moves a schedule to the past as of the change; its open fires are missed."""
    assert old.cursor is not None
    until = min(max(changed_at or now, old.cursor), now)
    close_open(connection, old, until, FireOutcome.MISSED, Reason(ReasonCode.SCHEDULE_CHANGED, {"schedule": old.schedule}), now)
    schedules.end_schedule(connection, old, until=until)


NO_SCHEDULER: Final[Mapping[str, Fact]] = {"unseen": "nobody"}
_NOT_CLAIMED: Final = Reason(ReasonCode.NOBODY_CLAIMED)


class Fires:
    """Transactions over fires and cursors. The first process to claim a fire records its outcome; later ones find nothing due."""

    def __init__(self, store: Store, *, is_gone: IsGone, now: Callable[[], datetime], boot: Callable[[], BootTime] = boot_time) -> None:
        self._store = store
        self._is_gone = is_gone
        self._now = now
        self._boot = boot

    def claim_due(
        self,
        jobs: Definitions,
        *,
        only: Collection[str] | None = None,
        asleep_since: datetime | None = None,
        failing: tuple[datetime, str] | None = None,
    ) -> Claimed:
        """Buffers or closes every due fire. Raises StoreBusy or StoreError with nothing claimed.

        `only`: the jobs to check, all where it is None. `asleep_since`: since when no scheduler was awake, where none was.
        `failing`: since when this scheduler could not do its work, and the error, where a fire is late for that reason.
        """
        now = self._now()
        with self._store.read() as connection:
            seen = schedules.schedules_in_force(connection, only)
        if ahead := ahead_of(seen, jobs, now):
            with self._store.write() as connection:
                if schedules.unmoved(connection, {job: seen[job] for job in ahead}) == ahead.keys():
                    set_back(connection, ahead, seen, now)
                seen = schedules.schedules_in_force(connection, only)
        alike: dict[Likeness, Due] = {}
        found = {job: due_of(force, jobs.specs.get(job), now, alike) for job, force in seen.items() if jobs.knows(job)}
        found = {job: due for job, due in found.items() if not due.is_empty}
        if not found:
            return Claimed()
        with self._store.write() as connection:
            # Where a cursor moved meanwhile, another scheduler has claimed these.
            unmoved = schedules.unmoved(connection, {job: seen[job] for job in found})
            mine = {job: due for job, due in found.items() if job in unmoved}
            if not mine:
                return Claimed()
            return self._claim(connection, without_taken(connection, mine), seen, jobs, _not_met(asleep_since, failing, now), now)

    def follow_command(self, connection: Transaction, spec: JobSpec, claimed: datetime) -> None:
        """Without a running scheduler: fires before the one that a command claims are missed, or coalesced into it."""
        now = self._now()
        if spec.schedule is None or awake_schedulers(connection, self._boot()):
            return
        force = schedules.schedules_in_force(connection, [spec.name]).get(spec.name)
        if force is None or force.schedule != spec.schedule.describe():
            if force is not None:
                end_schedule(connection, force, None, now)
            later = spec.schedule.next_after(claimed)
            # A person may claim a fire of long ago: those since then are not due.
            begin = claimed if claimed <= now and (later is None or later > now) else now
            schedules.begin_schedules(connection, {spec.name: spec.schedule.describe()}, begin)
        # A person may claim a future fire: those before it stay due at their times.
        elif claimed <= now and spec.schedule.next_after(claimed - TICK) == claimed:
            stale = now - window_of(spec, now)
            close_open(connection, force, min(stale, claimed - TICK), FireOutcome.MISSED, _NOT_CLAIMED, now)
            covered, reason = FireOutcome.MISSED, _NOT_CLAIMED
            if spec.catch_up != "skip":
                covered, reason = FireOutcome.COALESCED, Reason(ReasonCode.CAUGHT_UP_BY, {"fire": utc_iso(claimed), **NO_SCHEDULER})
            close_open(connection, force, claimed - TICK, covered, reason, now)
            schedules.move_cursors(connection, [spec.name], max(claimed, force.cursor or claimed))

    def close_missed(self, jobs: Definitions) -> Claimed:
        """Without a running scheduler: closes the fires whose catch-up window has passed."""
        now = self._now()
        with self._store.read() as connection:
            if awake_schedulers(connection, self._boot()):
                return Claimed()
            seen = schedules.schedules_in_force(connection, jobs.specs)
            paused = schedules.pauses_in_force(connection)
        closed: list[Claimed] = []
        for job, force in seen.items():
            spec = jobs.specs[job]
            until = now - max(window_of(spec, now), PUNCTUAL)
            if spec.schedule is None or force.cursor is None or until <= force.cursor:
                continue
            with self._store.write() as connection:
                if job in paused:
                    closed.append(close_paused(connection, force, paused[job], until, now, not_met=NO_SCHEDULER))
                elif number := close_open(connection, force, until, FireOutcome.MISSED, _NOT_CLAIMED, now):
                    closed.append(Claimed({FireOutcome.MISSED: number}, frozenset({job})))
        closed.append(self._close_abandoned(jobs, now))
        return sum_of(closed)

    def _close_abandoned(self, jobs: Definitions, now: datetime) -> Claimed:
        """Closes buffered fires whose waiting command is gone: it would have started them by now.

        Not before its time: another command may claim the fire then.
        """
        with self._store.read() as connection:
            if not fires.waiting_fires(connection, jobs.specs):
                return Claimed()
        closed: list[Claimed] = []
        with self._store.write() as connection:
            active = active_job_runs(connection, self._is_gone, self._boot())
            for job, waiting in fires.waiting_fires(connection, jobs.specs).items():
                for fire in waiting if job not in active else ():
                    recorded = fires.get_fire(connection, job, fire)
                    if recorded is not None and max(recorded.recorded_at, fire) <= now - LAUNCH:
                        close_waiting(connection, job, fire, FireOutcome.MISSED, Reason(ReasonCode.COMMAND_GONE), now=now)
                        closed.append(Claimed({FireOutcome.MISSED: 1}, frozenset({job})))
        return sum_of(closed)

    def _claim(
        self,
        connection: Transaction,
        due: Mapping[str, Due],
        seen: Mapping[str, ScheduleInForce],
        jobs: Definitions,
        not_met: Mapping[str, Fact],
        now: datetime,
    ) -> Claimed:
        paused = schedules.pauses_in_force(connection)
        for job in due.keys() & jobs.specs.keys() - paused.keys():
            if jobs.specs[job].approval_timeout == NEXT_FIRE:
                expire_for_fire(connection, job, now=now)
        active = active_job_runs(connection, self._is_gone, self._boot())
        waiting, asking = fires.waiting_fires(connection), runs.waiting_runs(connection)
        stagger = Stagger(now)
        ordinary = JobSnapshot(not_met=not_met, deployment=self._store.deployment)
        others = jobs.broken.keys() | active.keys() | waiting.keys() | asking.keys()
        judged: dict[str, Judgement] = {}
        closed: list[Claimed] = []
        for job, one in due.items():
            if job in paused:
                closed.append(close_paused(connection, seen[job], paused[job], now, now, not_met=not_met))
                continue
            snapshot = ordinary
            if job in others:
                queue = tuple(waiting.get(job, ()))
                snapshot = replace(
                    ordinary, broken=jobs.broken.get(job), active_run=active.get(job), waiting_run=asking.get(job), waiting=queue
                )
            spec = jobs.specs.get(job)
            judged[job] = judge(one, spec, snapshot, now=now, stagger=stagger)
            if judged[job].ends_active and spec is not None:
                ask_to_end(connection, active[job], grace=OVERLAP[spec.overlap].cancel_grace or timedelta(0), now=now)
        return sum_of([record(connection, judged, now), *closed])


def _not_met(asleep_since: datetime | None, failing: tuple[datetime, str] | None, now: datetime) -> Mapping[str, Fact]:
    """Why the due fires were not claimed at their times."""
    if asleep_since is not None:
        return {"unseen": "asleep", "asleep_since": utc_iso(asleep_since), "asleep_until": utc_iso(now)}
    if failing is not None:
        return {"unseen": "failing", "failing_since": utc_iso(failing[0]), "scheduler_error": failing[1]}
    return {"unseen": "late"}
