"""Prometheus and Alertmanager as they are shipped: what the rules name exists, and who is woken is told what to type."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from taskpilot.cli.program import program
from taskpilot.config import load
from taskpilot.domain.instruments import COUNTERS, GAUGES, HISTOGRAMS
from tests.servers.alertmanager import for_debian
from tests.servers.debian import require

SCHEDULER = {f"taskpilot_scheduler_{name}" for name in ("last_tick_timestamp_seconds", "running_runs", "queued_runs")}
"""Pushed by a server, in a group of its own."""
EXPORTED = {one.name for one in (*COUNTERS, *GAUGES)} | SCHEDULER
EXPORTED |= {f"{one.name}_{part}" for one in HISTOGRAMS for part in ("bucket", "sum", "count")}
LABELS = {one.name: set(one.labels) for one in (*COUNTERS, *GAUGES, *HISTOGRAMS)}


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "observability" / "prometheus"


@pytest.fixture(scope="module")
def rules(folder: Path) -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text()) for path in sorted((folder / "rules").glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def alerts(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for rule in rules if "alert" in rule]


@pytest.fixture(scope="module")
def configuration(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "prometheus.yml").read_text())
    return content


def commands(alert: dict[str, Any]) -> list[list[str]]:
    """The lines to type that an alert's runbook has between backticks, with a word in the place of each label."""
    typed = re.findall(r"`(taskpilot [^`]*)`", re.sub(r"\{\{.*?\}\}", "it", alert["annotations"]["runbook"]))
    return [shlex.split(line)[1:] for line in typed]


def test_each_rule_asks_for_metrics_and_labels_that_we_export(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        for name, matchers in re.findall(r"\b(taskpilot_[a-z_]+)\b(?:\{([^}]*)\})?", rule["expr"]):
            assert name in EXPORTED, rule
            labels = LABELS.get(name, LABELS.get(re.sub("_(bucket|sum|count)$", "", name), set()))
            assert set(re.findall(r"(\w+)\s*[!=]~?", matchers)) <= labels, rule


def test_each_alert_says_how_bad_it_is_and_what_to_type(alerts: list[dict[str, Any]]) -> None:
    assert len({alert["alert"] for alert in alerts}) == len(alerts) == 15
    for alert in alerts:
        assert alert["alert"].startswith("TaskPilot")
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        assert commands(alert), alert["alert"]


def test_what_a_runbook_tells_to_type_exists(alerts: list[dict[str, Any]]) -> None:
    for alert in alerts:
        for line in commands(alert):
            words = line
            context = click.Context(program)
            command: click.Command = program
            while isinstance(command, click.Group) and words and not words[0].startswith("-"):
                found = command.get_command(context, words[0])
                assert found is not None, (alert["alert"], words)
                command, context, words = found, click.Context(found, parent=context), words[1:]
            options = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= options, (alert["alert"], words)


def test_the_pushgateways_labels_stay_those_that_were_pushed(configuration: dict[str, Any]) -> None:
    gateway, server = configuration["scrape_configs"]
    assert gateway["honor_labels"] is True
    assert "honor_labels" not in server
    assert server["job_name"] == "taskpilot", "the label `job` is always taskpilot"
    assert configuration["global"] == {"scrape_interval": "15s", "evaluation_interval": "15s"}


def test_what_prometheus_asks_is_a_container_and_its_port(repository: Path, configuration: dict[str, Any]) -> None:
    services = yaml.safe_load((repository / "docker-compose.observability.yml").read_text())["services"]
    places = [configuration["scrape_configs"][0], configuration["alerting"]["alertmanagers"][0]]
    for target in [target for place in places for group in place["static_configs"] for target in group["targets"]]:
        host, _, port = target.partition(":")
        assert any(mapping.endswith(f":{port}") for mapping in services[host]["ports"]), target


def test_the_scrape_of_serve_is_a_file_to_copy_with_the_port_that_serve_has(repository: Path, folder: Path, tmp_path: Path) -> None:
    example = folder / "targets" / "serve.yml.example"
    (tmp_path / "taskpilot.toml").touch()
    port = load(root=tmp_path, environ={}).port
    assert yaml.safe_load(example.read_text()) == [{"targets": [f"host.docker.internal:{port}"]}]
    # Off until somebody copies it, and git does not see the copy.
    assert not list((folder / "targets").glob("*.yml"))
    assert "observability/prometheus/targets/serve.yml" in (repository / ".gitignore").read_text().splitlines()


def test_prometheus_accepts_its_configuration(repository: Path) -> None:
    command = [require("promtool", "prometheus"), "check", "config", "observability/prometheus/prometheus.yml"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "3 rule files found" in done.stdout


def test_alertmanager_accepts_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "alertmanager.yml").write_text(for_debian("http://127.0.0.1:1/alerts"))
    command = [require("amtool", "prometheus-alertmanager"), "check-config", "alertmanager.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_webhooks_address_comes_from_a_secret_of_compose(repository: Path) -> None:
    configuration = yaml.safe_load((repository / "observability/alertmanager/alertmanager.yml").read_text())
    (hook,) = [hook for receiver in configuration["receivers"] for hook in receiver["webhook_configs"]]
    compose = yaml.safe_load((repository / "docker-compose.observability.yml").read_text())
    (secret,) = compose["services"]["alertmanager"]["secrets"]
    assert hook["url_file"] == f"/run/secrets/{secret}"
    assert secret in compose["secrets"]


def test_an_alert_that_is_silenced_by_another_is_one_that_exists(repository: Path, alerts: list[dict[str, Any]]) -> None:
    names = {alert["alert"] for alert in alerts}
    for rule in yaml.safe_load((repository / "observability/alertmanager/alertmanager.yml").read_text())["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            pattern = matcher.partition('"')[2].rstrip('"')
            assert [name for name in names if re.fullmatch(pattern, name)], matcher


@pytest.mark.parametrize("place", ["collector", "jaeger"])
def test_spans_go_where_the_settings_send_them_and_on_to_jaeger(repository: Path, tmp_path: Path, place: str) -> None:
    collector = yaml.safe_load((repository / "observability/otel/collector.yml").read_text())
    jaeger = yaml.safe_load((repository / "observability/jaeger/jaeger.yml").read_text())
    configuration = collector if place == "collector" else jaeger
    listens = {name: one["endpoint"].rpartition(":")[2] for name, one in configuration["receivers"]["otlp"]["protocols"].items()}
    if place == "jaeger":
        assert listens == {"grpc": collector["exporters"]["otlp_grpc"]["endpoint"].removeprefix("jaeger:")}
    else:
        (tmp_path / "taskpilot.toml").touch()
        for protocol, name in (("grpc", "grpc"), ("http/protobuf", "http")):
            settings = load(root=tmp_path, environ={"OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
            assert settings.otel_endpoint == f"http://localhost:{listens[name]}"
    # Every part that is named in the pipeline is configured, and the other way round.
    service = configuration["service"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(service["pipelines"]["traces"][kind]) == set(configuration[kind])
    assert set(service["extensions"]) == set(configuration["extensions"])
