"""The stack that tells of runs after they are over: each server there, of which version, and knowing us; nothing is sent to it."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlencode

from taskpilot.diagnostics.context import ANSWER_SECONDS, CheckContext
from taskpilot.diagnostics.findings import Code, Finding, unchecked
from taskpilot.diagnostics.telemetry import examine_collector
from taskpilot.domain.text import one_line
from taskpilot.http import Unanswered, exchange, shown
from taskpilot.telemetry.gateway import JOB

_BODY_MAX: Final = 8 * 1024 * 1024
_COMPOSE: Final = "docker compose -f docker-compose.observability.yml"
_GATEWAY: Final = "http://localhost:9091"
"""Where the stack's gateway is, for a deployment that names none."""
_JAEGER_VERSION: Final = re.compile(r"JAEGER_VERSION\s*=\s*\{[^}]*\"gitVersion\"\s*:\s*\"([^\"]+)\"")
_RECEIVES: Final = re.compile(r"^\s+(?:- )?\w+_configs:", re.MULTILINE)
"""A way of a receiver, in Alertmanager's configuration."""

Look = Callable[["_Server"], Iterator[Finding]]


class _NoUse(Exception):
    """The server gave no usable answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _Server:
    """One server, asked several times within the time of one answer."""

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
            raise _NoUse(f"its answer to {path.partition('?')[0]} is not that of the server that should be there") from None
        return value


def _examined(subject: str, look: Look) -> Callable[[CheckContext], Iterator[Finding]]:
    """The look at one server of the settings' `[stack]`."""
    key = f"stack.{subject} in taskpilot.toml"

    def examine(context: CheckContext) -> Iterator[Finding]:
        if why := context.unsound(f"stack_{subject}"):
            yield unchecked(subject, why)
            return
        server = _Server(context, getattr(context.settings, f"stack_{subject}"))
        try:
            yield from look(server)
        except _NoUse as error:
            code = next(code for code in Code if code == f"{subject}.unreachable")
            yield Finding(code, f"{server.place} gives no usable answer: {error}", f"{_COMPOSE} up -d {subject}; or correct {key}")

    return examine


def _prometheus(server: _Server) -> Iterator[Finding]:
    version = _word(server.json("/api/v1/status/buildinfo", "data", "version"))
    store_id = server.context.inspection.store_id
    flaws = list(_series(server, store_id)) if store_id is not None else []
    rules = [rule for group in server.json("/api/v1/rules", "data", "groups") for rule in group["rules"]]
    ours = [rule for rule in rules if "taskpilot_" in str(rule.get("query", ""))]
    if not ours:
        fix = "name observability/prometheus/rules/*.yml under rule_files in prometheus.yml, and start Prometheus again"
        flaws.append(Finding(Code.PROMETHEUS_NO_RULES, f"{server.place} has none of our rules, so silence raises no alarm", fix))
    for rule in ours:
        if rule.get("health") == "err":
            sentence = f"the rule {_word(rule.get('name'))} fails: {one_line(str(rule.get('lastError', '')), limit=300)}"
            flaws.append(Finding(Code.PROMETHEUS_RULE_FAILS, sentence, "promtool check rules observability/prometheus/rules/*.yml"))
    if not server.json("/api/v1/alertmanagers", "data", "activeAlertmanagers"):
        fix = "name it under alerting.alertmanagers in prometheus.yml"
        flaws.append(Finding(Code.PROMETHEUS_NO_ALERTMANAGER, f"{server.place} has no Alertmanager to tell of an alarm", fix))
    yield from flaws
    if not flaws:
        known = "has our numbers and" if store_id is not None else "has"
        yield Finding(Code.PROMETHEUS_OK, f"Prometheus {version} at {server.place} {known} {len(ours)} of our rules")


def _series(server: _Server, store_id: str) -> Iterator[Finding]:
    """Whether this store's numbers are there, under the names that rules and dashboards ask for."""
    query = urlencode({"query": f"taskpilot_store_info{{store_id={json.dumps(store_id)}}}"})
    found = server.json(f"/api/v1/query?{query}", "data", "result")
    if any(one["metric"].get("job") == JOB for one in found):
        return
    if found:
        sentence = f"{server.place} has our numbers, under the gateway's name instead of job={JOB!r}"
        yield Finding(Code.PROMETHEUS_LABELS, sentence, "set honor_labels: true for the Pushgateway's scrape in prometheus.yml")
        return
    down = [one for one in server.json("/api/v1/targets?state=active", "data", "activeTargets") if one.get("health") == "down"]
    told = "".join(f"; {_word(one.get('scrapeUrl'))} is down: {one_line(str(one.get('lastError', '')), limit=200)}" for one in down[:3])
    fix = "taskpilot metrics push; and let prometheus.yml scrape the Pushgateway as observability/prometheus/prometheus.yml does"
    yield Finding(Code.PROMETHEUS_NO_SERIES, f"{server.place} has no number of this store{told}", fix)


def _alertmanager(server: _Server) -> Iterator[Finding]:
    status = server.json("/api/v2/status")
    version = _word(_below(status, "versionInfo", "version"))
    if not _RECEIVES.search(str(_below(status, "config", "original"))):
        sentence = f"{server.place} has no receiver that tells anybody"
        yield Finding(Code.ALERTMANAGER_NO_RECEIVER, sentence, "give alertmanager.yml a receiver, as observability/alertmanager does")
        return
    yield Finding(Code.ALERTMANAGER_OK, f"Alertmanager {version} at {server.place}")


