"""Pushes a job's totals to the Pushgateway, read and pushed under one lock, and knows what is still pending."""

import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.instruments import STORE_INFO, TELEMETRY_FAILURES
from taskpilot.domain.text import one_line
from taskpilot.domain.times import utc_now
from taskpilot.http import Answer, Unanswered, exchange, shown
from taskpilot.store import totals
from taskpilot.store.database import Store
from taskpilot.store.metrics_queries import pending_jobs, record_delivered, record_failed, record_removed
from taskpilot.store.schedulers import awake_schedulers
from taskpilot.telemetry.job_facts import JobFacts
from taskpilot.telemetry.locks import WaitBudget, file_lock
from taskpilot.telemetry.metrics import registry_of, snapshot_of
from taskpilot.telemetry.scheduler_metrics import scheduler_registry, scheduler_snapshot

JOB: Final = "taskpilot"
"""The label `job` of every group; our job is `job_name`."""

_SCHEDULER_LOCK: Final = "scheduler-group.lock"
"""No job can have this name: two schedulers of one store take turns."""
_GROUPS_MAX: Final = 64 * 1024 * 1024
"""As much of the gateway's list of groups is read."""


class GatewayUnreachable(TaskPilotError):
    """The Pushgateway gave no usable answer."""

    exit_code = ExitCode.TEMPORARY
    permanent = False

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(
            f"the Pushgateway at {shown(url)} gave no usable answer: {cause}",
            hint="start the gateway, or correct TASKPILOT_PUSHGATEWAY_URL; nothing is lost, what is pending is pushed later",
        )


@dataclass(frozen=True, slots=True)
class PushResult:
    """What came of one push."""

    delivered: bool
    """The gateway answered that it has the values."""
    pending: bool
    """It must be pushed again, also after a delivery while an older push may still land."""
    error: str | None = None


def push_job(
    store: Store,
    facts: JobFacts,
    url: str,
    state_dir: Path,
    *,
    seconds_left: float,
    now: Callable[[], datetime] = utc_now,
    only_if_pending: bool = False,
) -> PushResult:
    """Pushes one job's group within `seconds_left`, waiting for its lock included, and records what came of it.

    `only_if_pending`: where another process pushed our change while we waited for the lock, there is nothing left to do.
    Never raises for a gateway; raises StoreError or StoreBusy where the record cannot be read or written.
    """
    deadline = time.monotonic() + seconds_left
    with file_lock(state_dir / "locks" / f"{facts.name}.gateway.lock", WaitBudget(seconds_left)) as got:
        if not got:
            return PushResult(delivered=False, pending=True, error="another process holds this job's gateway lock")
        # Read only now: who waits for the lock with values in hand would put older ones over newer ones.
        snapshot = snapshot_of(store, facts.name)
        version = snapshot.version(facts.name)
        if only_if_pending and not snapshot.pending(facts.name):
            return PushResult(delivered=True, pending=False)
        registry = registry_of(lambda: snapshot, [facts], unknown_as_nan=True)
        error, late = _push(url, _group(store.deployment, facts.name), registry, deadline)
        with store.write() as connection:
            if error is None:
                return PushResult(delivered=True, pending=record_delivered(connection, facts.name, version, now()))
            record_failed(connection, facts.name, error, timed_out_at=now() if late else None)
            # The ledger did not change by it: no new version, or each failure would owe one more push.
            totals.add(connection, facts.name, [totals.count(TELEMETRY_FAILURES, sink="gateway")])
            return PushResult(delivered=False, pending=True, error=error)


def push_pending(
    store: Store,
    url: str,
    state_dir: Path,
    *,
    describe: Callable[[str], JobFacts | None],
    seconds_left: float,
    now: Callable[[], datetime] = utc_now,
    leave_out: Collection[str] = (),
) -> dict[str, PushResult]:
    """Pushes every group that is pending, as far as the time goes; stops at the first that the gateway does not take in time.

    `describe` gives a job's facts, or None where only its name is known.
    """
    deadline = time.monotonic() + seconds_left
    with store.read() as connection:
        jobs = [job for job in pending_jobs(connection, now()) if job not in leave_out]
    results: dict[str, PushResult] = {}
    for job in jobs:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        facts = describe(job) or JobFacts(job, configured=False)
        results[job] = result = push_job(store, facts, url, state_dir, seconds_left=left, now=now, only_if_pending=True)
        if not result.delivered:
            break
    return results


def push_scheduler(store: Store, url: str, state_dir: Path, *, seconds_left: float) -> PushResult:
    """Pushes the scheduler's group within `seconds_left`. Never raises: nothing is recorded of it, the next push is 15 s away."""
    deadline = time.monotonic() + seconds_left
    try:
        with file_lock(state_dir / "locks" / _SCHEDULER_LOCK, WaitBudget(seconds_left)) as got:
            if not got:
                return PushResult(delivered=False, pending=True, error="another scheduler holds the lock of this group")
            registry = scheduler_registry(scheduler_snapshot(store))
            error, _ = _push(url, {"deployment": store.deployment, "component": "scheduler"}, registry, deadline)
    except TaskPilotError as refusal:
        error = str(refusal)
    return PushResult(delivered=error is None, pending=error is not None, error=error)


@dataclass(frozen=True, slots=True)
class Group:
    """One group of series in the gateway."""

    labels: dict[str, str]
    store_ids: tuple[str, ...]
    """Who fills it, as `taskpilot_store_info` says; empty where nobody said so."""


