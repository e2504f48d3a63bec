"""The compose file and the configuration that it mounts."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.debian import require

SERVICES = ("prometheus", "pushgateway")


@pytest.fixture(scope="module")
def compose(house: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((house / "docker-compose.observability.yml").read_text())
    return content


def test_the_small_stack_is_a_gateway_and_a_prometheus(compose: dict[str, Any]) -> None:
    assert sorted(compose["services"]) == sorted(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_a_version(compose: dict[str, Any], name: str) -> None:
    assert re.fullmatch(r"[a-z0-9./-]+:v\d+\.\d+\.\d+", compose["services"][name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(compose: dict[str, Any], name: str) -> None:
    ports = compose["services"][name]["ports"]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_tells_whether_it_is_well(compose: dict[str, Any], name: str) -> None:
    assert compose["services"][name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_every_mount_exists_or_is_a_declared_volume(house: Path, compose: dict[str, Any], name: str) -> None:
    mounts = [mount.split(":") for mount in compose["services"][name]["volumes"]]
    assert mounts
    for source, _target, *mode in mounts:
        if source.startswith("."):
            assert (house / source).is_file(), source
            assert mode == ["ro"], source
        else:
            assert source in compose["volumes"]


def test_the_gateway_keeps_its_totals_on_its_volume(compose: dict[str, Any]) -> None:
    service = compose["services"]["pushgateway"]
    (file,) = [option.partition("=")[2] for option in service["command"] if option.startswith("--persistence.file=")]
    targets = [mount.split(":")[1] for mount in service["volumes"]]
    assert any(Path(file).is_relative_to(target) for target in targets)


def test_prometheus_keeps_the_labels_that_were_pushed(house: Path, compose: dict[str, Any]) -> None:
    configuration = yaml.safe_load((house / "observability/prometheus/prometheus.yml").read_text())
    (scrape,) = configuration["scrape_configs"]
    assert scrape["honor_labels"] is True
    ((target,),) = [group["targets"] for group in scrape["static_configs"]]
    host, _, port = target.partition(":")
    assert any(mapping.endswith(f":{port}") for mapping in compose["services"][host]["ports"])


def test_prometheus_accepts_its_configuration(house: Path) -> None:
    promtool = require("promtool", "prometheus")
    command = [promtool, "check", "config", "observability/prometheus/prometheus.yml"]
    done = subprocess.run(command, cwd=house, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
