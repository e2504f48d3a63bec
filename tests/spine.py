"""The spine without processes: claims, attempts, kills and resumes of jobs in the test's own process, over a real store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import select

from taskpilot.app.wiring import App
from taskpilot.config import SETTINGS_FILE, load
from taskpilot.context import scope
from taskpilot.context.run_context import RunContext
from taskpilot.context.session import Session
from taskpilot.domain.decisions import Decision
from taskpilot.domain.fires import Fire, Gap, SchedulerState
from taskpilot.domain.ids import new_id
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import LeaseGrant, Outcome, Run, RunStatus, TriggerKind
from taskpilot.domain.steps import Step, StepKind
from taskpilot.domain.tasks import Task
from taskpilot.jobs.decorator import job_spec
from taskpilot.jobs.parameters import parse_parameters
from taskpilot.ledger.claims import Claim, Claimed, Definitions, Hold, RunPlan, Skip
from taskpilot.ledger.fires import Fires, begin_and_end_schedules
from taskpilot.ledger.queue import Queue
from taskpilot.process.owner import is_gone
from taskpilot.runner import Runner
from taskpilot.store import fires, runs, schedulers, schedules, steps, tasks
from taskpilot.store.tables import fire_gaps, totals
from taskpilot.store.tables import schedulers as schedulers_table
from taskpilot.testing import ManualClock, ScriptedModel

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Killed(BaseException):
    """The job's process dies here: nothing after this line runs, and nothing is recorded by the job any more."""


@dataclass(frozen=True)
class Ran:
    """A run after an attempt."""

    run: Run
    grant: LeaseGrant
    outcome: Outcome


def _named(model: ScriptedModel | None, plan: dict[str, Any]) -> dict[str, Any]:
    return {"model": model.name, **plan} if model is not None else plan


