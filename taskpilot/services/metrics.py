"""Metrics in Prometheus's text format, and their push to the gateway."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError, TaskPilotError
from taskpilot.domain.specs import is_job_name
from taskpilot.store.metrics_queries import pending_jobs
from taskpilot.telemetry.gateway import Gateway, GatewayUnreachable, PushResult, foreign_store, groups_of_jobs
from taskpilot.telemetry.metrics import JobFacts, SchedulerCollector, StoreCollector, exposition, exposition_of_server, snapshot_of
from taskpilot.views.job_facts import facts_of

PUSH_SECONDS: Final = 5.0
"""Longer than the half second of a run's push, since a person waits for the answer."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The result of pushing one job's group."""

    job: str
    result: PushResult | None
    """None where the group was refused."""
    foreign_store: str | None = None
    """The id of the other store that fills this group."""


def show_metrics(deployment: Deployment) -> str:
    """All metrics of the store in Prometheus's text format, with zeros for known labels without events."""
    return exposition(snapshot_of(deployment.store), _all_facts(deployment)).decode()


def scrape(deployment: Deployment, *, everything: bool) -> bytes:
    """The answer to a scrape: metrics of the scheduler and the process, and with `everything` those of the jobs."""
    store = deployment.store
    if not everything:
        return exposition_of_server(SchedulerCollector.of(store))
    try:
        facts = _all_facts(deployment)
    except ConfigurationError:
        # A job folder that cannot be read must not hide the recorded metrics.
        facts = []
    return exposition_of_server(SchedulerCollector.of(store, alone=False), StoreCollector(snapshot_of(store), facts))


def push_metrics(deployment: Deployment, *, job: str | None = None) -> Iterator[Pushed]:
    """Pushes the group of one job, or of each, and of each that is pending; a group that another store fills is left alone.

    Raises ConfigurationError where no gateway is set, and GatewayUnreachable where it gives no usable answer.
    """
    gateway, store = _gateway(deployment), deployment.store
    facts = {one.name: one for one in _all_facts(deployment)}
    if job is not None:
        facts = {job: facts[deployment.job(job).name]}
    else:
        # Of a job whose file is broken only the name is known; its pending group is pushed too.
        with store.read() as connection:
            facts |= {name: JobFacts(name, configured=False) for name in pending_jobs(connection, deployment.now()) if name not in facts}
    for name, one in sorted(facts.items()):
        other = foreign_store(gateway.url, store.deployment, name, store.store_id, seconds=PUSH_SECONDS)
        if other is not None:
            yield Pushed(name, None, other)
            continue
        yield Pushed(name, gateway.push(one, seconds=PUSH_SECONDS))


class Outcome(StrEnum):
    """What was done with the group of a removed job."""

    REMOVED = "removed"
    WOULD_REMOVE = "would remove"
    KEPT = "kept"
    """Another store fills it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Pruned:
    """One group of a removed job."""

    job: str
    outcome: Outcome
    why: str = ""


def prune_groups(deployment: Deployment, *, dry_run: bool = False) -> list[Pruned]:
    """Removes the gateway's groups of this deployment whose jobs no file defines; a broken file's jobs and other stores' groups stay.

    Raises ConfigurationError where no gateway is set or the folder of jobs cannot be read, and GatewayUnreachable where the gateway
    does not list its groups.
    """
    gateway, store, catalog = _gateway(deployment), deployment.store, deployment.catalog
    pruned: list[Pruned] = []
    for job, group in sorted(groups_of_jobs(gateway.url, store.deployment, seconds=PUSH_SECONDS).items()):
        # A name that no job can have was not pushed by us, and must not become the name of a lock file.
        if catalog.knows(job) or not is_job_name(job):
            continue
        other = next((owner for owner in group.store_ids if owner != store.store_id), None)
        if other is not None:
            pruned.append(Pruned(job, Outcome.KEPT, f"another store ({other}) fills it"))
        elif dry_run:
            pruned.append(Pruned(job, Outcome.WOULD_REMOVE))
        else:
            pruned.append(_deleted(gateway, job))
    return pruned


def _deleted(gateway: Gateway, job: str) -> Pruned:
    try:
        gateway.delete(job, seconds=PUSH_SECONDS)
    except GatewayUnreachable as error:
        return Pruned(job, Outcome.FAILED, error.one_line)
    return Pruned(job, Outcome.REMOVED)


def _gateway(deployment: Deployment) -> Gateway:
    gateway = deployment.gateway
    if gateway is None:
        hint = "set TASKPILOT_PUSHGATEWAY_URL, or pushgateway_url in taskpilot.toml"
        raise ConfigurationError("no Pushgateway is set", hint=hint)
    return gateway


def _all_facts(deployment: Deployment) -> list[JobFacts]:
    return [facts_of(deployment, spec) for spec in deployment.catalog.jobs.values()]


def push_quietly(deployment: Deployment, job: str | None = None) -> str:
    """Pushes and returns one sentence about the result; an unreachable gateway is not an error here."""
    try:
        results = list(push_metrics(deployment, job=job))
    except TaskPilotError as error:
        if error.permanent:
            raise
        return f"nothing: {error.one_line}"
    delivered = [one.job for one in results if one.result is not None and one.result.delivered]
    others = [one.job for one in results if one.foreign_store is not None]
    if others:
        raise ConfigurationError(
            f"another store fills the gateway's group of {', '.join(others)}",
            hint="give one of the two deployments another TASKPILOT_DEPLOYMENT",
        )
    failed = [f"{one.job} ({one.result.error})" for one in results if one.result is not None and not one.result.delivered]
    return f"{len(delivered)} of {len(results)} jobs to the gateway" + (f"; pending: {', '.join(failed)}" if failed else "")