def groups_of(url: str, *, seconds: float = 5.0) -> list[Group]:
    """Every group that the gateway holds. Raises GatewayUnreachable where it does not say."""
    try:
        answer = exchange("GET", f"{_base(url)}/api/v1/metrics", seconds=seconds, body_max=_GROUPS_MAX)
        groups = json.loads(answer.body)["data"] if answer.status == 200 else None
    except (Unanswered, ValueError, KeyError, TypeError) as error:
        raise GatewayUnreachable(url, one_line(str(error))) from error
    if not isinstance(groups, list):
        raise GatewayUnreachable(url, f"its answer {answer.status} to /api/v1/metrics is no list of groups")
    return [
        Group({str(name): str(value) for name, value in group["labels"].items()}, tuple(_store_ids(group)))
        for group in groups
        if isinstance(group, dict) and isinstance(group.get("labels"), dict)
    ]


def foreign_store(url: str, deployment: str, job: str, store_id: str, *, seconds: float = 5.0) -> str | None:
    """The id of another store that fills this job's group, or None. Raises GatewayUnreachable where the gateway does not say."""
    ours = {"job": JOB, "deployment": deployment, "job_name": job}
    owners = [owner for group in groups_of(url, seconds=seconds) if group.labels == ours for owner in group.store_ids]
    return next((owner for owner in owners if owner != store_id), None)


def groups_of_jobs(url: str, deployment: str, *, seconds: float = 5.0) -> dict[str, Group]:
    """By job, the groups that are exactly what a push of this deployment makes. Raises GatewayUnreachable."""
    ours = {"job": JOB, "deployment": deployment}
    found = ((group.labels.get("job_name", ""), group) for group in groups_of(url, seconds=seconds))
    return {job: group for job, group in found if job and group.labels == {**ours, "job_name": job}}


def retire_group(store: Store, url: str, state_dir: Path, job: str, *, seconds_left: float) -> None:
    """Removes the group of a job that is gone, and with it what is pending of it; no push of ours can land meanwhile.

    Raises GatewayUnreachable, also where another process pushes the group all the time.
    """
    deadline = time.monotonic() + seconds_left
    with file_lock(state_dir / "locks" / f"{job}.gateway.lock", WaitBudget(seconds_left)) as got:
        if not got:
            raise GatewayUnreachable(url, f"another process holds the lock of {one_line(job)}'s group")
        delete_group(url, store.deployment, job, seconds=deadline - time.monotonic())
        with store.write() as connection:
            record_removed(connection, job)


def delete_group(url: str, deployment: str, job: str, *, seconds: float = 5.0) -> None:
    """Removes the group of a job that is gone. Raises GatewayUnreachable."""
    _delete(url, _group(deployment, job), seconds)


def retire_scheduler(store: Store, url: str, state_dir: Path, *, seconds: float, now: Callable[[], datetime] = utc_now) -> None:
    """Removes the scheduler's group at an orderly end, where no other scheduler fills it: its last tick would alarm for ever.

    Raises GatewayUnreachable.
    """
    with file_lock(state_dir / "locks" / _SCHEDULER_LOCK, WaitBudget(seconds)) as got, store.read() as connection:
        if got and not awake_schedulers(connection, now()):
            _delete(url, {"deployment": store.deployment, "component": "scheduler"}, seconds)


def _delete(url: str, group: dict[str, str], seconds: float) -> None:
    from prometheus_client import delete_from_gateway

    answers: list[Answer] = []
    try:
        delete_from_gateway(_base(url), JOB, grouping_key=group, handler=_handler(answers, time.monotonic() + seconds))
    except (Unanswered, ValueError) as error:
        raise GatewayUnreachable(url, str(error)) from error
    if answers[0].status not in (200, 202):
        raise GatewayUnreachable(url, _refusal(answers[0]))


def _push(url: str, group: dict[str, str], registry: Any, deadline: float) -> tuple[str | None, bool]:
    """The error, if any, and whether the push may still land."""
    from prometheus_client import pushadd_to_gateway

    answers: list[Answer] = []
    try:
        pushadd_to_gateway(_base(url), JOB, registry, grouping_key=group, handler=_handler(answers, deadline))
    except Unanswered as error:
        return str(error), error.late
    except ValueError as error:
        return one_line(str(error)), False
    if answers[0].status in (200, 202):
        return None, False
    return _refusal(answers[0]), answers[0].late


def _handler(answers: list[Answer], deadline: float) -> Callable[..., Callable[[], None]]:
    """prometheus_client's own handler bounds each read, not the whole; a server that drips held it for 11 s."""

    def prepare(url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes) -> Callable[[], None]:
        del timeout

        def ask() -> None:
            answers.append(exchange(method, url, seconds=deadline - time.monotonic(), body=data, headers=dict(headers)))

        return ask

    return prepare


def _group(deployment: str, job: str) -> dict[str, str]:
    return {"deployment": deployment, "job_name": job}


def _base(url: str) -> str:
    return (url if "://" in url else f"http://{url}").rstrip("/")


def _store_ids(group: dict[str, Any]) -> list[str]:
    family = group.get(STORE_INFO.name)
    metrics = family.get("metrics") if isinstance(family, dict) else None
    found = [metric.get("labels", {}).get("store_id") for metric in metrics or () if isinstance(metric, dict)]
    return [one for one in found if isinstance(one, str)]


def _refusal(answer: Answer) -> str:
    said = one_line(answer.body.decode("utf-8", "replace"))
    return f"it answered {answer.status}" + (f": {said}" if said else "")