class Spine:
    """One root with its store; `clock` stands still unless it is moved."""

    def __init__(self, root: Path, *, settings: str = "") -> None:
        (root / SETTINGS_FILE).write_text(settings, encoding="utf-8")
        self.clock = ManualClock(NOON)
        self.app = App(load(root=root, environ={"TASKPILOT_HOUSEKEEPING": "off"}), now=self.clock, boot=self.clock.boot)
        self.deployment = self.app.deployment
        self.store = self.deployment.store
        self.ledger = self.deployment.ledger

    def plan(
        self,
        job: Callable[..., Any],
        *,
        parameters: Mapping[str, Any] | None = None,
        scheduled_for: datetime | None = None,
        model: str | None = "scripted",
        run_id: str | None = None,
    ) -> RunPlan:
        """A plan of the job, as `taskpilot run` makes it."""
        spec = job_spec(job)
        return RunPlan(
            run_id=run_id or new_id(),
            spec=spec,
            parameters=parse_parameters(spec, [], parameters or {}),
            model=model,
            trigger=TriggerKind.MANUAL if scheduled_for is None else TriggerKind.SCHEDULE,
            scheduled_for=scheduled_for,
        )

    def claim(self, job: Callable[..., Any], **plan: Any) -> Claim:
        """A run of the job that is ours."""
        claim = self.ledger.claim(self.plan(job, **plan))
        assert isinstance(claim, Claim), claim
        return claim

    def refused(self, job: Callable[..., Any], **plan: Any) -> Skip | Hold:
        """Why a run of the job is not ours."""
        found = self.ledger.claim(self.plan(job, **plan))
        assert not isinstance(found, Claim), found
        return found

    def succeed(self, claim: Claim) -> None:
        """The claimed run's end."""
        self.ledger.end(claim.grant, Outcome(RunStatus.SUCCEEDED), active_seconds=1, keep_lease=False)

    def session(self, job: Callable[..., Any], grant: LeaseGrant, model: ScriptedModel | None = None) -> Session:
        """What an attempt works with."""
        self.deployment.make_run_dir(grant.run_id)
        spec = job_spec(job)
        return self.app.open_session(spec, grant, spec.deadline.total_seconds(), model=model or ScriptedModel([]))

    def attempt(self, job: Callable[..., Any], grant: LeaseGrant, model: ScriptedModel | None = None) -> Ran:
        """One attempt, to its recorded end."""
        outcome = Runner(end=self.ledger.end, now=self.clock).run(self.session(job, grant, model), grant)
        return Ran(self.run_of(grant.run_id), grant, outcome)

    def run(self, job: Callable[..., Any], model: ScriptedModel | None = None, **plan: Any) -> Ran:
        """A new run's first attempt."""
        return self.attempt(job, self.claim(job, **_named(model, plan)).grant, model)

    def resume(self, job: Callable[..., Any], run_id: str, model: ScriptedModel | None = None) -> Ran:
        """A further attempt of a run."""
        grant = self.ledger.resume(self.plan(job, run_id=run_id)).grant
        return self.attempt(job, grant, model)

    def killed(self, job: Callable[..., Any], model: ScriptedModel | None = None, *, grant: LeaseGrant | None = None, **plan: Any) -> str:
        """An attempt whose process dies where the job raises Killed; its supervisor then records the loss. Gives the run's id."""
        grant = grant or self.claim(job, **_named(model, plan)).grant
        session = self.session(job, grant, model)
        died = False
        try:
            with scope.entered(""):
                session.spec.function(RunContext(session), **session.run.parameters)
        except Killed:
            died = True
        assert died, "the job was not killed"
        outcome = Outcome(RunStatus.LOST, Reason(ReasonCode.SIGNAL), retry=True)
        self.ledger.end(grant, outcome, active_seconds=1, keep_lease=False)
        return grant.run_id

    def run_of(self, run_id: str) -> Run:
        """The run as the store has it."""
        with self.store.read() as connection:
            run = runs.get_run(connection, run_id)
        assert run is not None
        return run

    def row(self, run_id: str) -> Any:
        """The run's row: lease, ceilings and reservations too."""
        with self.store.read() as connection:
            return runs.run_row(connection, run_id)

    def steps(self, run_id: str, kind: StepKind | None = None) -> list[Step]:
        """The run's journal."""
        with self.store.read() as connection:
            return [step for step in steps.steps_of(connection, run_id) if kind is None or step.kind is kind]

    def tasks(self, run_id: str) -> list[Task]:
        """The run's tasks."""
        with self.store.read() as connection:
            return tasks.tasks_of(connection, run_id)

    def decisions(self, run_id: str) -> list[Decision]:
        """The run's decisions."""
        with self.store.read() as connection:
            return tasks.decisions_of(connection, run_id)

    @property
    def fires(self) -> Fires:
        """Claims of what is due."""
        return Fires(self.store, is_gone=is_gone, now=self.clock, boot=self.clock.boot)

    def queue(self, *, places: int = 4, random: Random | None = None) -> Queue:
        """What is to start; delays are those of `random`."""
        return Queue(self.store, is_gone=is_gone, now=self.clock, boot=self.clock.boot, places=places, random=random)

    def defined(
        self, *jobs: Callable[..., Any], broken: Mapping[str, str] | None = None, changed_at: datetime | None = None
    ) -> Definitions:
        """A folder with these jobs, and the record of schedules brought up to it."""
        folder = Definitions({spec.name: spec for spec in map(job_spec, jobs)}, broken or {}, changed_at)
        begin_and_end_schedules(self.store, folder, now=self.clock())
        return folder

    def due(self, *jobs: Callable[..., Any], asleep_since: datetime | None = None) -> Claimed:
        """What is claimed by a scheduler that knows these jobs."""
        return self.fires.claim_due(self.defined(*jobs), asleep_since=asleep_since)

    def awake(self, scheduler: str = "one") -> None:
        """A scheduler says that it is awake now."""
        with self.store.write() as connection:
            now, boot = self.clock(), self.clock.boot()
            if scheduler not in connection.execute(select(schedulers_table.c.id)).scalars().all():
                schedulers.begin_scheduler(connection, scheduler, owner=self.deployment.owner, version="0", now=now, boot=boot)
            state = SchedulerState.RUNNING
            schedulers.tick(connection, scheduler, now=now, boot=boot, state=state, lag=timedelta(0), jobs=0, broken=(), error=None)

    def fire(self, job: str, scheduled_for: datetime) -> Fire | None:
        """The fire's own row."""
        with self.store.read() as connection:
            return fires.get_fire(connection, job, scheduled_for)

    def cursor(self, job: str) -> datetime | None:
        """Up to when every fire of the job has its outcome."""
        with self.store.read() as connection:
            return schedules.schedules_in_force(connection, [job])[job].cursor

    def pause(self, job: str) -> None:
        """Pauses the job from now on."""
        with self.store.write() as connection:
            schedules.begin_pause(connection, job, by="anna", note="the tracker moves", now=self.clock())

    def outcomes(self, job: str) -> dict[datetime, str]:
        """What became of the job's fires that have a row, the earliest first."""
        with self.store.read() as connection:
            rows = fires.fires_page(connection, job=job, before=None, limit=10_000)
        return {fire.scheduled_for: str(fire.outcome) for fire in reversed(rows)}

    def gaps(self, job: str) -> list[Gap]:
        """The job's fires that share a row, in the order of their times."""
        wanted = select(fire_gaps).where(fire_gaps.c.job == job).order_by(fire_gaps.c.from_at)
        with self.store.read() as connection:
            return [fires.gap_of(row) for row in connection.execute(wanted)]

    def total(self, metric: str) -> dict[str, int]:
        """A metric's totals by their labels, over all jobs."""
        with self.store.read() as connection:
            rows = connection.execute(select(totals.c.labels, totals.c.value).where(totals.c.metric == metric))
            return {row.labels: row.value for row in rows}

    def later(self, seconds: float) -> None:
        """Moves the clock."""
        self.clock.advance(timedelta(seconds=seconds))

    def close(self) -> None:
        """Lets go of the store."""
        self.deployment.close()
