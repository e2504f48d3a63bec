"""Health, read from the store: the same answer for the page, the API and the command."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from taskpilot.deployment import Deployment
from taskpilot.domain.attention import Attention
from taskpilot.domain.errors import ConfigurationError, TaskPilotError
from taskpilot.domain.fires import WAKE_UP, SchedulerRow, SchedulerState, SchedulerStatus
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.times import utc_iso
from taskpilot.domain.version import version
from taskpilot.ledger.admission import holds_lease
from taskpilot.messages.attention import attention_command, attention_words, commanded
from taskpilot.messages.shapes import iso
from taskpilot.messages.times import clock_event
from taskpilot.process.owner import is_gone
from taskpilot.store import fires, runs, schedules
from taskpilot.store.creation import is_missing
from taskpilot.store.database import Transaction
from taskpilot.store.schedulers import clock_steps, living_schedulers, newest_scheduler
from taskpilot.views.attention import attention_json, find_attention, open_by_job, yesterday_evening
from taskpilot.views.checks import Check, Status, check_collector, check_gateway, check_model
from taskpilot.views.overdue import soonest_fire

_NAMED: Final = 5
"""At most so many jobs or files are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class SchedulerHealth:
    """The scheduler and its work; None means unknown."""

    state: SchedulerStatus = SchedulerStatus.UNKNOWN
    jobs: int | None = None
    paused: int | None = None
    running: int | None = None
    queued: int | None = None
    last_tick: datetime | None = None
    lag_seconds: float | None = None
    """How late the last wake-up was."""
    next_fire: datetime | None = None
    restart: tuple[str, ...] = ()
    """The changed settings that the server follows after a restart only."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, and what helps."""

    status: Status
    text: str
    of_job: bool = False
    """It is one of `Health.jobs`, which `status` lists too."""


@dataclass(frozen=True, slots=True)
class Health:
    """The whole answer; `status` is pass, warn or fail."""

    status: Status
    version: str
    scheduler: SchedulerHealth
    checks: Mapping[str, Check]
    broken: tuple[str, ...] = ()
    """A line for each job file that cannot be loaded."""
    findings: tuple[Finding, ...] = ()
    """Why the status is not pass."""
    jobs: tuple[Attention, ...] = ()
    """The jobs that fail, are blocked, or wait for a person."""


@dataclass(slots=True)
class _Examination:
    """The inputs of the checks, and the findings so far."""

    deployment: Deployment
    now: datetime
    specs: dict[str, JobSpec]
    broken: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)
    jobs: tuple[Attention, ...] = ()

    def add(self, status: Status, text: str, *, of_job: bool = False) -> None:
        self.findings.append(Finding(status, text, of_job))


def health(deployment: Deployment, *, failure: str | None = None) -> Health:
    """The health of the deployment. Contacts no server and creates no store; errors of the store are part of the answer.

    `failure`: why the scheduler of this process could not do its work.
    """
    found = _Examination(deployment, deployment.now(), *_definitions(deployment))
    scheduler: SchedulerHealth | None = None
    unknown = Check(Status.UNKNOWN, "the database cannot be read")
    checks = {"store": unknown, "gateway": unknown, "collector": unknown, "model": unknown}
    try:
        missing = is_missing(deployment.settings.state_dir)
        if missing and deployment.store_is_open:
            # SQLite would continue to write to the deleted file.
            checks["store"] = Check(Status.FAIL, f"the store {deployment.store.path} was deleted: restore it from a backup")
        elif missing:
            checks = dict.fromkeys(checks, Check(Status.UNKNOWN, "nothing is recorded yet"))
            checks["store"] = Check(Status.UNKNOWN, f"there is no database in {deployment.settings.state_dir} yet: no job has run")
        else:
            with deployment.store.read() as connection:
                scheduler = _read(connection, found)
                checks = {
                    "store": Check(Status.PASS, f"{deployment.store.path}, deployment {deployment.store.deployment}"),
                    "gateway": check_gateway(connection, deployment.settings, found.now),
                    "collector": check_collector(connection, deployment.settings),
                    "model": check_model(connection, found.now),
                }
    except TaskPilotError as error:
        checks["store"] = Check(Status.FAIL, error.one_line)
    if scheduler is None:
        scheduler = SchedulerHealth(jobs=len(found.specs), next_fire=soonest_fire(found.specs.values(), found.now))
    if failure is not None:
        found.add(Status.FAIL, f"the scheduler cannot do its work: {failure}")
    for line in found.broken[:_NAMED]:
        found.add(Status.WARN, f"cannot be loaded: {line}")
    if len(found.broken) > _NAMED:
        found.add(Status.WARN, f"{_number(len(found.broken) - _NAMED, 'more job file')}: `taskpilot jobs validate` lists them")
    for name, one in checks.items():
        if one.status in (Status.WARN, Status.FAIL):
            found.add(one.status, f"{name}: {one.detail}")
    findings = sorted(found.findings, key=lambda one: one.status is not Status.FAIL)
    worst = findings[0].status if findings else Status.PASS
    return Health(worst, version(), scheduler, checks, found.broken, tuple(findings), found.jobs)


