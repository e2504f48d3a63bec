"""Definitions of jobs as plain JSON, without their functions: what a loader process gives, and what the cache keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import NEXT_FIRE, ApprovalTimeout, Budget, JobSpec, ParameterSpec, Retry, ToolSpec, not_loaded
from taskpilot.jobs.parameters import complete_parameters
from taskpilot.schedules.schedule import schedule_of

_DURATIONS: Final = ("deadline", "catch_up_window", "catch_up_stagger", "start_deadline", "jitter")
_OTHERS: Final = (
    *("function", "schedule", "retry", "retry_on", "budget", "tools", "notify", "parameters", "file", "file_digest"),
    "approval_timeout",
)
_PLAIN: Final = tuple(one.name for one in fields(JobSpec) if one.name not in (*_DURATIONS, *_OTHERS))
"""What JSON can say as it is: also each option that is added to `@job`."""
_MICROSECOND: Final = timedelta(microseconds=1)


def definition_json(spec: JobSpec) -> dict[str, Any]:
    """A job of a loaded file as JSON. Raises ConfigurationError for a schedule of another class than ours."""
    budget = spec.budget
    return {
        **{name: getattr(spec, name) for name in _PLAIN},
        **{name: _micros(getattr(spec, name)) for name in _DURATIONS},
        "schedule": None if spec.schedule is None else _described(spec.name, spec.schedule),
        "retry": {"attempts": spec.retry.attempts, "delay": _micros(spec.retry.delay), "max_delay": _micros(spec.retry.max_delay)},
        "retry_on": list(spec.retry_on),
        "budget": None if budget is None else {**asdict(budget), "usd": None if budget.usd is None else str(budget.usd)},
        "tools": [
            {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "idempotent": tool.idempotent,
                "approval_timeout": _micros(tool.approval_timeout),
            }
            for tool in spec.tools
        ],
        "approval_timeout": NEXT_FIRE if spec.approval_timeout == NEXT_FIRE else _micros(_as_duration(spec.approval_timeout)),
        "notify": None if spec.notify is None else list(spec.notify),
        "parameters": [asdict(parameter) for parameter in complete_parameters(spec)],
    }


def definition_of(data: Mapping[str, Any], *, file: Path, digest: str) -> JobSpec:
    """The definition in such JSON. Raises ValueError, KeyError or TypeError where it is not of this version."""
    retry, budget = data["retry"], data["budget"]
    plain: dict[str, Any] = {name: data[name] for name in _PLAIN}
    durations: dict[str, Any] = {name: _duration(data[name]) for name in _DURATIONS}
    return JobSpec(
        **plain,
        **durations,
        function=not_loaded,
        schedule=None if data["schedule"] is None else schedule_of(data["schedule"]),
        retry=Retry(retry["attempts"], delay=_duration(retry["delay"]), max_delay=_duration(retry["max_delay"])),
        budget=None if budget is None else Budget(**budget),
        tools=_tools(data["tools"]),
        notify=None if data["notify"] is None else tuple(data["notify"]),
        approval_timeout=NEXT_FIRE if data["approval_timeout"] == NEXT_FIRE else _duration(data["approval_timeout"]),
        file=file,
        file_digest=digest,
        retry_on=tuple(data["retry_on"]),
        parameters=tuple(ParameterSpec(**parameter) for parameter in data["parameters"]),
    )


def _tools(tools: Sequence[Mapping[str, Any]]) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec(**{**tool, "approval_timeout": _duration(tool["approval_timeout"])}, function=not_loaded) for tool in tools)


def _described(job: str, schedule: Schedule) -> str:
    text = schedule.describe()
    try:
        same = schedule_of(text) == schedule
    except ValueError:
        same = False
    if not same:
        raise ConfigurationError(f"job {job!r}: its schedule is a class of its own", hint="write it by cron(...), every(...) or at(...)")
    return text


def _as_duration(timeout: ApprovalTimeout | None) -> timedelta | None:
    return timeout if isinstance(timeout, timedelta) else None


def _micros(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // _MICROSECOND


def _duration(micros: int | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=micros)
