"""A healthy deployment for the doctor: a store with a run in it, embedded rules, no telemetry; each test spoils one thing."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.doctor.deployments import Patient, patient
from tests.servers.pushgateway import Pushgateway, pushgateway


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dir in which one run succeeded."""
    first = patient(tmp_path_factory.mktemp("recorded"))
    said = first("run", "good", "--quiet", environment={"TASKPILOT_DEPLOYMENT": "night"})
    assert said.code == 0, said.err
    return first.state_dir


@pytest.fixture
def unused(tmp_path: Path) -> Patient:
    """A deployment in which nothing ran yet."""
    return patient(tmp_path)


@pytest.fixture
def deployment(unused: Patient, recorded: Path) -> Patient:
    """A healthy deployment."""
    shutil.copytree(recorded, unused.state_dir)
    return unused


@pytest.fixture(scope="session")
def running_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushgateway]:
    with pushgateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def gateway(running_gateway: Pushgateway) -> Pushgateway:
    """A Pushgateway without groups."""
    with urllib.request.urlopen(f"{running_gateway.url}/api/v1/metrics", timeout=10) as answer:
        groups = [group["labels"] for group in json.loads(answer.read())["data"]]
    for labels in groups:
        place = "".join(f"/{name}/{value}" for name, value in sorted(labels.items(), key=lambda pair: pair[0] != "job"))
        urllib.request.urlopen(urllib.request.Request(f"{running_gateway.url}/metrics{place}", method="DELETE"), timeout=10).close()
    return running_gateway
