"""A scheduler without a server: its ticks over a real store, with the time, the clocks and the engine in a test's hands."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from taskpilot.config import SETTINGS_FILE, load
from taskpilot.deployment import Deployment
from taskpilot.domain.fires import SchedulerState, StartOrder
from taskpilot.domain.ids import new_id
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus, TriggerKind
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.times import boot_time, from_micros
from taskpilot.ledger.claims import Claim, RunPlan
from taskpilot.scheduler.scheduler import Scheduler
from taskpilot.schedules.schedule import schedule_of
from taskpilot.store import schedulers
from taskpilot.testing import ManualClock

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
WAKE_UP = timedelta(seconds=15)


class Engine:
    """Remembers its orders. It runs each to success at once, unless it `holds` them or `refuses` them."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.orders: list[StartOrder] = []
        self.holds = False
        self.refuses = False

    def submit(self, order: StartOrder) -> None:
        if self.refuses:
            raise RuntimeError("the engine is away")
        self.orders.append(order)
        if not self.holds:
            self.finish(self.begin(order))

    def begin(self, order: StartOrder) -> Claim:
        """What a supervisor does first."""
        spec = self._deployment.catalog.get(order.job)
        plan = RunPlan(order.run_id or new_id(), spec, {}, None, TriggerKind.SCHEDULE, order.scheduled_for)
        claim = self._deployment.ledger.claim(plan) if order.run_id is None else self._deployment.ledger.start_queued(plan)
        assert isinstance(claim, Claim), claim
        return claim

    def finish(self, claim: Claim) -> None:
        """And last."""
        self._deployment.ledger.end(claim.grant, Outcome(RunStatus.SUCCEEDED), active_seconds=0.1, keep_lease=False)


class ManualWakeUps:
    """What APScheduler does, by the time that a test sets: `catch_up` calls the functions whose time has come since the last call."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._called_at = now()
        self._every: list[tuple[timedelta, datetime, Callable[[], None]]] = []
        self._moments: dict[str, tuple[datetime, Callable[[], None]]] = {}
        self._due: Callable[[Schedule, datetime], None] = lambda _schedule, _time: None
        self.schedules: frozenset[Schedule] = frozenset()

    def set_schedules(self, schedules: Collection[Schedule], due: Callable[[Schedule, datetime], None]) -> None:
        self.schedules, self._due = frozenset(schedules), due

    def call_every(self, period: timedelta, function: Callable[[], None], *, name: str) -> None:
        self._every.append((period, self._now(), function))

    def call_at(self, moment: datetime, function: Callable[[], None], *, name: str) -> None:
        self._moments[name] = (moment, function)

    @property
    def moments(self) -> dict[str, datetime]:
        """What `call_at` was asked for."""
        return {name: moment for name, (moment, _) in self._moments.items()}

    def catch_up(self) -> None:
        # Where the clock was set back, everything is planned anew from then on.
        now = self._now()
        since, self._called_at = min(self._called_at, now), now
        for schedule in self.schedules:
            if (fire := schedule.next_after(since)) is not None and fire <= now:
                self._due(schedule, fire)
        for period, begin, function in self._every:
            if (now - begin) // period > (since - begin) // period:
                function()
        for moment, function in list(self._moments.values()):
            if since < moment <= now:
                function()


class Log:
    """What a scheduler said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: object, /, **fields: object) -> None:
        self.lines.append(f"info: {message}")

    def warning(self, message: object, /, **fields: object) -> None:
        self.lines.append(f"warning: {message}")


