"""`doctor --stack`: each server of the stack well, and with one fault planted; real ones where Debian has them."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.doctor.deployments import Diagnosis, Patient
from tests.servers.bad_gateway import BadServer, answering, dead, dripping, hanging
from tests.servers.debian import require
from tests.servers.ports import free_port
from tests.servers.pushgateway import Pushgateway, pushgateway, wait_for

RULES = {"groups": [{"name": "taskpilot", "rules": [{"alert": "Never", "expr": "taskpilot_run_last_start_timestamp_seconds > 1e12"}]}]}
FAILING = {"groups": [{"name": "taskpilot", "rules": [{"record": "a", "expr": "taskpilot_store_info * on() taskpilot_store_info"}]}]}
WEBHOOK = {"route": {"receiver": "r"}, "receivers": [{"name": "r", "webhook_configs": [{"url": "http://localhost:1/"}]}]}
SILENT = {"route": {"receiver": "r"}, "receivers": [{"name": "r"}]}
GRAFANA = {"/api/health": {"database": "ok", "version": "13.2.3", "commit": "x"}}
ELASTIC = {"/": {"version": {"number": "9.5.3"}}, "/_cluster/health": {"status": "yellow"}}
PAGE = 'const JAEGER_VERSION = {"gitCommit":"x","gitVersion":"v2.21.0","buildDate":"y"};'
JAEGER = {"/": PAGE, "/api/services": {"data": ["jaeger", "taskpilot"], "total": 2}}


@contextmanager
def saying(answers: Mapping[str, Any]) -> Iterator[str]:
    """A server that answers each path with its JSON or its page, and any other with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def started(folder: Path, name: str, config: Mapping[str, Any], *flags: str) -> Iterator[str]:
    """A Prometheus or an Alertmanager with this configuration."""
    binary, port = require(name, name), free_port()
    file = folder / f"{name}-{port}.yml"
    # JSON is YAML too.
    file.write_text(json.dumps(config))
    arguments = [binary, f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}", *flags]
    with (folder / f"{name}.log").open("ab") as log, subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/-/ready", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def alertmanager(folder: Path, config: Mapping[str, Any] = WEBHOOK) -> AbstractContextManager[str]:
    storage = f"--storage.path={folder / 'alerts'}"
    return started(folder, "prometheus-alertmanager", config, storage, "--cluster.listen-address=")


def prometheus(
    folder: Path, scraped: str, *, alerts: str | None, rules: Mapping[str, Any] = RULES, honor_labels: bool = True
) -> AbstractContextManager[str]:
    (folder / "rules.yml").write_text(json.dumps(rules))
    targets = [{"static_configs": [{"targets": [alerts.removeprefix("http://")]}]}] if alerts else []
    scrape = {"job_name": "gateway", "honor_labels": honor_labels, "static_configs": [{"targets": [scraped.removeprefix("http://")]}]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yml")],
        "alerting": {"alertmanagers": targets},
        "scrape_configs": [scrape],
    }
    return started(folder, "prometheus", config, f"--storage.tsdb.path={folder / f'tsdb-{free_port()}'}")


class Stack:
    """The addresses of a stack, and a deployment that is told of them."""

    def __init__(self, deployment: Patient, **urls: str) -> None:
        self.deployment = deployment
        self.urls = urls

    def look(self, **urls: str) -> Diagnosis:
        """`doctor --stack` with some of the addresses changed."""
        given = self.urls | urls
        environment = {f"TASKPILOT_STACK_{name.upper()}_URL": url for name, url in given.items() if name != "pushgateway"}
        return self.deployment.diagnose(environment={**environment, "TASKPILOT_PUSHGATEWAY_URL": given["pushgateway"] or None}, stack=True)

    def until(self, code: str, **urls: str) -> Diagnosis:
        """The same when it says so: a scrape takes its time."""
        deadline = time.monotonic() + 20
        while code not in (found := self.look(**urls)).findings:
            assert time.monotonic() < deadline, json.dumps(found.document["findings"], indent=1)
        return found


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("stack")
    with ExitStack() as running:
        gateway = running.enter_context(pushgateway(folder))
        alerts = running.enter_context(alertmanager(folder))
        yield {
            "pushgateway": gateway.url,
            "alertmanager": alerts,
            "prometheus": running.enter_context(prometheus(folder, gateway.url, alerts=alerts)),
            "jaeger": running.enter_context(saying(JAEGER)),
            "elasticsearch": running.enter_context(saying(ELASTIC)),
            "grafana": running.enter_context(saying(GRAFANA)),
        }


