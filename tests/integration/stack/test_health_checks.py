"""The health checks of the compose file, typed against real servers: well where one answers, unwell where none does."""

import subprocess
from pathlib import Path

import yaml

from tests.servers.alertmanager import alertmanager
from tests.servers.debian import require
from tests.servers.ports import free_port
from tests.servers.prometheus import prometheus
from tests.servers.pushgateway import pushgateway

COMPOSE = Path(__file__).parents[3] / "docker-compose.observability.yml"


def is_well(service: str, port: int) -> bool:
    """What the service's health check says of the server on that port."""
    content = yaml.safe_load(COMPOSE.read_text())["services"][service]
    (published,) = [mapping.rpartition(":")[2] for mapping in content["ports"]]
    kind, program, *arguments = content["healthcheck"]["test"]
    assert kind == "CMD"
    command = [program, *(argument.replace(f"127.0.0.1:{published}", f"127.0.0.1:{port}") for argument in arguments)]
    assert any(f":{port}" in argument for argument in command)
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def test_prometheus_is_well_where_it_answers_a_query(tmp_path: Path) -> None:
    require("promtool", "prometheus")
    with prometheus(tmp_path, []) as running:
        assert is_well("prometheus", int(running.url.rpartition(":")[2]))
    assert not is_well("prometheus", free_port())


def test_alertmanager_is_well_where_it_shows_its_configuration(tmp_path: Path) -> None:
    require("amtool", "prometheus-alertmanager")
    with alertmanager(tmp_path, "http://127.0.0.1:1/alerts") as address:
        assert is_well("alertmanager", int(address.rpartition(":")[2]))
    assert not is_well("alertmanager", free_port())


def test_the_pushgateway_is_well_where_it_is_ready(tmp_path: Path) -> None:
    require("wget", "wget")
    with pushgateway(tmp_path) as gateway:
        assert is_well("pushgateway", gateway.port)
    assert not is_well("pushgateway", free_port())
