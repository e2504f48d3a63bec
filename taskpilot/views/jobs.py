"""The defined jobs: when they run next, how they ran last, and whether they are valid."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from taskpilot.deployment import Deployment, compile_policy
from taskpilot.domain.attention import Attention
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.fires import Pause
from taskpilot.domain.runs import Run
from taskpilot.domain.specs import JobSpec, ParameterSpec
from taskpilot.jobs.catalog import BrokenFile
from taskpilot.jobs.parameters import check_parameters, describe_parameters
from taskpilot.messages.attention import commanded
from taskpilot.messages.shapes import iso
from taskpilot.schedules.clock_changes import ClockWarning, clock_warnings
from taskpilot.store.metrics_queries import last_runs
from taskpilot.store.records import run_of
from taskpilot.store.schedules import pauses_in_force
from taskpilot.views.attention import attention_json, find_attention, open_by_job, yesterday_evening
from taskpilot.views.health import read_scheduler


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job with its next fire, its newest run and its pause."""

    spec: JobSpec
    next_fire: datetime | None
    last_run: Run | None
    pause: Pause | None = None
    attention: Attention | None = None
    """What of it needs a person: a run that ended badly, a fire that did not start, a question."""


@dataclass(frozen=True, slots=True)
class JobWarning:
    """A change of daylight saving time within 400 days that skips or repeats fires of a job."""

    job: str
    night: ClockWarning

    def __str__(self) -> str:
        """One line of text."""
        return f"{self.job}: {self.night.sentence}"


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of checking the job files and the policy."""

    jobs: tuple[str, ...]
    broken: tuple[BrokenFile, ...]
    policy_error: str | None
    warnings: tuple[JobWarning, ...] = ()
    """They prevent no run and change no exit code."""

    @property
    def ok(self) -> bool:
        """Whether every checked job can run."""
        return not self.broken and self.policy_error is None


def list_jobs(deployment: Deployment, *, after: str = "", limit: int | None = None) -> list[JobLine]:
    """Every job that can be loaded, or a page of them, by name. Creates no store."""
    specs = list(islice((spec for spec in deployment.catalog.jobs.values() if spec.name > after), limit))
    recorded = _recorded(deployment, [spec.name for spec in specs])
    return [_line(deployment, spec, recorded) for spec in specs]


def show_job(deployment: Deployment, name: str) -> JobLine:
    """One job. Raises UsageError where it is unknown, ConfigurationError where its file is broken."""
    spec = deployment.job(name)
    return _line(deployment, spec, _recorded(deployment, [name]))


def next_fires(deployment: Deployment, name: str | None, count: int) -> list[tuple[JobSpec, datetime]]:
    """The next fires of one job, or of all together, the earliest first. Raises UsageError or ConfigurationError."""
    specs = _chosen(deployment, name)
    now = deployment.now()
    fires = [(spec, fire) for spec in specs if spec.schedule for fire in islice(_fires(spec, now), count)]
    return sorted(fires, key=lambda pair: (pair[1], pair[0].name))[:count]


def job_warnings(deployment: Deployment, name: str | None = None) -> list[JobWarning]:
    """The warnings of one job or of all, by job and time. Raises UsageError or ConfigurationError."""
    return _warnings(deployment, _chosen(deployment, name))


def validate_jobs(deployment: Deployment, name: str | None = None) -> Validation:
    """Loads every job file, or that of one job, and compiles the policy. Raises UsageError for an unknown job."""
    catalog = deployment.use_catalog(deployment.job_folder.read(again=True))
    specs, broken = list(catalog.jobs.values()), list(catalog.broken)
    if name is not None:
        broken = [file for file in broken if name in file.names]
        specs = [] if broken else [catalog.get(name)]
    invalid = {spec.name: file for spec in specs if (file := _invalid(spec)) is not None}
    valid = [spec for spec in specs if spec.name not in invalid]
    broken += invalid.values()
    policy_error = None
    try:
        compile_policy(deployment.settings)
    except ConfigurationError as error:
        policy_error = error.one_line
    return Validation(tuple(spec.name for spec in valid), tuple(broken), policy_error, tuple(_warnings(deployment, valid)))


def line_json(line: JobLine, command: Callable[[Sequence[str]], str] = commanded) -> dict[str, Any]:
    """A job as a JSON value; `command` makes a line to paste from the words after `taskpilot`."""
    spec, ceilings = line.spec, line.spec.ceilings
    last = line.last_run
    return {
        "job": spec.name,
        "description": spec.description,
        "file": str(spec.file) if spec.file else None,
        "schedule": spec.schedule.describe() if spec.schedule else None,
        "zone": spec.schedule.zone if spec.schedule else None,
        "next_fire": iso(line.next_fire),
        "last_run": None if last is None else {"run_id": last.id, "status": last.status.value, "started_at": iso(last.started_at)},
        "paused": None if line.pause is None else pause_json(line.pause),
        "attention": None if line.attention is None else attention_json(line.attention, command),
        "model": spec.model,
        "deadline_seconds": spec.deadline.total_seconds(),
        "attempts": spec.retry.attempts,
        "overlap": spec.overlap,
        "budget": {
            "usd": None if ceilings.usd is None else str(ceilings.usd),
            "tokens": ceilings.tokens,
            "llm_calls": ceilings.llm_calls,
            "tool_calls": ceilings.tool_calls,
        },
        "tools": [tool.name for tool in spec.tools],
    }


def warning_json(warning: JobWarning) -> dict[str, Any]:
    """A warning as a JSON value; `clock_set_at` is the instant of the change."""
    change = warning.night.change
    return {
        "job": warning.job,
        "zone": change.zone,
        "kind": change.kind.value,
        "date": warning.night.walls[0].date().isoformat(),
        "clock_set_at": iso(change.at),
        "message": warning.night.sentence,
    }


def pause_json(pause: Pause) -> dict[str, Any]:
    """A pause that is in force, as a JSON value."""
    return {"since": iso(pause.paused_at), "by": pause.paused_by, "note": pause.note}


def parameters_json(spec: JobSpec) -> list[dict[str, Any]]:
    """A job's parameters as JSON values; defaults as Python literals."""
    return [
        {"name": one.name, "type": type_words(one), "required": one.required, "default": one.default_text}
        for one in describe_parameters(spec)
    ]


