"""The compose file: what holds for each of its containers. Docker itself is not asked: CI has none."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskpilot.config import load
from taskpilot.telemetry.decision_log import FILE as DECISIONS_FILE
from taskpilot.telemetry.logs import FILE as LOG_FILE

SERVICES = (
    "alertmanager",
    "elasticsearch",
    "filebeat",
    "grafana",
    "jaeger",
    "kibana",
    "otel-collector",
    "prometheus",
    "pushgateway",
    "setup",
)
ONE_SHOT = "setup"
UNASKABLE = "otel-collector"
"""Its image holds one program and no other: nothing inside could ask it, and its port 13133 answers from outside."""
KEYS = {
    "image", "restart", "security_opt", "logging", "mem_limit", "command", "entrypoint", "environment", "ports", "extra_hosts",
    "secrets", "volumes", "depends_on", "healthcheck", "ulimits", "user", "cap_drop", "cap_add",
}  # fmt: skip
PROBE_KEYS = {"test", "interval", "timeout", "retries", "start_period"}
ASKS = {"wget", "curl", "promtool", "amtool", "filebeat"}
"""Programs that the images bring along: busybox and alpine have wget, Elastic's have curl."""
MEGABYTES = {"m": 1, "g": 1024}
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:[-?][^}]*)?\}")


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docker-compose.observability.yml").read_text()


@pytest.fixture(scope="module")
def compose(text: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def mounts(compose: dict[str, Any], name: str, kind: str) -> list[dict[str, Any]]:
    return [mount for mount in compose["services"][name].get("volumes", ()) if mount["type"] == kind]


def test_the_file_says_only_what_compose_knows(compose: dict[str, Any]) -> None:
    assert {key for key in compose if not key.startswith("x-")} == {"name", "services", "volumes", "secrets"}
    for service in compose["services"].values():
        assert set(service) <= KEYS
        assert set(service.get("healthcheck", {})) <= PROBE_KEYS
        for mount in service.get("volumes", ()):
            assert set(mount) <= {"type", "source", "target", "read_only", "bind"}
    assert tuple(sorted(compose["services"])) == SERVICES


def test_every_image_is_pinned_to_a_version_in_one_place(text: str, compose: dict[str, Any]) -> None:
    images = {service["image"] for service in compose["services"].values()}
    for image in images:
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+", image), image
        # An alias, where two containers are made of one image.
        assert text.count(image) == 1, image
    assert len(images) == len(SERVICES) - 1
    elastic = {image.rpartition(":")[2] for image in images if re.search("elastic|kibana", image)}
    assert len(elastic) == 1, "Elastic's three must have one version"


def test_no_other_file_names_a_version_of_the_stack(repository: Path, compose: dict[str, Any]) -> None:
    tags = {service["image"].rpartition(":")[2] for service in compose["services"].values()}
    pages = [repository / "README.md", *(repository / "taskpilot/docs").glob("*.md")]
    for path in [*pages, *(one for one in (repository / "observability").rglob("*") if one.is_file())]:
        assert not [tag for tag in tags if tag in path.read_text()], path


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(compose: dict[str, Any], name: str) -> None:
    for port in compose["services"][name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port


def test_the_ports_are_those_of_the_design(compose: dict[str, Any]) -> None:
    published = Counter(int(port.rpartition(":")[2]) for service in compose["services"].values() for port in service.get("ports", ()))
    wanted = {9090, 9091, 9093, 3000, 4317, 4318, 13133, 16686, 9200, 5601}
    # 8000 is `taskpilot serve` itself, on the host.
    assert published == Counter(wanted)


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {ONE_SHOT, UNASKABLE}))
def test_every_service_is_asked_whether_it_is_well_by_a_program_of_its_image(compose: dict[str, Any], name: str) -> None:
    kind, *command = compose["services"][name]["healthcheck"]["test"]
    assert kind in {"CMD", "CMD-SHELL"}
    assert command[0].split()[0] in ASKS
    assert compose["services"][name]["healthcheck"]["start_period"]
    assert compose["services"][name]["restart"] == "unless-stopped"


