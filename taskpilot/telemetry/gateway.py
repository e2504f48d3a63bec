"""Pushes totals to the Pushgateway, each group read and pushed under one lock, and records what is still pending."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.instruments import STORE_INFO, TELEMETRY_FAILURES
from taskpilot.domain.text import one_line
from taskpilot.domain.times import boot_time, utc_now
from taskpilot.files import WaitBudget, file_lock
from taskpilot.http import Answer, Deadline, Unanswered, exchange, shown
from taskpilot.store import totals
from taskpilot.store.database import Store
from taskpilot.store.metrics_queries import pending_jobs, record_delivered, record_failed, record_removed
from taskpilot.store.schedulers import awake_schedulers
from taskpilot.telemetry.metrics import JobFacts, SchedulerCollector, StoreCollector, registry_of, snapshot_of
from taskpilot.telemetry.redaction import Redactor

JOB: Final = "taskpilot"
"""The label `job` of every group; our job is `job_name`."""

_SCHEDULER_LOCK: Final = "scheduler-group.lock"
"""No job can have this name. Two schedulers of one store take turns."""
_GROUPS_MAX: Final = 64 * 1024 * 1024
"""How much of the gateway's list of groups is read."""


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
    """The result of one push."""

    delivered: bool
    """The gateway confirmed that it has the values."""
    pending: bool
    """It must be pushed again, also after a delivery while an older push may still arrive."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """The Pushgateway at `url`, and the store whose totals it gets."""

    store: Store
    url: str
    state_dir: Path
    now: Callable[[], datetime] = utc_now
    mask: Callable[[str], str] = Redactor().masked
    """Removes secrets from what the gateway answers: it may repeat the header that it refused."""

    def push(self, facts: JobFacts, *, seconds: float, only_if_pending: bool = False) -> PushResult:
        """Pushes one job's group within `seconds`, waiting for its lock included, and records the result.

        `only_if_pending`: where another process pushed our change while we waited for the lock, there is nothing left to do.
        Never raises for a gateway; raises StoreError or StoreBusy where the record cannot be read or written.
        """
        deadline, store = Deadline(seconds), self.store
        with self._lock(facts.name, seconds) as got:
            if not got:
                return PushResult(delivered=False, pending=True, error="another process holds this job's gateway lock")
            # Read only now: values read before the wait for the lock would replace newer ones.
            snapshot = snapshot_of(store, facts.name)
            version = snapshot.version(facts.name)
            if only_if_pending and not snapshot.pending(facts.name):
                return PushResult(delivered=True, pending=False)
            registry = registry_of(StoreCollector(snapshot, [facts], unknown_as_nan=True))
            error, late = _push(self.url, _group(store.deployment, facts.name), registry, deadline, self.mask)
            with store.write() as connection:
                if error is None:
                    return PushResult(delivered=True, pending=record_delivered(connection, facts.name, version, self.now()))
                record_failed(connection, facts.name, error, timed_out_at=self.now() if late else None)
                # The ledger did not change by it: no new version, or each failure would make one more push pending.
                totals.add(connection, facts.name, [totals.count(TELEMETRY_FAILURES, sink="gateway")])
                return PushResult(delivered=False, pending=True, error=error)

    def push_pending(
        self, describe: Callable[[str], JobFacts | None], *, seconds: float, first: JobFacts | None = None
    ) -> dict[str, PushResult]:
        """Pushes every group that is pending, `first` before all others; stops at the first that the gateway does not take in time.

        `describe` gives a job's facts, or None where only its name is known.
        """
        deadline = Deadline(seconds)
        results: dict[str, PushResult] = {}
        if first is not None:
            results[first.name] = self.push(first, seconds=seconds, only_if_pending=True)
            if not results[first.name].delivered:
                return results
        # Read only now: processes that end at the same time have pushed their own jobs meanwhile.
        with self.store.read() as connection:
            jobs = [job for job in pending_jobs(connection, self.now()) if job not in results]
        for job in jobs:
            left = deadline.left
            if left <= 0:
                break
            results[job] = self.push(describe(job) or JobFacts(job, configured=False), seconds=left, only_if_pending=True)
            if not results[job].delivered:
                break
        return results

    def push_scheduler(self, *, seconds: float) -> PushResult:
        """Pushes the scheduler's group within `seconds`. Never raises: nothing is recorded of it, the next push is 15 s away."""
        deadline = Deadline(seconds)
        try:
            with file_lock(self.state_dir / "locks" / _SCHEDULER_LOCK, WaitBudget(seconds)) as got:
                if not got:
                    return PushResult(delivered=False, pending=True, error="another scheduler holds the lock of this group")
                registry = registry_of(SchedulerCollector.of(self.store))
                error, _ = _push(self.url, _scheduler_group(self.store.deployment), registry, deadline, self.mask)
        except TaskPilotError as refusal:
            error = str(refusal)
        return PushResult(delivered=error is None, pending=error is not None, error=error)

    def delete(self, job: str, *, seconds: float) -> None:
        """Deletes the group of a removed job, and what is pending for it; no push of ours can arrive meanwhile.

        Raises GatewayUnreachable, also where another process holds the lock of the group all the time.
        """
        deadline = Deadline(seconds)
        with self._lock(job, seconds) as got:
            if not got:
                raise GatewayUnreachable(self.url, f"another process holds the lock of {one_line(job)}'s group")
            _delete(self.url, _group(self.store.deployment, job), deadline, self.mask)
            with self.store.write() as connection:
                record_removed(connection, job)

    def delete_scheduler(self, *, seconds: float) -> None:
        """Deletes the scheduler's group at an orderly end, unless another scheduler fills it: its old last tick would keep an alert firing.

        Raises GatewayUnreachable.
        """
        deadline = Deadline(seconds)
        with file_lock(self.state_dir / "locks" / _SCHEDULER_LOCK, WaitBudget(seconds)) as got, self.store.read() as connection:
            if got and not awake_schedulers(connection, boot_time()):
                _delete(self.url, _scheduler_group(self.store.deployment), deadline, self.mask)

    def _lock(self, job: str, seconds: float) -> AbstractContextManager[bool]:
        return file_lock(self.state_dir / "locks" / f"{job}.gateway.lock", WaitBudget(seconds))