@pytest.fixture
def stack(deployment: Patient, servers: dict[str, str]) -> Stack:
    """A stack that is well, and a deployment whose numbers are there."""
    assert deployment("metrics", "push", environment={"TASKPILOT_PUSHGATEWAY_URL": servers["pushgateway"]}).code == 0
    return Stack(deployment, **servers)


def test_a_stack_that_is_well_says_each_servers_version(stack: Stack) -> None:
    found = stack.until("prometheus.ok")
    assert (found.code, found.bad) == (0, set()), found.bad
    for subject, words in {
        "prometheus": r"Prometheus \d+\.\d+.* has our metrics and 1 of our rules",
        "pushgateway": r"Pushgateway \d+\.\d+",
        "alertmanager": r"Alertmanager \d+\.\d+",
        "jaeger": r"Jaeger v2\.21\.0 .* has traces of taskpilot",
        "elasticsearch": r"Elasticsearch 9\.5\.3 .* is yellow",
        "grafana": r"Grafana 13\.2\.3",
        "telemetry": r"nothing is pending",
    }.items():
        assert re.match(words, found.one(f"{subject}.ok")["sentence"]), found.one(f"{subject}.ok")
    assert not any(code.startswith(("jaeger", "telemetry")) for code in stack.deployment.diagnose().findings), "only where one asks"


@pytest.mark.parametrize("subject", ["prometheus", "alertmanager", "jaeger", "elasticsearch", "grafana", "pushgateway"])
@pytest.mark.parametrize("start", [dead, partial(answering, 200, b"<html>")], ids=["dead", "another server"])
def test_one_that_is_away_is_named_with_what_starts_it(subject: str, start: Any, stack: Stack) -> None:
    with start() as server:
        found = stack.look(**{subject: server.url})
    assert found.code == 1
    assert found.bad - {"gateway.unreachable"} - {"prometheus.no-series"} == {f"{subject}.unreachable"}
    assert f"up -d {subject}" in found.one(f"{subject}.unreachable")["fix"]


