"""The script that gives Kibana's user its password, run for real against a server that plays Elasticsearch."""

import base64
import json
import subprocess
from pathlib import Path

import pytest

from tests.servers.bad_gateway import BadServer, answering
from tests.servers.debian import require

SCRIPT = Path(__file__).parents[3] / "observability" / "elasticsearch" / "kibana-user.sh"


def run(server: BadServer, **passwords: str) -> subprocess.CompletedProcess[str]:
    require("curl", "curl")
    environment = {"PATH": "/usr/bin:/bin", "ELASTICSEARCH_URL": server.url, **passwords}
    return subprocess.run(["sh", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("password", ["Zm9v-bar_", 'quo"te and \\ back'])
def test_the_password_is_set_by_the_user_elastic(password: str) -> None:
    with answering(200, b"{}") as server:
        done = run(server, ELASTIC_PASSWORD=password, KIBANA_SYSTEM_PASSWORD=f"its {password}")
    assert (done.returncode, done.stderr) == (0, "")
    assert password not in done.stdout
    (request,) = server.received
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /_security/user/kibana_system/_password ")
    assert base64.b64encode(f"elastic:{password}".encode()) in head
    assert json.loads(body) == {"password": f"its {password}"}


def test_a_wrong_password_is_told_and_stops_the_rest() -> None:
    with answering(401, b"{}") as server:
        done = run(server, ELASTIC_PASSWORD="old", KIBANA_SYSTEM_PASSWORD="new")
    assert done.returncode == 1
    assert "ELASTIC_PASSWORD" in done.stderr