class Keeper:
    """The scheduler of one `taskpilot serve`. Two of one root share its store and, where it is handed on, its clock."""

    def __init__(
        self,
        root: Path,
        *,
        home: Path | None = None,
        clock: Callable[[], datetime] | None = None,
        start: datetime = NOON,
    ) -> None:
        self.root = root
        self.clock: Any = clock or ManualClock(start)
        self.deployment = Deployment(load(root=root, home=home, environ={}), now=self.clock, boot=getattr(self.clock, "boot", boot_time))
        self.engine = Engine(self.deployment)
        self.log = Log()
        self.changed: set[str] = set()
        """The jobs whose counters or runs changed."""
        self.deployment.on_change = lambda changes: self.changed.update(change.job for change in changes)
        self.serve()

    def serve(self) -> None:
        """A start of the server, in which nothing is remembered of the one before."""
        self.id = new_id()
        with self.deployment.store.write() as connection:
            schedulers.begin_scheduler(
                connection, self.id, owner=self.deployment.owner, version="1", now=self.clock(), boot=self.deployment.boot()
            )
        self.wake_ups = ManualWakeUps(self.clock)
        self.scheduler = Scheduler(
            self.deployment,
            self.engine,
            self.wake_ups,
            scheduler_id=self.id,
            log=self.log,
        )

    def start(self) -> None:
        """The first ticks: the definitions are read, then the engine is ready."""
        self.tick()
        self.scheduler.state = SchedulerState.RUNNING
        self.tick()

    def tick(self) -> None:
        """A wake-up."""
        self.wake_ups.catch_up()
        self.scheduler.tick()

    def passes(self, time: timedelta) -> None:
        """Time passes without a wake-up: both clocks go on."""
        self.clock.advance(time)

    def steps(self, time: timedelta) -> None:
        """The wall clock is set, forward or back."""
        self.clock.set(self.clock() + time)

    def ticks(self, time: timedelta, *, every: timedelta = WAKE_UP) -> None:
        """Time passes with regular wake-ups."""
        until = self.clock() + time
        while (left := until - self.clock()) > timedelta(0):
            self.passes(min(every, left))
            self.tick()

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What a query finds in the record."""
        with closing(sqlite3.connect(f"file:{self.deployment.store.path}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(query, values).fetchall()

    def outcomes(self, job: str) -> dict[datetime, str]:
        """The outcome of each fire, those in gaps too. A fire that has two is an error."""
        rows = self.rows("SELECT * FROM fires WHERE job = ? AND key = ''", job)
        found = Counter(from_micros(row["scheduled_for"]) for row in rows)
        said = {from_micros(row["scheduled_for"]): row["outcome"] for row in rows}
        alone = set(said)
        for gap in self.rows("SELECT * FROM fire_gaps WHERE job = ?", job):
            first, last = from_micros(gap["from_at"]), from_micros(gap["to_at"])
            inside = [one for one in schedule_of(gap["schedule"]).between(first - timedelta(seconds=1), last) if one not in alone]
            assert len(inside) == gap["number"], (len(inside), dict(gap))
            found.update(inside)
            said.update(dict.fromkeys(inside, gap["outcome"]))
        twice = [one.isoformat() for one, number in found.items() if number > 1]
        assert not twice, twice
        return dict(sorted(said.items()))

    def reasons(self, job: str) -> list[Reason]:
        """Why, in the order of fires: rows first, then gaps."""
        rows = self.rows("SELECT * FROM fires WHERE job = ? ORDER BY scheduled_for", job)
        rows += self.rows("SELECT * FROM fire_gaps WHERE job = ? ORDER BY from_at", job)
        return [Reason(ReasonCode(row["reason_code"]), json.loads(row["reason_facts"])) for row in rows]

    def clock_events(self) -> list[tuple[str, datetime, datetime]]:
        """What was noted of the clock."""
        rows = self.rows("SELECT * FROM clock_events ORDER BY id")
        return [(row["kind"], from_micros(row["from_at"]), from_micros(row["to_at"])) for row in rows]

    def starts(self, job: str) -> list[datetime]:
        """The fires that a run was made for, by the order of their starts."""
        rows = self.rows("SELECT scheduled_for FROM runs WHERE job = ? ORDER BY started_at, id", job)
        return [from_micros(row["scheduled_for"]) for row in rows]

    def close(self) -> None:
        """Lets go of the store."""
        self.deployment.close()


def make_root(folder: Path, *, settings: str = "", **jobs: str) -> Path:
    """A root whose job file defines each named job with these arguments of `@job`."""
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS_FILE).write_text(settings)
    write_jobs(folder, "timed", **jobs)
    return folder


def write_jobs(folder: Path, file: str, **jobs: str) -> None:
    """Writes one job file."""
    lines = ["from taskpilot import RunContext, at, cron, every, job", *(_job(name, given) for name, given in jobs.items())]
    (folder / "jobs" / f"{file}.py").write_text("\n".join(lines) + "\n")


def _job(name: str, arguments: str) -> str:
    return f'@job({arguments})\ndef {name}(ctx: RunContext) -> None:\n    """Is due."""'
