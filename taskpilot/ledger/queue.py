"""The queue of buffered fires and queued runs, and the limit of concurrent runs."""

from collections.abc import Callable, Mapping
from datetime import datetime
from random import Random

from taskpilot.domain.fires import Pause, StartOrder
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Outcome, RunStatus
from taskpilot.domain.specs import Retry
from taskpilot.domain.times import BootTime, boot_time, from_micros, to_micros, utc_iso
from taskpilot.ledger.admission import IsGone, active_job_runs, holds_lease
from taskpilot.ledger.claims import Definitions
from taskpilot.ledger.due_policy import OVERLAP, start_deadline_passed, start_deadline_reason
from taskpilot.ledger.finish_attempt import backoff, end_attempt, overtaken_by
from taskpilot.ledger.record_outcome import close_waiting
from taskpilot.store import fires, runs, schedules
from taskpilot.store.database import Record, Store, Transaction
from taskpilot.store.records import reason_of


class Queue:
    """Takes fires and runs out of the queue that may start now."""

    def __init__(
        self,
        store: Store,
        *,
        is_gone: IsGone,
        now: Callable[[], datetime],
        boot: Callable[[], BootTime] = boot_time,
        places: int,
        random: Random | None = None,
    ) -> None:
        self._store = store
        self._is_gone = is_gone
        self._now = now
        self._boot = boot
        self._places = places
        self._random = random or Random()  # noqa: S311  jitter is no secret

    def take(self, jobs: Definitions, *, scheduler: str) -> list[StartOrder]:
        """What to start now, marked as taken; it is in the queue again after `LAUNCH` where no process started it."""
        now = self._now()
        with self._store.read() as connection:
            if not fires.anything_startable(connection, now):
                return []
        with self._store.write() as connection:
            running = [row for row in runs.all_active_runs(connection) if holds_lease(row, self._is_gone, self._boot())]
            under_way = fires.launched_jobs(connection, now)
            free = self._places - len(running) - len(under_way)
            orders: list[StartOrder] = []
            held = {*under_way, *(row.job for row in running)}
            for row in fires.startable_runs(connection, now):
                if len(orders) >= free:
                    break
                spec = jobs.specs.get(row.job)
                if row.job in held and (spec is None or not OVERLAP[spec.overlap].concurrent):
                    # Another run of its job started while this one waited for a person or its next attempt.
                    continue
                held.add(row.job)
                fires.mark_run_launched(connection, row.id, by=scheduler, now=now)
                orders.append(StartOrder(row.job, run_id=row.id))
            busy = {*active_job_runs(connection, self._is_gone, self._boot()), *held}
            self._take_fires(connection, jobs, scheduler, busy, free, orders, now)
            return orders

    def next_start(self) -> datetime | None:
        """The earliest start of the fires and runs that wait for a later time."""
        with self._store.read() as connection:
            return fires.next_start(connection, self._now())

    def requeue(self, order: StartOrder) -> None:
        """Puts an order that could not be started back into the queue, first."""
        with self._store.write() as connection:
            if order.run_id is not None:
                fires.mark_run_launched(connection, order.run_id, by=None, now=None)
            elif order.scheduled_for is not None:
                fires.mark_fire_launched(connection, order.job, order.scheduled_for, by=None, now=None)

    def close(self, order: StartOrder, outcome: FireOutcome, reason: Reason) -> bool:
        """Removes an order from the queue: its fire gets the outcome, its run fails. False where it was started meanwhile."""
        now = self._now()
        with self._store.write() as connection:
            if order.run_id is None:
                assert order.scheduled_for is not None
                return close_waiting(connection, order.job, order.scheduled_for, outcome, reason, now=now)
            row = runs.run_row(connection, order.run_id)
            if row is None or row.status != RunStatus.QUEUED or holds_lease(row, self._is_gone, self._boot()):
                return False
            end_attempt(connection, row, Outcome(RunStatus.FAILED, reason), now=now, keep_lease=False)
            return True

    def adopt(self, jobs: Definitions) -> list[str]:
        """Queues lost runs that have an attempt left, after a backoff with full jitter; returns their ids.

        A run whose job is due again before that ends as lost.
        """
        now = self._now()
        with self._store.read() as connection:
            if not runs.orphaned_runs(connection):
                return []
        with self._store.write() as connection:
            return [row.id for row in runs.orphaned_runs(connection) if self._adopt(connection, row, jobs, now)]

    def _adopt(self, connection: Transaction, row: Record, jobs: Definitions, now: datetime) -> bool:
        # The job's own delay is for attempts that failed; this process was lost.
        start = now + backoff(Retry(), row.attempts, self._random.random())
        scheduled_for = None if row.scheduled_for is None else from_micros(row.scheduled_for)
        fire = overtaken_by(jobs.specs.get(row.job), scheduled_for, start)
        if fire is None:
            runs.update_run(connection, row.id, start_after=to_micros(start))
            return True
        reason = reason_of(row).as_cause_of(ReasonCode.OVERTAKEN, fire=utc_iso(fire))
        end_attempt(connection, row, Outcome(RunStatus.LOST, reason), now=now, keep_lease=False)
        return False

    def length(self) -> int:
        """How many fires and runs wait to start."""
        with self._store.read() as connection:
            return fires.queue_length(connection)

    def _take_fires(
        self,
        connection: Transaction,
        jobs: Definitions,
        scheduler: str,
        busy: set[str],
        free: int,
        orders: list[StartOrder],
        now: datetime,
    ) -> None:
        paused = schedules.pauses_in_force(connection)
        for row in fires.startable_fires(connection, now, each=self._places):
            fire = from_micros(row.scheduled_for)
            if row.job in jobs.loading and not jobs.knows(row.job):
                continue
            final = self._final_outcome(row.job, fire, jobs, paused, now)
            if final is not None:
                close_waiting(connection, row.job, fire, *final, now=now)
            elif len(orders) < free and (row.job not in busy or OVERLAP[jobs.specs[row.job].overlap].concurrent):
                fires.mark_fire_launched(connection, row.job, fire, by=scheduler, now=now)
                orders.append(StartOrder(row.job, scheduled_for=fire))
                busy.add(row.job)

    @staticmethod
    def _final_outcome(
        job: str, fire: datetime, jobs: Definitions, paused: Mapping[str, Pause], now: datetime
    ) -> tuple[FireOutcome, Reason] | None:
        """The final outcome of a waiting fire that may no longer start; None where it may."""
        spec = jobs.specs.get(job)
        if spec is None and job in jobs.broken:
            return FireOutcome.BLOCKED_CONFIG, Reason(ReasonCode.JOB_BROKEN, {"error": jobs.broken[job]})
        if spec is None:
            return FireOutcome.MISSED, Reason(ReasonCode.JOB_REMOVED)
        if job in paused:
            return FireOutcome.PAUSED, paused[job].reason()
        if start_deadline_passed(spec, fire, now):
            return FireOutcome.MISSED, start_deadline_reason(spec)
        return None