def health_json(health: Health, command: Callable[[Sequence[str]], str] = commanded) -> dict[str, Any]:
    """Health as a JSON value; `command` makes a line to paste from the words after `taskpilot`."""
    scheduler = health.scheduler
    return {
        "status": health.status.value,
        "version": health.version,
        "scheduler": {
            **asdict(scheduler),
            "state": scheduler.state.value,
            "last_tick": iso(scheduler.last_tick),
            "next_fire": iso(scheduler.next_fire),
        },
        "checks": {name: {"status": one.status.value, "detail": one.detail} for name, one in health.checks.items()},
        "broken": list(health.broken),
        "jobs": [attention_json(one, command) for one in health.jobs],
        "findings": [{"status": one.status.value, "text": one.text} for one in health.findings],
    }


def _definitions(deployment: Deployment) -> tuple[dict[str, JobSpec], tuple[str, ...]]:
    try:
        catalog = deployment.catalog
    except ConfigurationError as error:
        return {}, (error.one_line,)
    return dict(catalog.jobs), tuple(map(str, catalog.broken))


def _read(connection: Transaction, found: _Examination) -> SchedulerHealth:
    now, specs = found.now, found.specs
    row, state = _scheduler(connection, found)
    awake = state.awake
    if row is not None and awake:
        found.broken = row.broken
        if row.restart:
            found.add(Status.WARN, f"restart the server: it does not follow the changed {', '.join(row.restart)} before")
    paused = schedules.pauses_in_force(connection)
    active = [spec for spec in specs.values() if spec.name not in paused]
    open_runs = runs.all_active_runs(connection)
    held = [row for row in open_runs if holds_lease(row, is_gone, found.deployment.boot())]
    if not awake:
        lost = sum(row.lease_token is not None for row in open_runs) - len(held)
        if lost:
            whose = "its" if lost == 1 else "their"
            found.add(Status.WARN, f"{_number(lost, 'run')} lost {whose} process; `taskpilot run housekeeping` records that")
    since = yesterday_evening(now)
    for event in clock_steps(connection, since, now):
        found.add(Status.WARN, clock_event(event))
    attention = find_attention(connection, since=since, now=now, server=state, plans=specs.values())
    found.jobs = tuple(open_by_job(attention).values())
    for one in found.jobs[:_NAMED]:
        found.add(Status.WARN, f"{one.job} {attention_words(one)}; `{commanded(attention_command(one))}`", of_job=True)
    if len(found.jobs) > _NAMED:
        found.add(Status.WARN, f"{_number(len(found.jobs) - _NAMED, 'more job')}: `taskpilot status` lists them", of_job=True)
    return SchedulerHealth(
        state=state,
        jobs=row.jobs if row is not None and awake else len(specs),
        paused=len(paused),
        running=len(held),
        queued=fires.queue_length(connection),
        last_tick=None if row is None else row.last_tick_at,
        lag_seconds=row.lag.total_seconds() if row is not None and awake else None,
        next_fire=soonest_fire(active, now),
        restart=row.restart if row is not None and awake else (),
    )


def read_scheduler(connection: Transaction, deployment: Deployment) -> tuple[SchedulerRow | None, SchedulerStatus]:
    """The scheduler to report, and its state."""
    return _scheduler(connection, _Examination(deployment, deployment.now(), {}, ()))


def _scheduler(connection: Transaction, found: _Examination) -> tuple[SchedulerRow | None, SchedulerStatus]:
    """The scheduler to report: a running one if there is any, else the one that was active last."""
    awake = living_schedulers(connection, found.deployment.boot())
    row = next((row for row in awake if row.state is not SchedulerState.DRAINING), None) or next(iter(awake), newest_scheduler(connection))
    if row is None or row.state is SchedulerState.STOPPED:
        return row, SchedulerStatus.ABSENT
    if not awake:
        where = f"pid {row.owner.pid} on {row.owner.host}"
        why = "its process is gone; start `taskpilot serve`" if is_gone(row.owner) else "its process hangs, or is suspended"
        found.add(Status.FAIL, f"the scheduler ({where}) was last active at {_iso_seconds(row.last_tick_at)}; {why}")
        return row, SchedulerStatus.DEAD
    if row.error is not None:
        found.add(Status.WARN, f"the scheduler's last pass failed: {row.error}")
    if row.lag > WAKE_UP:
        found.add(Status.WARN, f"the scheduler woke up {row.lag.total_seconds():.0f} s late")
    if row.state is SchedulerState.DRAINING:
        found.add(Status.WARN, "the scheduler is stopping and starts no new run")
    return row, SchedulerStatus(row.state.value)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _iso_seconds(moment: datetime | None) -> str:
    """The instant in UTC, to the second."""
    return "-" if moment is None else utc_iso(moment, timespec="seconds")