def test_nobody_waits_for_the_health_of_what_cannot_be_asked(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other == ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}
            assert other != UNASKABLE
    assert compose["services"][ONE_SHOT]["restart"] == "no"


def test_nobody_waits_in_a_circle(compose: dict[str, Any]) -> None:
    waits = {name: set(service.get("depends_on", ())) for name, service in compose["services"].items()}
    started: set[str] = set()
    while ready := {name for name, others in waits.items() if name not in started and others <= started}:
        started |= ready
    assert started == set(SERVICES)
    # It waits for Kibana itself, by asking: the other way round nothing would ever start.
    assert ONE_SHOT not in waits["kibana"]


def test_all_together_fit_eight_gigabytes(compose: dict[str, Any]) -> None:
    limits = {name: service["mem_limit"] for name, service in compose["services"].items()}
    total = sum(int(limit[:-1]) * MEGABYTES[limit[-1]] for limit in limits.values())
    assert total <= 7 * 1024, "the machine itself needs some, too"


def test_elasticsearchs_heap_is_half_of_what_it_may_have(compose: dict[str, Any]) -> None:
    service = compose["services"]["elasticsearch"]
    assert (service["mem_limit"], service["environment"]["ES_JAVA_OPTS"]) == ("2g", "-Xms1g -Xmx1g")


@pytest.mark.parametrize("name", SERVICES)
def test_a_mount_is_read_only_and_made_by_nobody(compose: dict[str, Any], name: str) -> None:
    for mount in mounts(compose, name, "bind"):
        assert mount["read_only"] is True
        assert mount["bind"] == {"create_host_path": False}, "Docker would make the folder, and root would own it"
    for mount in mounts(compose, name, "volume"):
        assert mount["source"] in compose["volumes"]
        assert compose["volumes"][mount["source"]] is None


@pytest.mark.parametrize("name", SERVICES)
def test_every_mounted_file_exists(repository: Path, kept_files: list[Path], compose: dict[str, Any], name: str) -> None:
    for mount in mounts(compose, name, "bind"):
        if not mount["source"].startswith("${"):
            # git keeps no empty folder: one that is here may be nowhere else.
            there = any(path.is_relative_to(repository / mount["source"]) for path in kept_files)
            assert there, mount["source"]


def test_filebeat_reads_where_the_state_dir_is_mounted_with_what_it_is_given(repository: Path, compose: dict[str, Any]) -> None:
    service = compose["services"]["filebeat"]
    (state,) = [mount for mount in mounts(compose, "filebeat", "bind") if "TASKPILOT_HOME" in mount["source"]]
    path = repository / "observability/filebeat/filebeat.yml"
    configuration = yaml.safe_load(path.read_text())
    read = [Path(one) for source in configuration["filebeat.inputs"] for one in source["paths"]]
    assert Path(state["target"]) / LOG_FILE in read
    assert Path(state["target"]) / DECISIONS_FILE in read
    assert all(one.is_relative_to(state["target"]) for one in read)
    asked = {name for name, default in re.findall(r"\$\{(\w+)(:\S+?)?\}", path.read_text()) if default in {"", ":"}}
    assert asked <= set(service["environment"])


def test_the_setup_runs_scripts_that_are_mounted_with_what_they_ask_for(repository: Path, compose: dict[str, Any]) -> None:
    service = compose["services"]["setup"]
    assert service["entrypoint"][:2] == ["/bin/sh", "-c"]
    scripts = re.findall(r"sh (/setup/\S+)", service["entrypoint"][2])
    assert len(scripts) == 2
    folders = {mount["target"]: mount["source"] for mount in mounts(compose, "setup", "bind")}
    for script in map(Path, scripts):
        path = repository / folders[str(script.parent)] / script.name
        asked = set(re.findall(r"\$\{?([A-Z][A-Z_]+)\b(?!:-)", path.read_text()))
        assert asked <= set(service["environment"]), path


