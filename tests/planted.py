"""A night that was: jobs in every state, put into a store without running anything."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain import instruments
from taskpilot.domain.fires import ClockEvent, ClockEventKind, Fire, Gap, SchedulerState
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.domain.times import boot_time, to_micros, utc_now
from taskpilot.process.owner import current_owner
from taskpilot.schedules.schedule import every
from taskpilot.store import fires, schedulers, schedules, totals
from taskpilot.store.database import Store
from taskpilot.store.job_checks import JobCheck, replace_job_checks
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
            self.pause(name, by="anna", note="the tracker moves")
        elif state == "never_succeeded":
            success = None
            self._state(name, last_completion=to_micros(self.fired), last_status=RunStatus.CANCELLED.value)
        else:
            success = past
        if success is not None:
            self._state(name, last_success=to_micros(success), last_status=_RUNS.get(state, (RunStatus.SUCCEEDED,))[0].value)
        elif state in _RUNS:
            self._state(name, last_status=_RUNS[state][0].value)
        self._checks.append(JobCheck(name, self.now, check, timedelta(minutes=15)))
        with self.store.write() as connection:
            replace_job_checks(connection, self._checks)
        return run_id

    def pause(self, job: str, *, by: str, note: str) -> None:
        """A pause that is in force."""
        with self.store.write() as connection:
            schedules.begin_pause(connection, job, by=by, note=note, now=self.fired - DAY)

    def server(self, *, asleep: bool = True, silent: timedelta = timedelta(0)) -> None:
        """A server that runs now, or gave its last sign of life a while ago; none was running for an hour of the night."""
        now, boot = self.now - silent, boot_time() + -silent
        with self.store.write() as connection:
            schedulers.begin_scheduler(connection, "one", owner=current_owner(), version="0", now=now, boot=boot)
            schedulers.tick(
                connection,
                "one",
                boot=boot,
                now=now,
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
        self._state(job, last_start=due, last_completion=ended)
        if status is RunStatus.WAITING:
            records.add_decision(self.store, run_id, job=job, tool="send_mail")
        self._fire(job, FireOutcome.STARTED, NO_REASON, run_id)
        return run_id, self.fired + timedelta(minutes=5) if status is RunStatus.SUCCEEDED else self.fired - DAY

    def _fire(self, job: str, outcome: FireOutcome, reason: Reason, run_id: str | None = None) -> None:
        with self.store.write() as connection:
            fires.insert_fires(connection, [Fire(job, self.fired, outcome, run_id, reason, self.fired + timedelta(seconds=1))])
            totals.add(connection, job, [totals.count(instruments.FIRES, outcome=outcome.value)])

    def _state(self, job: str, **values: object) -> None:
        with self.store.write() as connection:
            totals.set_state(connection, job, **values)


@dataclass(frozen=True)
class Agreed:
    """What every view says of one state."""

    health: str
    """pass and warn are answered with 200, fail with 503; the command exits with 1 for the last two."""
    told: tuple[str, ...]
    """The kinds that `status` lists."""
    needs: str = ""
    """The kind that `health`, `jobs` and the page mark the job with."""
    fails: bool = False
    """Whether the success rate of the golden signals names the job."""
    alerts: frozenset[str] = frozenset()
    """At least these fire, and with none of them none at all."""


FAILED: Final = frozenset({"TaskPilotLastRunFailed"})
MISSED: Final = frozenset({"TaskPilotFiresMissed"})
AGREED: Final = {
    "failed": Agreed("warn", ("failed",), "failed", True, FAILED),
    "lost": Agreed("warn", ("lost",), "lost", True, FAILED),
    "timed_out": Agreed("warn", ("timed_out",), "timed_out", True, FAILED),
    "waiting": Agreed("warn", ("waiting",), "waiting", False, frozenset({"TaskPilotApprovalsWaiting"})),
    "blocked": Agreed("warn", ("blocked",), "blocked", True, MISSED),
    "missed": Agreed("warn", ("missed",), "missed", True, MISSED),
    "paused": Agreed("pass", ("paused",)),
    "paused_after_failures": Agreed("warn", ("failed", "paused"), "failed", True, FAILED),
    "broken": Agreed("warn", ("broken",), "broken", True, MISSED),
    "server_down": Agreed("fail", (), alerts=frozenset({"TaskPilotSchedulerTickOld"})),
    "fresh": Agreed("pass", ()),
    "succeeded": Agreed("pass", ()),
    # Not in the closing note's table, and no less true.
    "denied": Agreed("warn", ("denied",), "denied", True, FAILED),
    "budget_exceeded": Agreed("warn", ("budget_exceeded",), "budget_exceeded", True, FAILED),
    "outcome_failed": Agreed("warn", ("outcome_failed",), "outcome_failed", True, FAILED),
    "never_succeeded": Agreed("warn", ("never_succeeded",), "never_succeeded", True, frozenset({"TaskPilotNeverSucceeded"})),
    "success_too_old": Agreed("warn", ("success_too_old",), "success_too_old", True, frozenset({"TaskPilotSuccessTooOld"})),
}
"""By state: what health, status, jobs, the page, the golden signals and the alerts say of it."""


def plant_agreed(root: Path, state: str) -> Deployment:
    """A root with one job, named after its state, and a server."""
    (root / "jobs").mkdir(parents=True)
    (root / "taskpilot.toml").write_text("")
    job = f"from taskpilot import every, job\n\n\n@job(schedule=every('24h'))\ndef {state}(ctx) -> None:\n    pass\n"
    (root / "jobs" / "one.py").write_text(job)
    opened = Deployment(load(root=root, environ={}))
    if state == "fresh":
        return opened
    night = Night(opened.store, utc_now())
    match state:
        case "paused_after_failures":
            night.plant("failed", job=state)
            night.pause(state, by="taskpilot", note="3 runs failed in a row")
        case "server_down":
            night.plant("succeeded", job=state)
        case _:
            night.plant(state)
    night.server(asleep=False, silent=timedelta(minutes=20) if state == "server_down" else timedelta(0))
    return opened