@dataclass(frozen=True, slots=True)
class Group:
    """One group of series in the gateway."""

    labels: dict[str, str]
    store_ids: tuple[str, ...]
    """The stores that fill it, by `taskpilot_store_info`; empty where the group has none."""


def groups_of(url: str, *, seconds: float = 5.0) -> list[Group]:
    """Every group that the gateway has. Raises GatewayUnreachable where it gives no list."""
    try:
        answer = exchange("GET", f"{_base(url)}/api/v1/metrics", seconds=seconds, body_max=_GROUPS_MAX)
        groups = json.loads(answer.body)["data"] if answer.status == 200 else None
    except (Unanswered, ValueError, KeyError, TypeError) as error:
        raise GatewayUnreachable(url, one_line(str(error))) from error
    if not isinstance(groups, list):
        raise GatewayUnreachable(url, f"its answer {answer.status} to /api/v1/metrics is not a list of groups")
    return [
        Group({str(name): str(value) for name, value in group["labels"].items()}, tuple(_store_ids(group)))
        for group in groups
        if isinstance(group, dict) and isinstance(group.get("labels"), dict)
    ]


def foreign_store(url: str, deployment: str, job: str, store_id: str, *, seconds: float = 5.0) -> str | None:
    """The id of another store that fills this job's group, or None. Raises GatewayUnreachable where the gateway gives no list."""
    ours = {"job": JOB, "deployment": deployment, "job_name": job}
    owners = [owner for group in groups_of(url, seconds=seconds) if group.labels == ours for owner in group.store_ids]
    return next((owner for owner in owners if owner != store_id), None)


def groups_of_jobs(url: str, deployment: str, *, seconds: float = 5.0) -> dict[str, Group]:
    """By job, the groups that are exactly what a push of this deployment makes. Raises GatewayUnreachable."""
    ours = {"job": JOB, "deployment": deployment}
    found = ((group.labels.get("job_name", ""), group) for group in groups_of(url, seconds=seconds))
    return {job: group for job, group in found if job and group.labels == {**ours, "job_name": job}}


def _delete(url: str, group: dict[str, str], deadline: Deadline, mask: Callable[[str], str]) -> None:
    from prometheus_client import delete_from_gateway

    answers: list[Answer] = []
    try:
        delete_from_gateway(_base(url), JOB, grouping_key=group, handler=_handler(answers, deadline))
    except (Unanswered, ValueError) as error:
        raise GatewayUnreachable(url, str(error)) from error
    if not answers[0].success:
        raise GatewayUnreachable(url, _refusal(answers[0], mask))


def _push(url: str, group: dict[str, str], registry: Any, deadline: Deadline, mask: Callable[[str], str]) -> tuple[str | None, bool]:
    """The error, if any, and whether the push may still arrive."""
    from prometheus_client import pushadd_to_gateway

    answers: list[Answer] = []
    try:
        pushadd_to_gateway(_base(url), JOB, registry, grouping_key=group, handler=_handler(answers, deadline))
    except Unanswered as error:
        return str(error), error.late
    except ValueError as error:
        return one_line(str(error)), False
    if answers[0].success:
        return None, False
    return _refusal(answers[0], mask), answers[0].late


def _handler(answers: list[Answer], deadline: Deadline) -> Callable[..., Callable[[], None]]:
    """Not prometheus_client's own handler: it limits each read, not the whole; a server that sent a byte at a time held it for 11 s."""

    def prepare(url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes) -> Callable[[], None]:
        del timeout

        def ask() -> None:
            answers.append(exchange(method, url, seconds=deadline.left, body=data, headers=dict(headers)))

        return ask

    return prepare


def _group(deployment: str, job: str) -> dict[str, str]:
    return {"deployment": deployment, "job_name": job}


def _scheduler_group(deployment: str) -> dict[str, str]:
    return {"deployment": deployment, "component": "scheduler"}


def _base(url: str) -> str:
    return (url if "://" in url else f"http://{url}").rstrip("/")


def _store_ids(group: dict[str, Any]) -> list[str]:
    family = group.get(STORE_INFO.name)
    metrics = family.get("metrics") if isinstance(family, dict) else None
    found = [metric.get("labels", {}).get("store_id") for metric in metrics or () if isinstance(metric, dict)]
    return [one for one in found if isinstance(one, str)]


def _refusal(answer: Answer, mask: Callable[[str], str]) -> str:
    text = one_line(mask(answer.body.decode("utf-8", "replace")))
    return f"it answered {answer.status}" + (f": {text}" if text else "")