def _jaeger(server: _Server) -> Iterator[Finding]:
    services = server.json("/api/services", "data") or []
    found = _JAEGER_VERSION.search(server.text("/"))
    name = f"Jaeger {_word(found[1])}" if found else "Jaeger (it does not say its version)"
    ours = server.context.settings.otel_resource["service.name"]
    if ours not in services:
        sentence = f"{name} at {server.place} has no trace of {one_line(ours, limit=80)} yet"
        yield Finding(Code.JAEGER_NO_TRACES, sentence, "taskpilot traces replay, where runs have ended since it is there")
        return
    yield Finding(Code.JAEGER_OK, f"{name} at {server.place} has traces of {one_line(ours, limit=80)}")


def _elasticsearch(server: _Server) -> Iterator[Finding]:
    try:
        version = _word(server.json("/", "version", "number"))
    except _NoUse as error:
        if error.status not in (401, 403):
            raise
        fix = "set TASKPILOT_STACK_ELASTICSEARCH_URL=http://elastic:PASSWORD@localhost:9200, with the password of .env"
        yield Finding(Code.ELASTICSEARCH_PASSWORD, f"{server.place} answers and asks for a password; its health was not looked at", fix)
        return
    health = server.json("/_cluster/health", "status")
    if health == "red":
        sentence = f"Elasticsearch {version} at {server.place} is red: some of the log lines cannot be read or written"
        yield Finding(Code.ELASTICSEARCH_RED, sentence, f"{_COMPOSE} logs elasticsearch")
        return
    yield Finding(Code.ELASTICSEARCH_OK, f"Elasticsearch {version} at {server.place} is {_word(health)}")


def _grafana(server: _Server) -> Iterator[Finding]:
    health = server.json("/api/health")
    version = _word(_below(health, "version"))
    if _below(health, "database") != "ok":
        sentence = f"Grafana {version} at {server.place} cannot use its database: {_word(_below(health, 'database'))}"
        yield Finding(Code.GRAFANA_DATABASE, sentence, f"{_COMPOSE} logs grafana")
        return
    yield Finding(Code.GRAFANA_OK, f"Grafana {version} at {server.place}")


def examine_pushgateway(context: CheckContext) -> Iterator[Finding]:
    """The gateway's version; and one that is there and that nobody uses. What it holds of us is told by the subject gateway."""
    if why := context.unsound("pushgateway_url"):
        yield unchecked("pushgateway", why)
        return
    url = context.settings.pushgateway_url
    server = _Server(context, url or _GATEWAY)
    key = f"set TASKPILOT_PUSHGATEWAY_URL={_GATEWAY}"
    try:
        version = _word(server.json("/api/v1/status", "data", "build_information", "version"))
    except _NoUse as error:
        fix = f"{_COMPOSE} up -d pushgateway; {'or correct TASKPILOT_PUSHGATEWAY_URL' if url else key}"
        yield Finding(Code.PUSHGATEWAY_UNREACHABLE, f"{server.place} gives no usable answer: {error}", fix)
        return
    if url is None:
        sentence = f"Pushgateway {version} at {server.place} answers, and nothing is pushed to it"
        yield Finding(Code.PUSHGATEWAY_UNUSED, sentence, key)
    else:
        yield Finding(Code.PUSHGATEWAY_OK, f"Pushgateway {version} at {server.place}")


def examine_otel_collector(context: CheckContext) -> Iterator[Finding]:
    """The collector as ever; but who asks for the stack wants one, also where it is only the default that names it."""
    for finding in examine_collector(context):
        if finding.code in (Code.COLLECTOR_NONE, Code.COLLECTOR_UNREACHABLE):
            fix = f"{_COMPOSE} up -d otel-collector; or correct OTEL_EXPORTER_OTLP_ENDPOINT"
            yield Finding(Code.COLLECTOR_UNREACHABLE, finding.sentence, fix)
        else:
            yield finding


def examine_undelivered(context: CheckContext) -> Iterator[Finding]:
    """What the record holds that nobody got yet, and how often something could not be delivered at once."""
    seen = context.inspection
    pending = seen.pending if context.settings.pushgateway_url is not None else ()
    if pending:
        names = one_line(", ".join(one.job for one in pending), limit=160)
        yield Finding(
            Code.TELEMETRY_OWED, f"metric groups that are pending to the gateway: {len(pending)} ({names})", "taskpilot metrics push"
        )
    if seen.undelivered_traces:
        sentence = f"runs whose traces are not with the collector: {seen.undelivered_traces}"
        yield Finding(Code.TELEMETRY_OWED, sentence, "taskpilot traces replay")
    if seen.unwritten_traces:
        sentence = f"attempts whose spans are not in traces.jsonl yet: {seen.unwritten_traces}"
        yield Finding(Code.TELEMETRY_OWED, sentence, "the end of any run writes them; the job housekeeping does so every 15 minutes")
    if not (pending or seen.undelivered_traces or seen.unwritten_traces):
        yield Finding(Code.TELEMETRY_OK, "nothing is pending: every number and every span is where it should be")
    if seen.telemetry_failures:
        counts = ", ".join(f"{one_line(sink, limit=40)} {number:,}" for sink, number in sorted(seen.telemetry_failures.items()))
        yield Finding(Code.TELEMETRY_FAILURES, f"could not be delivered at once, since the store was made: {counts}")


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
"""By subject; each server is asked at the same time as the others."""