def type_words(parameter: ParameterSpec) -> str:
    """What `-p NAME=` takes."""
    return "file, or - for stdin" if parameter.input else parameter.type_text


def _chosen(deployment: Deployment, name: str | None) -> list[JobSpec]:
    return list(deployment.catalog.jobs.values()) if name is None else [deployment.job(name)]


def _warnings(deployment: Deployment, specs: list[JobSpec]) -> list[JobWarning]:
    now = deployment.now()
    return [JobWarning(spec.name, night) for spec in specs for night in clock_warnings(spec.schedule, now)]


def _invalid(spec: JobSpec) -> BrokenFile | None:
    """The error in the types or defaults of a job's parameters; None without one."""
    try:
        check_parameters(spec)
    except ConfigurationError as error:
        return BrokenFile(spec.file or Path(), spec.line, error.one_line, frozenset({spec.name}))
    return None


def _fires(spec: JobSpec, start: datetime) -> Iterator[datetime]:
    fire = spec.schedule.next_after(start) if spec.schedule else None
    while fire is not None and spec.schedule is not None:
        yield fire
        fire = spec.schedule.next_after(fire)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What the store has of jobs, by name."""

    newest: Mapping[str, Run] = field(default_factory=dict)
    paused: Mapping[str, Pause] = field(default_factory=dict)
    attention: Mapping[str, Attention] = field(default_factory=dict)


def _line(deployment: Deployment, spec: JobSpec, found: _Recorded) -> JobLine:
    fire = spec.schedule.next_after(deployment.now()) if spec.schedule else None
    return JobLine(spec, fire, found.newest.get(spec.name), found.paused.get(spec.name), found.attention.get(spec.name))


def _recorded(deployment: Deployment, names: list[str]) -> _Recorded:
    if deployment.store_is_missing:
        return _Recorded()
    now = deployment.now()
    with deployment.store.read() as connection:
        _row, server = read_scheduler(connection, deployment)
        attention = find_attention(connection, since=yesterday_evening(now), now=now, server=server)
        newest = {job: run_of(row) for job, row in last_runs(connection, names).items()}
        return _Recorded(newest, pauses_in_force(connection), open_by_job(attention))
