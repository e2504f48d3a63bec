"""Checks that the Pushgateway and the collector are reachable, and that no other store pushes to our groups; nothing is sent."""

from collections.abc import Iterator
from shlex import quote
from typing import Final
from urllib.parse import quote as percent

from taskpilot.diagnostics.context import ANSWER_SECONDS, CheckContext
from taskpilot.diagnostics.findings import Code, Finding, found, unchecked
from taskpilot.domain.specs import is_job_name
from taskpilot.domain.text import one_line
from taskpilot.http import Unanswered, exchange, shown
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.store.inspection import Condition
from taskpilot.telemetry.gateway import JOB, GatewayUnreachable, Group, groups_of
from taskpilot.telemetry.traces.collector import Collector, is_there

_CONNECT_SECONDS: Final = 1.0


def examine_collector(context: CheckContext) -> Iterator[Finding]:
    """Whether a collector would receive spans."""
    settings = context.settings
    if why := context.unsound("otel_enabled", "otel_endpoint", "otel_traces_endpoint", "otel_protocol", "otel_headers"):
        yield unchecked("collector", why)
        return
    if not settings.otel_enabled:
        yield found(Code.COLLECTOR_OFF, source=settings.sources["otel_enabled"])
        return
    collector = Collector(settings.otel_traces_url, settings.otel_protocol, settings.otel_headers)
    place = shown(collector.endpoint)
    if not is_there(collector, seconds=_CONNECT_SECONDS):
        if settings.sources["otel_endpoint"] == settings.sources["otel_traces_endpoint"] == "default":
            yield found(Code.COLLECTOR_NONE, url=place)
        else:
            fix = "start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT; OTEL_ENABLED=false ends the sending"
            yield found(Code.COLLECTOR_UNREACHABLE, url=place, why="accepts no connection", fix=fix)
    elif collector.protocol == "grpc":
        yield found(Code.COLLECTOR_OK, url=place, answer="accepts connections; whether it takes spans over gRPC was not tried")
    else:
        yield _asked(collector, place)


def _asked(collector: Collector, place: str) -> Finding:
    """Its answer to a GET where spans are posted: any answer but these means that the path is known."""
    try:
        answer = exchange("GET", collector.endpoint, seconds=ANSWER_SECONDS, headers=collector.headers)
    except (Unanswered, ValueError) as error:
        fix = "look at the collector's log, or correct OTEL_EXPORTER_OTLP_ENDPOINT"
        return found(Code.COLLECTOR_UNREACHABLE, url=place, why=f"accepts a connection and gives no answer: {error}", fix=fix)
    if answer.status == 404:
        return found(Code.COLLECTOR_NO_ROUTE, url=place)
    if answer.status in (401, 403):
        return found(Code.COLLECTOR_REFUSED, url=place, status=answer.status)
    return found(Code.COLLECTOR_OK, url=place, answer="answers; no span was sent to try it")


def examine_gateway(context: CheckContext) -> Iterator[Finding]:
    """Whether the Pushgateway receives the metrics, and whether metrics of another store are mixed with them."""
    url = context.settings.pushgateway_url
    if why := context.unsound("pushgateway_url"):
        yield unchecked("gateway", why)
        return
    if url is None:
        yield found(Code.GATEWAY_UNSET)
        return
    if pending := context.inspection.pending:
        why = next((f": {one.error}" for one in pending if one.error), "")
        yield found(Code.GATEWAY_PENDING, jobs=_names([one.job for one in pending]), why=why)
    try:
        groups = groups_of(url, seconds=ANSWER_SECONDS)
    except GatewayUnreachable as error:
        yield found(Code.GATEWAY_UNREACHABLE, error=str(error), fix=error.hint or "")
        return
    yield from _judge(context, url, groups)


def _judge(context: CheckContext, url: str, groups: list[Group]) -> Iterator[Finding]:
    seen, place = context.inspection, shown(url)
    deployment = seen.deployment or context.settings.deployment
    if seen.condition not in (Condition.READ, Condition.NONE):
        yield unchecked("gateway", f"{place} answers, but the store cannot be read, so it is not known which groups are its own")
        return
    if deployment is None:
        yield found(Code.GATEWAY_OK, url=place, groups="no group can be ours, since there is no store yet")
        return
    ours = [group for group in groups if group.labels.get("job") == JOB and group.labels.get("deployment") == deployment]
    bad: set[str] = set()
    for group in ours:
        flaw = _flaw(context, url, deployment, group)
        if flaw is not None:
            bad.add(_label(group))
            yield flaw
    if isinstance(context.catalog, JobCatalog):
        missing = sorted(set(context.catalog.jobs) - {group.labels.get("job_name", "") for group in ours})
        if missing:
            yield found(Code.GATEWAY_NOT_PUSHED, jobs=_names(missing))
    if len(bad) < len(ours) or not ours:
        yield found(Code.GATEWAY_OK, url=place, groups=f"groups of deployment {deployment} that are ours: {len(ours) - len(bad)}")


def _flaw(context: CheckContext, url: str, deployment: str, group: Group) -> Finding | None:
    name = _label(group)
    delete = "curl -X DELETE " + quote(_address(url, group))
    other = next((owner for owner in group.store_ids if owner != context.inspection.store_id), None)
    if other is not None:
        return found(Code.GATEWAY_FOREIGN_STORE, job=name, store_id=one_line(other, limit=60), deployment=deployment, delete=delete)
    removed = _prunable(context, group)
    if not group.store_ids:
        return found(Code.GATEWAY_UNOWNED_GROUP, job=name, deployment=deployment, fix="taskpilot metrics prune" if removed else delete)
    return found(Code.GATEWAY_REMOVED_JOB, job=name) if removed else None


def _prunable(context: CheckContext, group: Group) -> bool:
    """Whether a push of ours made it, and its job no longer exists."""
    job = group.labels.get("job_name", "")
    return (
        set(group.labels) == {"job", "deployment", "job_name"}
        and is_job_name(job)
        and isinstance(context.catalog, JobCatalog)
        and not context.catalog.knows(job)
    )


def _address(url: str, group: Group) -> str:
    """The URL of the group, without what may be a password."""
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