def test_a_collector_that_is_away_is_an_error_here(stack: Stack) -> None:
    stack.deployment.environment |= {"OTEL_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    found = stack.look()
    assert (found.code, found.bad - {"prometheus.no-series"}) == (1, {"collector.unreachable"})
    assert "up -d otel-collector" in found.one("collector.unreachable")["fix"]


def test_servers_that_hang_are_given_up_together(stack: Stack) -> None:
    with hanging() as silent, dripping() as slow:
        began = time.monotonic()
        found = stack.look(prometheus=silent.url, alertmanager=slow.url, jaeger=silent.url, elasticsearch=slow.url, grafana=silent.url)
        took = time.monotonic() - began
    away = {"prometheus", "alertmanager", "jaeger", "elasticsearch", "grafana"}
    assert found.bad == {f"{subject}.unreachable" for subject in away}
    assert took < 15, took


def test_a_prometheus_that_does_not_know_us(stack: Stack, tmp_path: Path) -> None:
    with prometheus(tmp_path, f"127.0.0.1:{free_port()}", alerts=None, rules={"groups": []}) as url:
        found = stack.look(prometheus=url)
        down = stack.until("prometheus.no-series", prometheus=url)
    assert found.bad == {"prometheus.no-series", "prometheus.no-rules", "prometheus.no-alertmanager"}
    assert "rule_files" in found.one("prometheus.no-rules")["fix"]
    assert "taskpilot metrics push" in down.one("prometheus.no-series")["fix"]


def test_a_prometheus_that_renames_our_labels_and_a_rule_that_fails(stack: Stack, tmp_path: Path) -> None:
    assert stack.deployment("run", "by_hand", "--quiet", environment={"TASKPILOT_PUSHGATEWAY_URL": stack.urls["pushgateway"]}).code == 0
    alerts = stack.urls["alertmanager"]
    with prometheus(tmp_path, stack.urls["pushgateway"], alerts=alerts, rules=FAILING, honor_labels=False) as url:
        stack.until("prometheus.labels", prometheus=url)
        found = stack.until("prometheus.rule-fails", prometheus=url)
    assert "honor_labels: true" in found.one("prometheus.labels")["fix"]
    assert "the rule a fails: " in found.one("prometheus.rule-fails")["sentence"]
    assert found.bad == {"prometheus.labels", "prometheus.rule-fails"}


def test_an_alertmanager_without_a_receiver(stack: Stack, tmp_path: Path) -> None:
    with alertmanager(tmp_path, SILENT) as url:
        found = stack.look(alertmanager=url)
    assert (found.code, found.bad) == (1, {"alertmanager.no-receiver"})


@pytest.mark.parametrize(
    ("subject", "answers", "code"),
    [
        ("jaeger", {**JAEGER, "/api/services": {"data": None}}, "jaeger.no-traces"),
        ("elasticsearch", {**ELASTIC, "/_cluster/health": {"status": "red"}}, "elasticsearch.red"),
        ("grafana", {"/api/health": {"database": "failing", "version": "13.2.3"}}, "grafana.database"),
    ],
)
def test_one_that_answers_and_is_not_well(subject: str, answers: dict[str, Any], code: str, stack: Stack) -> None:
    with saying(answers) as url:
        found = stack.look(**{subject: url})
    assert found.one(code)["fix"]
    assert f"{subject}.ok" not in found.findings


def test_an_elasticsearch_that_asks_for_a_password_is_told_how_and_keeps_it_to_itself(stack: Stack) -> None:
    server: BadServer
    with answering(401) as server:
        found = stack.look(elasticsearch=server.url.replace("http://", "http://elastic:secret-word@"))
    assert "with the password of .env" in found.one("elasticsearch.password")["fix"]
    assert "secret-word" not in json.dumps(found.document)
    assert b"Authorization: Basic" in server.received[0]


def test_a_gateway_without_pushes_and_what_is_not_delivered(deployment: Patient, stack: Stack, gateway: Pushgateway) -> None:
    deployment.environment["TASKPILOT_PUSHGATEWAY_URL"] = f"http://127.0.0.1:{free_port()}"
    assert deployment("run", "by_hand", "--quiet").code == 0
    deployment.sql("UPDATE attempts SET traces_due_at = 5")
    deployment.sql("UPDATE attempts SET traces_written_at = NULL WHERE number = 1 AND run_id = (SELECT max(id) FROM runs)")
    del deployment.environment["TASKPILOT_PUSHGATEWAY_URL"]
    found = stack.look(pushgateway=gateway.url)
    pending = {one["fix"].partition(",")[0]: one["sentence"] for one in found.findings["telemetry.pending"]}
    assert "(by_hand" in pending["taskpilot metrics push"]
    assert pending["taskpilot traces replay"].endswith(": 2")
    assert any(sentence.endswith("traces.jsonl yet: 1") for sentence in pending.values())
    # That of the run itself; what else is pending is tried too where time is left.
    assert re.search(r"gateway [12]\b", found.one("telemetry.failures")["sentence"])
    without = stack.look(pushgateway="")
    assert {"pushgateway.unused", "pushgateway.unreachable"} & set(without.findings)
    assert not any("metric groups" in one["sentence"] for one in without.findings["telemetry.pending"])
