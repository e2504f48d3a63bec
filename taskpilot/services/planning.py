"""Turns a request into a plan that may be claimed, with every check that needs no run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from taskpilot.deployment import Deployment, compile_policy
from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.ids import new_id
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Run, TriggerKind
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.text import one_line
from taskpilot.jobs.parameters import input_parameters, read_parameters_file
from taskpilot.ledger.claims import RunPlan
from taskpilot.llm.factory import check_model
from taskpilot.llm.prices import Prices
from taskpilot.schedules.schedule import catch_up_window
from taskpilot.services.inputs import copy_inputs, forget_run_dir
from taskpilot.store.creation import prepare_state_dir


@dataclass(frozen=True)
class RunRequest:
    """A requested run."""

    job: str
    parameters: Sequence[tuple[str, str]] = ()
    parameters_file: Path | None = None
    values: Mapping[str, Any] | None = None
    """Parameters as JSON values, as a client of the API gives them; not beside a file."""
    scheduled_for: str | None = None
    """An ISO time with its zone, or `auto`."""
    model: str | None = None
    stdin: BinaryIO | None = None
    traceparent: str | None = None
    """The caller's span, checked: the run continues its trace."""


def request_again(run: Run, model: str | None = None) -> RunRequest:
    """The request for a new run with the parameters and the model of an earlier one; its input files are copies of that one's copies."""
    return RunRequest(run.job, values=run.parameters, model=model or run.model)


def plan_run(deployment: Deployment, request: RunRequest) -> RunPlan | Reason:
    """The plan, with its input files copied; or why there is nothing to do (`auto` and no fire in the window).

    Raises UsageError or ConfigurationError; nothing is claimed and no token is spent then.
    """
    spec = deployment.job(request.job)
    extra = request.values
    if request.parameters_file is not None:
        extra = read_parameters_file(_read(request.parameters_file), name=str(request.parameters_file))
    values = deployment.job_folder.parameters(spec, list(request.parameters), extra)
    model = choose_model(deployment, spec, request.model)
    check_configuration(deployment, spec, model, asked=request.model is not None)
    scheduled_for = None
    if request.scheduled_for is not None:
        found = _fire(spec, request.scheduled_for, deployment.now())
        if isinstance(found, Reason):
            return found
        scheduled_for = found
    run_id = new_id()
    typed = frozenset(name for name, _ in request.parameters)
    names = input_parameters(spec, values)
    if names:
        prepare_state_dir(deployment.settings.state_dir)
        run_dir = deployment.make_run_dir(run_id)
        try:
            values = copy_inputs(names, values, typed=typed, root=deployment.settings.root, run_dir=run_dir, stdin=request.stdin)
        except BaseException:
            forget_run_dir(run_dir)
            raise
    return RunPlan(
        run_id=run_id,
        spec=spec,
        parameters=values,
        model=model,
        trigger=TriggerKind.MANUAL if scheduled_for is None else TriggerKind.SCHEDULE,
        scheduled_for=scheduled_for,
        traceparent=request.traceparent,
    )


def plan_resume(deployment: Deployment, run: Run, model: str | None) -> RunPlan:
    """The plan of a further attempt: the run's own parameters, and its own model unless another one is named."""
    spec = deployment.job(run.job)
    chosen = model or run.model
    check_configuration(deployment, spec, chosen, asked=chosen is not None)
    return RunPlan(
        run_id=run.id, spec=spec, parameters=run.parameters, model=chosen, trigger=TriggerKind.RESUME, scheduled_for=run.scheduled_for
    )


def choose_model(deployment: Deployment, spec: JobSpec, asked: str | None) -> str | None:
    """`--model`, else the job's, else the settings'; None where none is named."""
    return asked or spec.model or deployment.settings.model


def check_configuration(deployment: Deployment, spec: JobSpec, model: str | None, *, asked: bool) -> None:
    """Raises ConfigurationError for what would fail every time: no way to the model, an unknown channel, a broken policy."""
    check_channels(deployment, spec)
    check_model_access(deployment, spec, model, asked=asked)
    if deployment.settings.policy_files:
        compile_policy(deployment.settings)


def check_channels(deployment: Deployment, spec: JobSpec) -> None:
    """Raises ConfigurationError where the job names a channel that the settings do not have."""
    known = deployment.settings.notify_channels
    for name in spec.notify or ():
        if name not in known:
            hint = f"there are {', '.join(known)}" if known else f"add [notify.channels.{one_line(name, limit=64)}] to taskpilot.toml"
            raise ConfigurationError(f"job {spec.name}: notify names {one_line(name, limit=64)}, which is not a channel", hint=hint)


def check_model_access(deployment: Deployment, spec: JobSpec, model: str | None, *, asked: bool) -> None:
    """Raises ConfigurationError where there is no way to the model, no price for a budget in USD, or an error in the list of prices.

    A job that names no model may be one that asks none: its model is checked at its first call.
    """
    settings = deployment.settings
    if model is not None and (asked or spec.model is not None):
        check_model(model, settings)
    prices = Prices(settings.prices_file)
    if spec.ceilings.usd is not None and spec.ceilings.unpriced == "refuse" and model is not None:
        _check_price(deployment, spec, model, prices)


def _check_price(deployment: Deployment, spec: JobSpec, model: str, prices: Prices) -> None:
    if not prices.known(model, base_url=deployment.settings.openai_base_url):
        raise ConfigurationError(
            f"job {spec.name} has a budget of {spec.ceilings.usd} USD, but the price of {one_line(model)} is not known. "
            "No token was spent.",
            hint=f"add it to {deployment.settings.root / 'prices.toml'}, or give the budget in tokens or calls; "
            "more: `taskpilot docs budgets`",
        )


def _fire(spec: JobSpec, text: str, now: datetime) -> datetime | Reason:
    if text == "auto":
        if spec.schedule is None:
            raise UsageError(
                f"job {spec.name} has no schedule, so --scheduled-for auto has no fire",
                hint="leave --scheduled-for out, or give the job a schedule=",
            )
        window = catch_up_window(spec.schedule, now, chosen=spec.catch_up_window)
        fire = spec.schedule.latest_at_or_before(now, within=window)
        if fire is None:
            return Reason(ReasonCode.NOTHING_DUE, {"window_seconds": window.total_seconds(), "schedule": spec.schedule.describe()})
        return fire
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--scheduled-for {one_line(text)} is not a time", hint="write it like 2026-12-24T08:00+01:00, or auto") from None
    if when.tzinfo is None:
        raise UsageError(f"--scheduled-for {one_line(text)} has no time zone", hint="write it like 2026-12-24T08:00+01:00")
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"--scheduled-for {one_line(text)} is outside of the calendar") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"--params-file {path}: {error.strerror}") from None
