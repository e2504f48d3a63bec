"""The Pushgateway: reachable, and its groups of this deployment ours alone; nothing is pushed."""

from collections.abc import Iterator
from shlex import quote
from typing import Final
from urllib.parse import quote as percent

from taskpilot.domain.specs import is_job_name
from taskpilot.domain.text import one_line
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.operations.doctor.case import ANSWER_SECONDS, Case
from taskpilot.operations.doctor.findings import Code, Finding, unchecked
from taskpilot.signals.gateway import JOB, GatewayUnreachable, Group, groups_of
from taskpilot.signals.http_exchange import shown
from taskpilot.store.inspection import Condition

_PRUNE: Final = "taskpilot metrics prune"
_KEY: Final = "TASKPILOT_PUSHGATEWAY_URL"


def examine_gateway(case: Case) -> Iterator[Finding]:
    """Whether the numbers arrive, and whether another one's are mixed with them."""
    url = case.settings.pushgateway_url
    if why := case.unsound("pushgateway_url"):
        yield unchecked("gateway", why)
        return
    if url is None:
        sentence = "no Pushgateway is set, so no numbers are pushed"
        yield Finding(Code.GATEWAY_UNSET, sentence, f"set {_KEY}, or pushgateway_url in taskpilot.toml, if you want them")
        return
    owed = case.inspection.owed
    if owed:
        why = next((one.error for one in owed if one.error), "")
        sentence = f"the numbers of {_names([one.job for one in owed])} are still owed" + (f": {why}" if why else "")
        yield Finding(Code.GATEWAY_OWED, sentence, "taskpilot metrics push")
    try:
        groups = groups_of(url, seconds=ANSWER_SECONDS)
    except GatewayUnreachable as error:
        yield Finding(
            Code.GATEWAY_UNREACHABLE,
            str(error).partition(". Look at")[0],
            f"start the gateway, or correct {_KEY}; what is owed is pushed later",
        )
        return
    yield from _judge(case, url, groups)


def _judge(case: Case, url: str, groups: list[Group]) -> Iterator[Finding]:
    seen = case.inspection
    deployment = seen.deployment or case.settings.deployment
    if seen.condition not in (Condition.READ, Condition.NONE):
        yield unchecked("gateway", f"{shown(url)} answers, but the store cannot be read, so nobody knows which groups are its own")
        return
    if deployment is None:
        yield Finding(Code.GATEWAY_OK, f"{shown(url)} answers; no group can be ours, since there is no store yet")
        return
    ours = [group for group in groups if group.labels.get("job") == JOB and group.labels.get("deployment") == deployment]
    bad: set[str] = set()
    for group in ours:
        finding = _flaw(case, url, deployment, group)
        if finding is not None:
            bad.add(_label(group))
            yield finding
    if isinstance(case.catalog, JobCatalog):
        missing = sorted(set(case.catalog.jobs) - {group.labels.get("job_name", "") for group in ours})
        if missing:
            yield Finding(Code.GATEWAY_NOT_PUSHED, f"{_names(missing)} has no numbers there yet", "taskpilot metrics push")
    if len(bad) < len(ours) or not ours:
        yield Finding(Code.GATEWAY_OK, f"{shown(url)} answers; groups of deployment {deployment} that are ours: {len(ours) - len(bad)}")


def _flaw(case: Case, url: str, deployment: str, group: Group) -> Finding | None:
    name = _label(group)
    delete = "curl -X DELETE " + quote(_address(url, group))
    other = next((owner for owner in group.store_ids if owner != case.inspection.store_id), None)
    if other is not None:
        sentence = f"another store ({one_line(other, limit=60)}) fills the group of {name} under the name {deployment}"
        mend = f"{delete} where that store is gone; else give one of the two its own TASKPILOT_HOME and TASKPILOT_DEPLOYMENT"
        return Finding(Code.GATEWAY_FOREIGN_STORE, sentence, mend)
    if not group.store_ids:
        sentence = f"the group of {name} under our name {deployment} names no store: it was not pushed by TaskPilot"
        return Finding(Code.GATEWAY_UNOWNED_GROUP, sentence, _PRUNE if _prunable(case, group) else delete)
    if _prunable(case, group):
        return Finding(Code.GATEWAY_REMOVED_JOB, f"the group of {name} is still there, but no file defines that job", _PRUNE)
    return None


def _prunable(case: Case, group: Group) -> bool:
    """Whether it is what a push makes, of a job that is gone."""
    job = group.labels.get("job_name", "")
    return (
        set(group.labels) == {"job", "deployment", "job_name"}
        and is_job_name(job)
        and isinstance(case.catalog, JobCatalog)
        and not case.catalog.knows(job)
    )


def _address(url: str, group: Group) -> str:
    """The group's own address, without what may be a password."""
    base = shown(url).rstrip("/")
    scheme = url.partition("://")[0]
    base = base if "://" in base else f"{scheme}://{base}"
    rest = {name: value for name, value in group.labels.items() if name != "job"}
    return f"{base}/metrics/job/{percent(JOB, safe='')}" + "".join(
        f"/{percent(name, safe='')}/{percent(value, safe='')}" for name, value in rest.items()
    )


def _label(group: Group) -> str:
    return one_line(group.labels.get("job_name") or group.labels.get("component") or "no job", limit=80)


def _names(jobs: list[str]) -> str:
    return one_line(", ".join(jobs), limit=160)
