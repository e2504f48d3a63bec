"""A night that was: jobs in every state, put into a store without running anything."""

from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.fires import ClockEvent, ClockEventKind, Fire, Gap, SchedulerState
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.domain.times import boot_time, to_micros
from taskpilot.process.owner import current_owner
from taskpilot.schedules.schedule import every
from taskpilot.store import fires, schedulers, schedules
from taskpilot.store.database import Store
from taskpilot.store.job_checks import JobCheck, replace_job_checks
from taskpilot.store.tables import job_state
from tests import records

DAY: Final = timedelta(days=1)
NO_MODEL: Final = Reason(ReasonCode.CONFIGURATION, {"error": "no model is configured. No token was spent.", "hint": "set OPENAI_API_KEY"})
BROKEN: Final = Reason(ReasonCode.JOB_BROKEN, {"error": "jobs/broken.py:3: SyntaxError: invalid syntax"})
_RUNS: Final = {
    "succeeded": (RunStatus.SUCCEEDED, NO_REASON),
    "failed": (RunStatus.FAILED, records.raised("no inbox: the file inbox.jsonl is not there, and the mail server did not answer either")),
    "lost": (RunStatus.LOST, Reason(ReasonCode.LEASE)),
    "timed_out": (RunStatus.TIMED_OUT, Reason(ReasonCode.DEADLINE, {"deadline_seconds": 900})),
    "denied": (RunStatus.DENIED, Reason(ReasonCode.DENIED, {"tool": "shell", "policy": "no shell at night"})),
    "budget_exceeded": (
        RunStatus.BUDGET_EXCEEDED,
        Reason(ReasonCode.BUDGET, {"scope": "run", "limit": "usd", "ceiling": "1.00", "used": "0.98", "wanted": "0.05"}),
    ),
    "outcome_failed": (RunStatus.FAILED, Reason(ReasonCode.OUTCOME_FAILED, {"error": "three tickets"})),
    "waiting": (RunStatus.WAITING, Reason(ReasonCode.APPROVAL, {"tool": "send_mail", "decision_id": "x", "policy": "mail needs a yes"})),
}
STATES: Final = (*_RUNS, "blocked", "missed", "paused", "broken", "never_succeeded", "success_too_old")
"""Each is the name of a job in that state."""


class Night:
    """Plants jobs that are due once a day, a few hours before `now`."""

    def __init__(self, store: Store, now: datetime) -> None:
        self.store = store
        self.now = now
        self.fired = now.replace(second=0, microsecond=0) - timedelta(hours=3)
        self._checks: list[JobCheck] = []

    def plant(self, state: str, *, job: str | None = None) -> str:
        """A job in a state; gives the id of its run, if it has one."""
        name = job or state
        past = self.now - 10 * DAY
        # Its next fire is in 21 hours: it was due at `fired`, and is due then every day.
        text = every("24h", anchor=self.fired).describe()
        with self.store.write() as connection:
            schedules.begin_schedules(connection, {name: text}, past)
            schedules.move_cursors(connection, [name], self.now)
        success: datetime | None = self.fired - DAY
        run_id, check = "", NO_REASON
        if state in _RUNS:
            run_id, success = self._run(name, state)
        elif state == "blocked":
            check = NO_MODEL
            self._fire(name, FireOutcome.BLOCKED_CONFIG, NO_MODEL)
        elif state == "broken":
            check = BROKEN
            self._fire(name, FireOutcome.BLOCKED_CONFIG, BROKEN)
        elif state == "missed":
            facts = {"window_seconds": 7200.0, "unseen": "nobody"}
            self._fire(name, FireOutcome.MISSED, Reason(ReasonCode.CATCH_UP_WINDOW_PASSED, facts))
        elif state == "paused":
            with self.store.write() as connection:
                schedules.begin_pause(connection, name, by="anna", note="the tracker moves", now=self.fired - DAY)
        else:
            success = None if state == "never_succeeded" else past
        if success is not None:
            self._state(name, last_success=to_micros(success), last_status=_RUNS.get(state, (RunStatus.SUCCEEDED,))[0].value)
        elif state in _RUNS:
            self._state(name, last_status=_RUNS[state][0].value)
        self._checks.append(JobCheck(name, self.now, check, timedelta(minutes=15)))
        with self.store.write() as connection:
            replace_job_checks(connection, self._checks)
        return run_id

    def server(self, *, asleep: bool = True) -> None:
        """A server that runs now; none was running for an hour of the night."""
        with self.store.write() as connection:
            schedulers.begin_scheduler(connection, "one", owner=current_owner(), version="0", now=self.now, boot=boot_time())
            schedulers.tick(
                connection,
                "one",
                boot=boot_time(),
                now=self.now,
                state=SchedulerState.RUNNING,
                lag=timedelta(0),
                jobs=len(self._checks),
                broken=(),
                error=None,
            )
            if asleep:
                start = self.fired - timedelta(minutes=30)
                schedulers.insert_clock_event(connection, ClockEvent(ClockEventKind.ASLEEP, start, start + timedelta(hours=1)))

    def gap(self, job: str, count: int) -> None:
        """Many missed fires as one row."""
        reason = Reason(ReasonCode.CATCH_UP_OFF, {"unseen": "nobody"})
        with self.store.write() as connection:
            gap = Gap(job, self.fired - timedelta(hours=1), self.fired, count, FireOutcome.MISSED, reason, "every 1s", self.fired)
            fires.insert_gap(connection, gap)

    def _run(self, job: str, state: str) -> tuple[str, datetime | None]:
        status, reason = _RUNS[state]
        ended = None if status is RunStatus.WAITING else to_micros(self.fired + timedelta(minutes=5))
        due = to_micros(self.fired)
        times = {"scheduled_for": due, "created_at": due, "started_at": due, "ended_at": ended}
        run_id = records.add_run(self.store, job=job, status=status, reason=reason, result=None, model="offline", **times)
        self._fire(job, FireOutcome.STARTED, NO_REASON, run_id)
        return run_id, self.fired + timedelta(minutes=5) if status is RunStatus.SUCCEEDED else self.fired - DAY

    def _fire(self, job: str, outcome: FireOutcome, reason: Reason, run_id: str | None = None) -> None:
        with self.store.write() as connection:
            fires.insert_fires(connection, [Fire(job, self.fired, outcome, run_id, reason, self.fired + timedelta(seconds=1))])

    def _state(self, job: str, **values: object) -> None:
        with self.store.write() as connection:
            connection.execute(job_state.insert().values(job=job, version=1, pushed_version=1, **values))
