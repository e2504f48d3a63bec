"""The Pushgateway and the collector: reachable, and the gateway's groups of this deployment ours alone; nothing is sent."""

from collections.abc import Iterator
from shlex import quote
from typing import Final
from urllib.parse import quote as percent

from taskpilot.diagnostics.context import ANSWER_SECONDS, CheckContext
from taskpilot.diagnostics.findings import Code, Finding, unchecked
from taskpilot.domain.specs import is_job_name
from taskpilot.domain.text import one_line
from taskpilot.http import Unanswered, exchange, shown
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.store.inspection import Condition
from taskpilot.telemetry.gateway import JOB, GatewayUnreachable, Group, groups_of
from taskpilot.telemetry.traces.collector import Collector, is_there

_CONNECT_SECONDS: Final = 1.0
_KEY: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_KEPT: Final = "traces.jsonl in the state dir keeps the spans"


def examine_collector(context: CheckContext) -> Iterator[Finding]:
    """Whether spans would reach somebody."""
    settings = context.settings
    names = ("otel_enabled", "otel_endpoint", "otel_traces_endpoint", "otel_protocol", "otel_headers")
    if why := context.unsound(*names):
        yield unchecked("collector", why)
        return
    if not settings.otel_enabled:
        yield Finding(Code.COLLECTOR_OFF, f"no traces are sent: switched off by {settings.sources['otel_enabled']}; {_KEPT}")
        return
    collector = Collector(settings.otel_traces_url, settings.otel_protocol, settings.otel_headers)
    place = shown(collector.endpoint)
    if not is_there(collector, seconds=_CONNECT_SECONDS):
        if settings.sources["otel_endpoint"] == settings.sources["otel_traces_endpoint"] == "default":
            yield Finding(
                Code.COLLECTOR_NONE, f"nobody is at {place}, the default; {_KEPT}", f"set {_KEY} to a collector, or OTEL_ENABLED=false"
            )
        else:
            sentence = f"nobody accepts a connection at {place}; {_KEPT}"
            yield Finding(
                Code.COLLECTOR_UNREACHABLE, sentence, f"start the collector, or correct {_KEY}; OTEL_ENABLED=false ends the sending"
            )
    elif collector.protocol == "grpc":
        yield Finding(Code.COLLECTOR_OK, f"{place} accepts connections; whether it takes spans over gRPC was not tried")
    else:
        yield _asked(collector, place)


def _asked(collector: Collector, place: str) -> Finding:
    """What it says to a GET where spans are posted: any answer but these means that somebody knows the path."""
    try:
        answer = exchange("GET", collector.endpoint, seconds=ANSWER_SECONDS, headers=collector.headers)
    except (Unanswered, ValueError) as error:
        fix = f"look at the collector's log, or correct {_KEY}"
        return Finding(Code.COLLECTOR_UNREACHABLE, f"{place} accepts a connection and says nothing: {error}; {_KEPT}", fix)
    if answer.status == 404:
        return Finding(Code.COLLECTOR_NO_ROUTE, f"{place} has no such path (404)", f"correct {_KEY}: the base, without /v1/traces")
    if answer.status in (401, 403):
        return Finding(Code.COLLECTOR_REFUSED, f"{place} refuses us ({answer.status})", "correct OTEL_EXPORTER_OTLP_HEADERS")
    return Finding(Code.COLLECTOR_OK, f"{place} answers; no span was sent to try it")


_PRUNE: Final = "taskpilot metrics prune"
_LABEL_KEY: Final = "TASKPILOT_PUSHGATEWAY_URL"


def examine_gateway(context: CheckContext) -> Iterator[Finding]:
    """Whether the numbers arrive, and whether another one's are mixed with them."""
    url = context.settings.pushgateway_url
    if why := context.unsound("pushgateway_url"):
        yield unchecked("gateway", why)
        return
    if url is None:
        sentence = "no Pushgateway is set, so no numbers are pushed"
        yield Finding(Code.GATEWAY_UNSET, sentence, f"set {_LABEL_KEY}, or pushgateway_url in taskpilot.toml, if you want them")
        return
    pending = context.inspection.pending
    if pending:
        why = next((one.error for one in pending if one.error), "")
        sentence = f"the numbers of {_names([one.job for one in pending])} are still pending" + (f": {why}" if why else "")
        yield Finding(Code.GATEWAY_OWED, sentence, "taskpilot metrics push")
    try:
        groups = groups_of(url, seconds=ANSWER_SECONDS)
    except GatewayUnreachable as error:
        yield Finding(Code.GATEWAY_UNREACHABLE, str(error), error.hint or "")
        return
    yield from _judge(context, url, groups)


def _judge(context: CheckContext, url: str, groups: list[Group]) -> Iterator[Finding]:
    seen = context.inspection
    deployment = seen.deployment or context.settings.deployment
    if seen.condition not in (Condition.READ, Condition.NONE):
        yield unchecked("gateway", f"{shown(url)} answers, but the store cannot be read, so nobody knows which groups are its own")
        return
    if deployment is None:
        yield Finding(Code.GATEWAY_OK, f"{shown(url)} answers; no group can be ours, since there is no store yet")
        return
    ours = [group for group in groups if group.labels.get("job") == JOB and group.labels.get("deployment") == deployment]
    bad: set[str] = set()
    for group in ours:
        finding = _flaw(context, url, deployment, group)
        if finding is not None:
            bad.add(_label(group))
            yield finding
    if isinstance(context.catalog, JobCatalog):
        missing = sorted(set(context.catalog.jobs) - {group.labels.get("job_name", "") for group in ours})
        if missing:
            yield Finding(Code.GATEWAY_NOT_PUSHED, f"{_names(missing)} has no numbers there yet", "taskpilot metrics push")
    if len(bad) < len(ours) or not ours:
        yield Finding(Code.GATEWAY_OK, f"{shown(url)} answers; groups of deployment {deployment} that are ours: {len(ours) - len(bad)}")


def _flaw(context: CheckContext, url: str, deployment: str, group: Group) -> Finding | None:
    name = _label(group)
    delete = "curl -X DELETE " + quote(_address(url, group))
    other = next((owner for owner in group.store_ids if owner != context.inspection.store_id), None)
    if other is not None:
        sentence = f"another store ({one_line(other, limit=60)}) fills the group of {name} under the name {deployment}"
        fix = f"{delete} where that store is gone; else give one of the two its own TASKPILOT_HOME and TASKPILOT_DEPLOYMENT"
        return Finding(Code.GATEWAY_FOREIGN_STORE, sentence, fix, {"job": name, "store_id": one_line(other, limit=60)})
    if not group.store_ids:
        sentence = f"the group of {name} under our name {deployment} names no store: it was not pushed by TaskPilot"
        return Finding(Code.GATEWAY_UNOWNED_GROUP, sentence, _PRUNE if _prunable(context, group) else delete, {"job": name})
    if _prunable(context, group):
        return Finding(Code.GATEWAY_REMOVED_JOB, f"the group of {name} is still there, but no file defines that job", _PRUNE, {"job": name})
    return None


def _prunable(context: CheckContext, group: Group) -> bool:
    """Whether it is what a push makes, of a job that is gone."""
    job = group.labels.get("job_name", "")
    return (
        set(group.labels) == {"job", "deployment", "job_name"}
        and is_job_name(job)
        and isinstance(context.catalog, JobCatalog)
        and not context.catalog.knows(job)
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