def test_every_volume_is_used_once(compose: dict[str, Any]) -> None:
    used = Counter(mount["source"] for name in SERVICES for mount in mounts(compose, name, "volume"))
    assert used == Counter(dict.fromkeys(compose["volumes"], 1))


def test_no_container_sees_docker_or_runs_with_more_rights_than_it_needs(text: str, compose: dict[str, Any]) -> None:
    assert "docker.sock" not in text
    for name, service in compose["services"].items():
        assert "no-new-privileges:true" in service["security_opt"]
        assert ("user" in service) is (name == "filebeat")
    filebeat = compose["services"]["filebeat"]
    assert (filebeat["user"], filebeat["cap_drop"], filebeat["cap_add"]) == ("root", ["ALL"], ["DAC_OVERRIDE"])


def test_the_host_is_known_by_name_where_it_is_asked(repository: Path, compose: dict[str, Any]) -> None:
    mapped = {name for name, service in compose["services"].items() if service.get("extra_hosts")}
    assert mapped == {"prometheus", "alertmanager"}
    for name in mapped:
        assert compose["services"][name]["extra_hosts"] == ["host.docker.internal:host-gateway"]


def test_the_gateway_keeps_its_totals_on_its_volume(compose: dict[str, Any]) -> None:
    service = compose["services"]["pushgateway"]
    (file,) = [option.partition("=")[2] for option in service["command"] if option.startswith("--persistence.file=")]
    assert any(Path(file).is_relative_to(mount["target"]) for mount in mounts(compose, "pushgateway", "volume"))


def test_prometheus_keeps_thirty_days_on_its_volume(compose: dict[str, Any]) -> None:
    command = compose["services"]["prometheus"]["command"]
    assert "--storage.tsdb.retention.time=30d" in command
    (volume,) = mounts(compose, "prometheus", "volume")
    assert f"--storage.tsdb.path={volume['target']}" in command


def test_no_password_has_a_default(text: str, compose: dict[str, Any]) -> None:
    for name, default in VARIABLE.findall(text):
        if name == "TASKPILOT_HOME":
            assert default == ":-./.taskpilot", "where a checkout keeps its state"
        else:
            assert default.startswith(":?"), name
    named = {secret["environment"] for secret in compose["secrets"].values()}
    assert named == {"ALERT_WEBHOOK_URL"}


def test_the_example_of_an_env_file_names_what_compose_asks_for_and_holds_nothing(
    repository: Path, text: str, compose: dict[str, Any]
) -> None:
    lines = [line for line in (repository / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    asked = {name for name, _ in VARIABLE.findall(text)} | {secret["environment"] for secret in compose["secrets"].values()}
    assert sorted(lines) == sorted(f"{name}=" for name in asked)


def test_what_compose_and_init_name_are_settings_of_ours_with_the_ports_of_the_stack(
    repository: Path, text: str, compose: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "taskpilot.toml").touch()
    assert load(root=tmp_path, environ={"TASKPILOT_HOME": "/srv/state"}).state_dir == Path("/srv/state")
    assert "${TASKPILOT_HOME:-./" + load(root=tmp_path, environ={}).state_dir.name + "}" in text
    printed = (repository / "taskpilot/cli/init.py").read_text()
    (gateway,) = re.findall(r"TASKPILOT_PUSHGATEWAY_URL=(http://\S+?)\"", printed)
    assert load(root=tmp_path, environ={"TASKPILOT_PUSHGATEWAY_URL": gateway}).pushgateway_url == gateway
    assert compose["services"]["pushgateway"]["ports"] == [f"{gateway.removeprefix('http://')}:9091"]
    (grafana,) = re.findall(r"open (http://\S+?) and log in as admin", printed)
    assert compose["services"]["grafana"]["ports"] == [f"{grafana.removeprefix('http://')}:3000"]
