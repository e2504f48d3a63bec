"""A root whose jobs are due while a test moves the clock: what a server or cron would do at a moment is done by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import select

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.fires import Fire, SchedulerState
from taskpilot.domain.reasons import NO_REASON, Reason
from taskpilot.domain.runs import FireOutcome, Owner
from taskpilot.domain.times import boot_id
from taskpilot.ledger.claims import Claimed
from taskpilot.services.jobs import follow_definitions
from taskpilot.store import fires, schedulers
from taskpilot.store.tables import schedulers as schedulers_table
from taskpilot.testing import ManualClock

MONDAY: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
WEEKDAYS: Final = 'schedule=cron("0 7 * * mon-fri", timezone="Europe/Berlin")'
JOB: Final = """
from taskpilot import at, cron, every, job


@job({options})
def {name}(ctx) -> None:
    \"\"\"Does its work.\"\"\"
"""
SERVER: Final = Owner("elsewhere", boot_id(), 4711, 1)


class Timeline:
    """One root with a job `triage`; its clock stands at noon of a Monday until it is moved."""

    def __init__(self, root: Path, *, settings: str = "") -> None:
        self.jobs = root / "jobs"
        self.jobs.mkdir(parents=True, exist_ok=True)
        (root / "taskpilot.toml").write_text(settings, encoding="utf-8")
        self.clock = ManualClock(MONDAY)
        self.deployment = Deployment(load(root=root, environ={}), now=self.clock, boot=self.clock.boot)
        self.define()

    def define(self, options: str = WEEKDAYS, *, name: str = "triage") -> None:
        """A job file as it is from now on."""
        self.write(name, JOB.format(options=options, name=name))

    def write(self, name: str, text: str) -> None:
        """The same with any text."""
        (self.jobs / f"{name}.py").write_text(text, encoding="utf-8")
        self.reread()

    def remove(self, name: str) -> None:
        """Takes a job file away."""
        (self.jobs / f"{name}.py").unlink()
        self.reread()

    def reread(self) -> None:
        """As a new process would see the folder."""
        vars(self.deployment).pop("catalog", None)

    def later(self, **by: float) -> None:
        """Moves the clock."""
        self.clock.advance(timedelta(**by))

    def follow(self) -> None:
        """The record of schedules is brought up to the folder."""
        follow_definitions(self.deployment)

    def met(self, *, asleep_since: datetime | None = None) -> Claimed:
        """What a server does at a wake-up."""
        return self.deployment.fires.claim_due(follow_definitions(self.deployment), asleep_since=asleep_since)

    def tick(
        self,
        state: SchedulerState = SchedulerState.RUNNING,
        *,
        scheduler: str = "one",
        owner: Owner = SERVER,
        lag: float = 0,
        broken: tuple[str, ...] = (),
        error: str | None = None,
    ) -> None:
        """A server says how it stands."""
        now, boot = self.clock(), self.clock.boot()
        with self.deployment.store.write() as connection:
            if scheduler not in connection.execute(select(schedulers_table.c.id)).scalars().all():
                schedulers.begin_scheduler(connection, scheduler, owner=owner, version="1", now=now, boot=boot)
            late = timedelta(seconds=lag)
            schedulers.tick(connection, scheduler, now=now, boot=boot, state=state, lag=late, jobs=7, broken=broken, error=error)

    def record(self, fire: datetime, outcome: FireOutcome, reason: Reason = NO_REASON, run_id: str | None = None) -> None:
        """A fire of triage that got its outcome three seconds after its time."""
        with self.deployment.store.write() as connection:
            fires.insert_fires(connection, [Fire("triage", fire, outcome, run_id, reason, fire + timedelta(seconds=3))])

    def close(self) -> None:
        """Lets go of the store."""
        self.deployment.close()
