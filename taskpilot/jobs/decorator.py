"""`@job`: sets the schedule and the limits of a function."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, ParamSpec, TypeVar, cast, get_args, overload

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.options import checked_options
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import (
    DEFAULT_CATCH_UP_LIMIT,
    DEFAULT_DEADLINE,
    DEFAULT_STAGGER,
    DEFAULT_TASK_TOOL_CALLS,
    NEXT_FIRE,
    ApprovalTimeout,
    Budget,
    CatchUp,
    JobSpec,
    Overlap,
    OverlapWaiting,
    Retry,
    ToolSpec,
    is_job_name,
    parse_approval_timeout,
)
from taskpilot.domain.text import one_line
from taskpilot.domain.times import parse_duration
from taskpilot.tools.decorator import is_tool, tool_spec
from taskpilot.tools.signature import check_named, check_plain, declared_parameters

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

SPEC_ATTRIBUTE: Final = "__taskpilot_job__"
TOOLS_ATTRIBUTE: Final = "__taskpilot_job_tools__"

_CONTEXT_NAMES: Final = frozenset({"ctx", "_ctx", "context", "_context", "_"})
_PING: Final = re.compile(r"https?://[^\s/?#@]+[^\s#]*")
_OVERLAPS: Final = get_args(Overlap)
_OVERLAPS_WAITING: Final = get_args(OverlapWaiting)
_CATCH_UPS: Final = get_args(CatchUp)


@overload
def job(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def job(
    *,
    schedule: Schedule | None = None,
    deadline: str | timedelta | None = None,
    retry: Retry | None = None,
    overlap: Overlap = "skip",
    overlap_waiting: OverlapWaiting = "count",
    approval_timeout: str | timedelta | None = None,
    catch_up: CatchUp = "last",
    catch_up_window: str | timedelta | None = None,
    catch_up_limit: int = DEFAULT_CATCH_UP_LIMIT,
    catch_up_stagger: str | timedelta = DEFAULT_STAGGER,
    start_deadline: str | timedelta | None = None,
    jitter: str | timedelta | None = None,
    pause_on_failure: int | bool | None = None,
    budget: Budget | None = None,
    task_tool_calls: int = DEFAULT_TASK_TOOL_CALLS,
    model: str | None = None,
    tools: Sequence[Callable[..., Any]] = (),
    notify: Sequence[str] | None = None,
    ping_url: str | None = None,
    name: str | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@checked_options("@job")
def job(
    function: Callable[P, R] | None = None,
    /,
    *,
    schedule: Schedule | None = None,
    deadline: str | timedelta | None = None,
    retry: Retry | None = None,
    overlap: Overlap = "skip",
    overlap_waiting: OverlapWaiting = "count",
    approval_timeout: str | timedelta | None = None,
    catch_up: CatchUp = "last",
    catch_up_window: str | timedelta | None = None,
    catch_up_limit: int = DEFAULT_CATCH_UP_LIMIT,
    catch_up_stagger: str | timedelta = DEFAULT_STAGGER,
    start_deadline: str | timedelta | None = None,
    jitter: str | timedelta | None = None,
    pause_on_failure: int | bool | None = None,
    budget: Budget | None = None,
    task_tool_calls: int = DEFAULT_TASK_TOOL_CALLS,
    model: str | None = None,
    tools: Sequence[Callable[..., Any]] = (),
    notify: Sequence[str] | None = None,
    ping_url: str | None = None,
    name: str | None = None,
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function a job: `def triage(ctx: RunContext, inbox: str = "inbox.jsonl") -> str`, with `@job` or `@job(...)` above it.

    schedule: `cron(...)`, `every(...)`, `at(...)` or None.
    deadline: the active time of all attempts together, "15m"; 1 hour by default.
    retry: `Retry(attempts=3)`.
    overlap: what happens if a fire is due while a run of the job is active: "skip", "buffer_one" or "buffer_all" (it starts when that
    run has ended), "cancel_other" (SIGTERM and 10 s), "terminate_other" (SIGKILL) or "allow_all".
    overlap_waiting: "count": a fire is skipped while a run of the job waits for a person, but with "allow_all"; "ignore": it is not.
    approval_timeout: how long a question to a person is open, "8h"; without an answer it is denied. "next_fire": until the job is due
    again. Without it, what the settings say, 24 hours by default.
    catch_up: which fires run after an outage: "skip", "last" or "all" (the newest `catch_up_limit`), none older than `catch_up_window`
    ("2h"; by default half the period), started `catch_up_stagger` apart.
    start_deadline: a fire that cannot start within this time is missed.
    jitter: a fire starts up to this much later, always the same for the same fire.
    pause_on_failure: the job is paused after this many failed runs in a row; True is 1.
    budget: `Budget(...)` of one run; 1 USD, 200 LLM calls and 200 tool calls by default.
    task_tool_calls: tool calls that the executor may make for one approved task; 20 by default.
    model: a name. tools: functions decorated with `@tool`.
    notify: the channels of the settings that are told of it, ["ops"]; those of `[notify] default` without it, nobody with [].
    ping_url: a Healthchecks-compatible URL that gets the start and the exit code of each run.
    name: by default the function's name; `[a-z][a-z0-9_]{0,62}`.

    The function stays callable as before. Raises ConfigurationError that names the option.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        title = getattr(function, "__name__", "") if name is None else name
        if not isinstance(title, str) or not is_job_name(title):
            raise ConfigurationError(f"'{one_line(str(title))}' is not a job name: a to z, 0 to 9 and _, a letter first, at most 63")
        _check_function(function, title)
        attempts = _instance(title, "retry", retry, Retry, "Retry(attempts=3)") or Retry()
        spec = JobSpec(
            name=title,
            function=function,
            description=inspect.getdoc(function) or "",
            schedule=_instance(title, "schedule", schedule, Schedule, 'cron("0 7 * * *"), every("15m") or at("2026-12-24T08:00Z")'),
            deadline=_duration(title, "deadline", deadline) or DEFAULT_DEADLINE,
            retry=attempts,
            overlap=cast("Overlap", _choice(title, "overlap", overlap, _OVERLAPS)),
            overlap_waiting=cast("OverlapWaiting", _choice(title, "overlap_waiting", overlap_waiting, _OVERLAPS_WAITING)),
            approval_timeout=_approval_timeout(title, approval_timeout),
            catch_up=cast("CatchUp", _choice(title, "catch_up", catch_up, _CATCH_UPS)),
            catch_up_window=_duration(title, "catch_up_window", catch_up_window),
            catch_up_limit=_count(title, "catch_up_limit", catch_up_limit),
            catch_up_stagger=_duration(title, "catch_up_stagger", catch_up_stagger) or DEFAULT_STAGGER,
            start_deadline=_duration(title, "start_deadline", start_deadline),
            jitter=_duration(title, "jitter", jitter) or timedelta(0),
            pause_on_failure=_failures(title, pause_on_failure),
            budget=_instance(title, "budget", budget, Budget, 'Budget(usd="0.50")'),
            task_tool_calls=_count(title, "task_tool_calls", task_tool_calls),
            model=_model(title, model),
            notify=_channels(title, notify),
            ping_url=_ping_url(title, ping_url),
            retry_on=tuple(kind.__name__ for kind in attempts.on),
            line=inspect.unwrap(function).__code__.co_firstlineno,
        )
        if spec.start_deadline is not None and spec.start_deadline <= spec.jitter:
            raise ConfigurationError(
                f"job {title!r}: start_deadline={start_deadline!r} must be longer than jitter={jitter!r}, or fires would be missed"
            )
        setattr(function, SPEC_ATTRIBUTE, spec)
        setattr(function, TOOLS_ATTRIBUTE, _tools(title, tools))
        return function

    return decorate if function is None else decorate(function)


def job_spec(function: Callable[..., Any]) -> JobSpec:
    """The job of a decorated function, with its tools resolved. Raises ConfigurationError if it is not a job."""
    spec = getattr(function, SPEC_ATTRIBUTE, None)
    if not isinstance(spec, JobSpec):
        raise ConfigurationError(f"{getattr(function, '__qualname__', function)!r} is not a job", hint="put @job above it")
    if spec.function is not function:
        raise ConfigurationError(f"job {spec.name!r}: a decorator above @job has no effect on its runs", hint="put @job at the top")
    functions = getattr(function, TOOLS_ATTRIBUTE, ())
    return replace(spec, tools=_resolved(spec.name, functions)) if functions else spec


def _resolved(title: str, functions: Sequence[Callable[..., Any]]) -> tuple[ToolSpec, ...]:
    specs = tuple(tool_spec(function) for function in functions)
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"job {title!r} lists two tools with the name {name!r}")
    return specs


def _check_function(function: Callable[..., Any], title: str) -> None:
    """Raises ConfigurationError for anything but a plain synchronous function with a context and then annotated parameters."""
    if not inspect.isfunction(function):
        raise ConfigurationError(f"@job decorates plain functions, not {type(function).__name__!r} objects")
    check_plain(function, f"job {title!r}")
    head = declared_parameters(function)
    if not head or not _takes_context(head[0]):
        hint = f"write def {function.__name__}(ctx: RunContext, ...)"
        raise ConfigurationError(f"job {title!r} must take the run's context first", hint=hint)
    check_named(head[1:], f"job {title!r}")


def _takes_context(parameter: inspect.Parameter) -> bool:
    if parameter.kind not in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
        return False
    return parameter.name in _CONTEXT_NAMES or "RunContext" in str(parameter.annotation)


def _choice(title: str, option: str, value: object, known: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in known:
        return value
    choices = ", ".join(f'"{one}"' for one in known)
    raise ConfigurationError(f"job {title!r}: {option}={one_line(repr(value), limit=80)} is not known", hint=f"use one of {choices}")


def _count(title: str, option: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ConfigurationError(f"job {title!r}: {option}={one_line(repr(value), limit=80)} must be a whole number, at least 1")


def _failures(title: str, value: object) -> int | None:
    if value is None or value is False:
        return None
    return 1 if value is True else _count(title, "pause_on_failure", value)


def _duration(title: str, option: str, value: str | timedelta | None) -> timedelta | None:
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise ConfigurationError(f"job {title!r}: {option}: {error}") from None


def _approval_timeout(title: str, value: str | timedelta | None) -> ApprovalTimeout | None:
    if value is None or value == NEXT_FIRE:
        return NEXT_FIRE if value else None
    try:
        return parse_approval_timeout(value)
    except ValueError as error:
        raise ConfigurationError(f'job {title!r}: approval_timeout: {error}; or "{NEXT_FIRE}"') from None


def _instance(title: str, option: str, value: T | None, kind: type[Any], example: str) -> T | None:
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"job {title!r}: {option}={one_line(repr(value), limit=80)} is not valid", hint=f"write {example}")
    return value


def _model(title: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value.strip() == value != "" and value.isprintable()):
        return value
    raise ConfigurationError(f"job {title!r}: model={one_line(repr(value), limit=80)} is not a name", hint='write it like "gpt-4o-mini"')


def _channels(title: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value):
        return tuple(dict.fromkeys(value))
    raise ConfigurationError(
        f"job {title!r}: notify={one_line(repr(value), limit=80)} is not a list of channels", hint='write notify=["ops"]'
    )


def _ping_url(title: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and _PING.fullmatch(value)):
        return value
    # Not the value: its path is a password.
    raise ConfigurationError(f"job {title!r}: ping_url is not an http or https URL", hint='write it like "https://hc-ping.com/..."')


def _tools(title: str, tools: object) -> tuple[Callable[..., Any], ...]:
    if tools is None:
        return ()
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise ConfigurationError(f"job {title!r}: tools must be a list of functions")
    for tool in tools:
        if not is_tool(tool):
            shown = getattr(tool, "__qualname__", None) or repr(tool)
            raise ConfigurationError(f"job {title!r}: {one_line(shown, limit=80)} in tools is not a tool", hint="put @tool above it")
    return tuple(tools)
