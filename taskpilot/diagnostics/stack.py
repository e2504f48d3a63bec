"""Checks each server of the observability stack: its version, and whether our data arrives; nothing is sent to it."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from taskpilot.diagnostics.context import ANSWER_SECONDS, CheckContext
from taskpilot.diagnostics.findings import COMPOSE, Code, Finding, found, unchecked
from taskpilot.diagnostics.telemetry import examine_collector
from taskpilot.domain.text import one_line
from taskpilot.http import Unanswered, exchange, shown
from taskpilot.telemetry.gateway import JOB

_BODY_MAX: Final = 8 * 1024 * 1024
_GATEWAY: Final = "http://localhost:9091"
"""The gateway of the stack, for a deployment that sets none."""
_JAEGER_VERSION: Final = re.compile(r"JAEGER_VERSION\s*=\s*\{[^}]*\"gitVersion\"\s*:\s*\"([^\"]+)\"")
_RECEIVES: Final = re.compile(r"^\s+(?:- )?\w+_configs:", re.MULTILINE)
"""A receiver's `webhook_configs:`, `email_configs:` and the like, in Alertmanager's configuration."""

Look = Callable[["_Server"], Iterator[Finding]]


class _NoUse(Exception):
    """The server gave no usable answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _Server:
    """One server; all requests to it share ANSWER_SECONDS."""

    def __init__(self, context: CheckContext, url: str) -> None:
        self.context = context
        self.place = shown(url)
        self._url = url.rstrip("/")
        self._deadline = time.monotonic() + ANSWER_SECONDS

    def text(self, path: str) -> str:
        """The body of an answer 200. Raises _NoUse."""
        try:
            answer = exchange("GET", self._url + path, seconds=self._deadline - time.monotonic(), body_max=_BODY_MAX)
        except (Unanswered, ValueError) as error:
            raise _NoUse(one_line(str(error))) from error
        if answer.status != 200:
            raise _NoUse(f"it answered {answer.status} to {path.partition('?')[0]}", status=answer.status)
        return answer.body.decode("utf-8", "replace")

    def json(self, path: str, *keys: str) -> Any:
        """The value below `keys` in a JSON answer. Raises _NoUse."""
        try:
            value = json.loads(self.text(path))
            for key in keys:
                value = value[key]
        except (ValueError, KeyError, TypeError, IndexError):
            raise _NoUse(f"its answer to {path.partition('?')[0]} is that of another kind of server") from None
        return value


def _examined(subject: str, look: Look) -> Callable[[CheckContext], Iterator[Finding]]:
    """The check of one server of the settings' `[stack]`."""

    def examine(context: CheckContext) -> Iterator[Finding]:
        if why := context.unsound(f"stack_{subject}"):
            yield unchecked(subject, why)
            return
        server = _Server(context, getattr(context.settings, f"stack_{subject}"))
        try:
            yield from look(server)
        except _NoUse as error:
            yield _unreachable(subject, server, error, f"correct stack.{subject} in taskpilot.toml")

    return examine


def _unreachable(subject: str, server: _Server, error: _NoUse, key: str) -> Finding:
    return found(Code.__members__[f"{subject.upper()}_UNREACHABLE"], url=server.place, why=str(error), server=subject, key=key)


def _prometheus(server: _Server) -> Iterator[Finding]:
    version = _word(server.json("/api/v1/status/buildinfo", "data", "version"))
    store_id = server.context.inspection.store_id
    flaws = list(_series(server, store_id)) if store_id is not None else []
    rules = [rule for group in server.json("/api/v1/rules", "data", "groups") for rule in group["rules"]]
    ours = [rule for rule in rules if "taskpilot_" in str(rule.get("query", ""))]
    if not ours:
        flaws.append(found(Code.PROMETHEUS_NO_RULES, url=server.place))
    for rule in ours:
        if rule.get("health") == "err":
            why = one_line(str(rule.get("lastError", "")), limit=300)
            flaws.append(found(Code.PROMETHEUS_RULE_FAILS, rule=_word(rule.get("name")), why=why))
    if not server.json("/api/v1/alertmanagers", "data", "activeAlertmanagers"):
        flaws.append(found(Code.PROMETHEUS_NO_ALERTMANAGER, url=server.place))
    yield from flaws
    if not flaws:
        what = f"{'our metrics and ' if store_id is not None else ''}{len(ours)} of our rules"
        yield found(Code.PROMETHEUS_OK, version=version, url=server.place, what=what)


def _series(server: _Server, store_id: str) -> Iterator[Finding]:
    """Whether this store's metrics are there, under the names that rules and dashboards ask for."""
    query = urlencode({"query": f"taskpilot_store_info{{store_id={json.dumps(store_id)}}}"})
    series = server.json(f"/api/v1/query?{query}", "data", "result")
    if any(one["metric"].get("job") == JOB for one in series):
        return
    if series:
        yield found(Code.PROMETHEUS_LABELS, url=server.place, job=JOB)
        return
    targets = [one for one in server.json("/api/v1/targets?state=active", "data", "activeTargets") if one.get("health") == "down"]
    down = "".join(f"; {_word(one.get('scrapeUrl'))} is down: {one_line(str(one.get('lastError', '')), limit=200)}" for one in targets[:3])
    yield found(Code.PROMETHEUS_NO_SERIES, url=server.place, down=down)


