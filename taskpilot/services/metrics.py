"""The numbers of the record: as Prometheus's text, and pushed to the gateway."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError, TaskPilotError
from taskpilot.domain.specs import is_job_name
from taskpilot.store.metrics_queries import pending_jobs
from taskpilot.telemetry.gateway import GatewayUnreachable, PushResult, foreign_store, groups_of_jobs, push_job, retire_group
from taskpilot.telemetry.job_facts import JobFacts
from taskpilot.telemetry.metrics import exposition, snapshot_of
from taskpilot.telemetry.scheduler_metrics import exposition_of_server, scheduler_snapshot
from taskpilot.views.job_facts import facts_of

PUSH_SECONDS: Final = 5.0
"""A person waits for the answer, so a push may take longer than the half second that a run gives to it."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What came of one job's group."""

    job: str
    result: PushResult | None
    """None where the group was refused."""
    foreign_store: str | None = None
    """The id of the other store that fills this group."""


def show_metrics(deployment: Deployment) -> str:
    """Every number of the store in Prometheus's text format, with zeros for what is known and did not happen yet."""
    return exposition(snapshot_of(deployment.store), _all_facts(deployment)).decode()


def scrape(deployment: Deployment, *, everything: bool) -> bytes:
    """What a Prometheus that asks gets: the scheduler's and the process's numbers, and with `everything` those of the jobs."""
    if not everything:
        return exposition_of_server(scheduler_snapshot(deployment.store))
    try:
        facts = _all_facts(deployment)
    except ConfigurationError:
        # A folder that cannot be read hides no number of the record.
        facts = []
    return exposition_of_server(scheduler_snapshot(deployment.store), (snapshot_of(deployment.store), facts))


def push_metrics(deployment: Deployment, *, job: str | None = None) -> Iterator[Pushed]:
    """Pushes the group of one job, or of each, and of each that is pending; a group that another store fills is left alone.

    Raises ConfigurationError where no gateway is set, and GatewayUnreachable where it gives no usable answer.
    """
    url = _gateway(deployment)
    store = deployment.store
    facts = {one.name: one for one in _all_facts(deployment)}
    if job is not None:
        facts = {job: facts[deployment.catalog.get(job).name]}
    else:
        # Of a broken file's job only the name is known; what is pending of it is delivered all the same.
        with store.read() as connection:
            facts |= {name: JobFacts(name, configured=False) for name in pending_jobs(connection, deployment.now()) if name not in facts}
    for name, one in sorted(facts.items()):
        other = foreign_store(url, store.deployment, name, store.store_id, seconds=PUSH_SECONDS)
        if other is not None:
            yield Pushed(name, None, other)
            continue
        yield Pushed(name, push_job(store, one, url, deployment.settings.state_dir, seconds_left=PUSH_SECONDS, now=deployment.now))


class Outcome(StrEnum):
    """What was done about the group of a job that is gone."""

    REMOVED = "removed"
    WOULD_REMOVE = "would remove"
    KEPT = "kept"
    """Another store fills it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Pruned:
    """One group of a job that is gone."""

    job: str
    outcome: Outcome
    why: str = ""


def prune_groups(deployment: Deployment, *, dry_run: bool = False) -> list[Pruned]:
    """Removes the gateway's groups of this deployment whose jobs no file defines; a broken file's jobs and other stores' groups stay.

    Raises ConfigurationError where no gateway is set or the folder of jobs cannot be read, and GatewayUnreachable where the gateway
    does not say what it holds.
    """
    url, store, catalog = _gateway(deployment), deployment.store, deployment.catalog
    pruned: list[Pruned] = []
    for job, group in sorted(groups_of_jobs(url, store.deployment, seconds=PUSH_SECONDS).items()):
        # A name that no job can have was not pushed by us; and it becomes the name of a lock's file.
        if catalog.knows(job) or not is_job_name(job):
            continue
        other = next((owner for owner in group.store_ids if owner != store.store_id), None)
        if other is not None:
            pruned.append(Pruned(job, Outcome.KEPT, f"another store ({other}) fills it"))
        elif dry_run:
            pruned.append(Pruned(job, Outcome.WOULD_REMOVE))
        else:
            pruned.append(_retired(deployment, url, job))
    return pruned


def _retired(deployment: Deployment, url: str, job: str) -> Pruned:
    try:
        retire_group(deployment.store, url, deployment.settings.state_dir, job, seconds_left=PUSH_SECONDS)
    except GatewayUnreachable as error:
        return Pruned(job, Outcome.FAILED, error.one_line)
    return Pruned(job, Outcome.REMOVED)


def _gateway(deployment: Deployment) -> str:
    url = deployment.settings.pushgateway_url
    if url is None:
        hint = "set TASKPILOT_PUSHGATEWAY_URL, or pushgateway_url in taskpilot.toml"
        raise ConfigurationError("no Pushgateway is set", hint=hint)
    return url


def _all_facts(deployment: Deployment) -> list[JobFacts]:
    return [facts_of(deployment, spec) for spec in deployment.catalog.jobs.values()]


def push_quietly(deployment: Deployment, job: str | None = None) -> str:
    """Pushes as far as the gateway takes it, and says in one sentence what came of it; a gateway that is away is no error here."""
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