def _alertmanager(server: _Server) -> Iterator[Finding]:
    status = server.json("/api/v2/status")
    if not _RECEIVES.search(str(_below(status, "config", "original"))):
        yield found(Code.ALERTMANAGER_NO_RECEIVER, url=server.place)
        return
    yield found(Code.ALERTMANAGER_OK, version=_word(_below(status, "versionInfo", "version")), url=server.place)


def _jaeger(server: _Server) -> Iterator[Finding]:
    services = server.json("/api/services", "data") or []
    version = _JAEGER_VERSION.search(server.text("/"))
    name = f"Jaeger {_word(version[1])}" if version else "Jaeger (version unknown)"
    service = server.context.settings.otel_resource["service.name"]
    code = Code.JAEGER_OK if service in services else Code.JAEGER_NO_TRACES
    yield found(code, name=name, url=server.place, service=one_line(service, limit=80))


def _elasticsearch(server: _Server) -> Iterator[Finding]:
    try:
        version = _word(server.json("/", "version", "number"))
    except _NoUse as error:
        if error.status not in (401, 403):
            raise
        yield found(Code.ELASTICSEARCH_PASSWORD, url=server.place)
        return
    health = server.json("/_cluster/health", "status")
    code = Code.ELASTICSEARCH_RED if health == "red" else Code.ELASTICSEARCH_OK
    yield found(code, version=version, url=server.place, health=_word(health))


def _grafana(server: _Server) -> Iterator[Finding]:
    health = server.json("/api/health")
    database = _below(health, "database")
    code = Code.GRAFANA_OK if database == "ok" else Code.GRAFANA_DATABASE
    yield found(code, version=_word(_below(health, "version")), url=server.place, database=_word(database))


def examine_pushgateway(context: CheckContext) -> Iterator[Finding]:
    """The gateway's version, and whether we push to it. The subject `gateway` checks what it holds of ours."""
    if why := context.unsound("pushgateway_url"):
        yield unchecked("pushgateway", why)
        return
    url = context.settings.pushgateway_url
    server = _Server(context, url or _GATEWAY)
    key = f"set TASKPILOT_PUSHGATEWAY_URL={_GATEWAY}"
    try:
        version = _word(server.json("/api/v1/status", "data", "build_information", "version"))
    except _NoUse as error:
        yield _unreachable("pushgateway", server, error, "correct TASKPILOT_PUSHGATEWAY_URL" if url else key)
        return
    yield found(Code.PUSHGATEWAY_UNUSED if url is None else Code.PUSHGATEWAY_OK, version=version, url=server.place, fix=key)


def examine_otel_collector(context: CheckContext) -> Iterator[Finding]:
    """Like `examine_collector`, but with --stack a missing collector is an error, also at the default endpoint."""
    for finding in examine_collector(context):
        if finding.code in (Code.COLLECTOR_NONE, Code.COLLECTOR_UNREACHABLE):
            fix = f"{COMPOSE} up -d otel-collector; or correct OTEL_EXPORTER_OTLP_ENDPOINT"
            yield replace(finding, code=Code.COLLECTOR_UNREACHABLE, fix=fix)
        else:
            yield finding


def examine_undelivered(context: CheckContext) -> Iterator[Finding]:
    """What the store holds that is not delivered yet, and how often a delivery failed."""
    seen = context.inspection
    jobs = [one.job for one in seen.pending] if context.settings.pushgateway_url is not None else []
    groups = f"{len(jobs)} ({one_line(', '.join(jobs), limit=160)})" if jobs else 0
    rows: tuple[tuple[str, str | int, str], ...] = (
        ("metric groups not yet pushed to the gateway", groups, "taskpilot metrics push"),
        ("runs whose traces are not with the collector", seen.undelivered_traces, "taskpilot traces replay"),
        (
            "attempts whose spans are not in traces.jsonl yet",
            seen.unwritten_traces,
            "the end of any run writes them; the job housekeeping does so every 15 minutes",
        ),
    )
    pending = [found(Code.TELEMETRY_PENDING, what=what, pending=number, fix=fix) for what, number, fix in rows if number]
    yield from pending or [found(Code.TELEMETRY_OK)]
    if seen.telemetry_failures:
        counts = ", ".join(f"{one_line(sink, limit=40)} {number:,}" for sink, number in sorted(seen.telemetry_failures.items()))
        yield found(Code.TELEMETRY_FAILURES, counts=counts)


def _below(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _word(value: Any) -> str:
    return one_line(str(value), limit=80)


STACK: Final[dict[str, Callable[[CheckContext], Iterator[Finding]]]] = {
    "telemetry": examine_undelivered,
    "pushgateway": examine_pushgateway,
    "collector": examine_otel_collector,
    "prometheus": _examined("prometheus", _prometheus),
    "alertmanager": _examined("alertmanager", _alertmanager),
    "jaeger": _examined("jaeger", _jaeger),
    "elasticsearch": _examined("elasticsearch", _elasticsearch),
    "grafana": _examined("grafana", _grafana),
}
"""By subject; all servers are asked at the same time."""
