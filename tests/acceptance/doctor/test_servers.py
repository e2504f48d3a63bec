"""Planted faults of the servers that a deployment uses: model, gateway and collector, each real and local."""

import json
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.doctor.deployments import ASKING, Diagnosis, Patient
from tests.servers.bad_gateway import BadServer, answering, dead, dripping, hanging
from tests.servers.collector import grpc_collector, http_collector
from tests.servers.pushgateway import Pushgateway

LIST = json.dumps({"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]}).encode()
KEY = "sk-very-secret-key"
WELL = partial(answering, 200, LIST)


class TestModel:
    def ask(self, deployment: Patient, url: str, *, model: str = "gpt-4o-mini") -> Diagnosis:
        deployment.job(ASKING.format(model=model, options=""), name="asking")
        return deployment.diagnose(environment={"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": KEY, "TASKPILOT_MODEL": None})

    def test_a_server_that_takes_the_key_and_lists_the_model_is_well(self, deployment: Patient) -> None:
        with WELL() as server:
            found = self.ask(deployment, server.url)
        assert (found.code, found.bad) == (0, set())
        assert "lists gpt-4o-mini" in found.one("model.ok")["sentence"]
        (request,) = server.received
        assert request.startswith(b"GET /v1/models HTTP/1.1")
        assert f"Authorization: Bearer {KEY}".encode() in request

    @pytest.mark.parametrize(
        ("start", "code", "exit_code", "fix"),
        [
            (dead, "model.unreachable", 1, "OPENAI_BASE_URL"),
            (partial(answering, 401), "model.key-refused", 1, "set OPENAI_API_KEY"),
            (partial(answering, 404), "model.unchecked", 0, "OPENAI_BASE_URL, which mostly ends in /v1"),
            (partial(answering, 503), "model.unwell", 1, "try again later"),
            (partial(answering, 200, b"<html>"), "model.unchecked", 0, "OPENAI_BASE_URL"),
            (partial(answering, 200, b'{"data": [{"id": "other"}]}'), "model.not-listed", 0, "the job's model="),
        ],
        ids=["dead", "401", "404", "503", "html", "not listed"],
    )
    def test_one_that_is_not(
        self, deployment: Patient, start: Callable[[], AbstractContextManager[BadServer]], code: str, exit_code: int, fix: str
    ) -> None:
        with start() as server:
            found = self.ask(deployment, server.url)
        assert (found.code, found.bad) == (exit_code, {code})
        assert fix in found.one(code)["fix"]
        assert "model.ok" not in found.findings

    def test_no_way_to_a_model_is_78_and_all_three_are_shown(self, deployment: Patient) -> None:
        deployment.job(ASKING.format(model="gpt-4o-mini", options=""), name="asking")
        found = deployment.diagnose()
        assert (found.code, found.bad) == (78, {"model.no-access"})
        for way in ("OPENAI_API_KEY=", "OPENAI_BASE_URL=", "--model offline"):
            assert way in found.one("model.no-access")["fix"]

    def test_no_model_at_all_is_a_note(self, deployment: Patient) -> None:
        found = deployment.diagnose(environment={"TASKPILOT_MODEL": None})
        assert (found.code, found.bad) == (0, set())
        assert "prices.none" in found.findings
        assert "TASKPILOT_MODEL" in found.one("model.none")["fix"]


class TestGateway:
    def look(self, deployment: Patient, url: str) -> Diagnosis:
        return deployment.diagnose(environment={"TASKPILOT_PUSHGATEWAY_URL": url})

    def push(self, gateway: Pushgateway, job: str, text: str) -> None:
        url = f"{gateway.url}/metrics/job/taskpilot/deployment/night/job_name/{job}"
        urllib.request.urlopen(urllib.request.Request(url, data=text.encode(), method="POST"), timeout=10).close()

    def store_info(self, store_id: str) -> str:
        return f'# TYPE taskpilot_store_info gauge\ntaskpilot_store_info{{store_id="{store_id}"}} 1\n'

    def test_what_is_pending_is_told_until_it_is_pushed(self, deployment: Patient, gateway: Pushgateway) -> None:
        found = self.look(deployment, gateway.url)
        assert (found.code, found.bad) == (0, {"gateway.pending"})
        assert found.one("gateway.pending")["fix"] == found.one("gateway.not-pushed")["fix"] == "taskpilot metrics push"
        assert gateway.value("taskpilot_runs_total") is None, "the doctor pushes nothing"
        assert deployment("metrics", "push", environment={"TASKPILOT_PUSHGATEWAY_URL": gateway.url}).code == 0
        found = self.look(deployment, gateway.url)
        assert (found.code, found.bad) == (0, set())
        assert "ours: 2" in found.one("gateway.ok")["sentence"]

    def test_another_stores_group_an_unowned_one_and_a_removed_jobs(self, deployment: Patient, gateway: Pushgateway) -> None:
        (own,) = [row["store_id"] for row in deployment.rows("SELECT store_id FROM store_info")]
        self.push(gateway, "good", self.store_info("another-store"))
        self.push(gateway, "nobodys", "# TYPE a gauge\na 1\n")
        self.push(gateway, "removed", self.store_info(own))
        self.push(gateway, "broken", self.store_info(own))
        deployment.job("1 / 0\n", name="broken")
        found = self.look(deployment, gateway.url)
        assert found.code == 78
        assert found.bad == {
            "jobs.broken",
            "gateway.pending",
            "gateway.foreign-store",
            "gateway.unowned-group",
            "gateway.removed-job",
        }
        foreign = found.one("gateway.foreign-store")
        assert "another store (another-store) fills the group of good" in foreign["sentence"]
        assert "TASKPILOT_DEPLOYMENT" in foreign["fix"]
        for code in ("gateway.unowned-group", "gateway.removed-job"):
            assert found.one(code)["fix"] == "taskpilot metrics prune"
        assert deployment("metrics", "prune", environment={"TASKPILOT_PUSHGATEWAY_URL": gateway.url}).code == 0
        assert gateway.forgets('job_name="nobodys"')
        assert gateway.forgets('job_name="removed"')
        held = gateway.metrics()
        assert [f'job_name="{job}"' in held for job in ("nobodys", "removed", "broken", "good")] == [False, False, True, True]

    def test_a_group_of_a_job_that_is_there_and_names_no_store_is_removed_by_its_own_address(
        self, deployment: Patient, gateway: Pushgateway
    ) -> None:
        self.push(gateway, "good", "# TYPE a gauge\na 1\n")
        *curl, url = shlex.split(self.look(deployment, gateway.url).one("gateway.unowned-group")["fix"])
        assert curl == ["curl", "-X", "DELETE"]
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10).close()
        assert gateway.forgets('job_name="good"')

    @pytest.mark.parametrize("start", [dead, partial(answering, 200, b"{}")], ids=["dead", "no gateway"])
    def test_one_that_gives_no_usable_answer(self, deployment: Patient, start: Callable[[], AbstractContextManager[BadServer]]) -> None:
        with start() as server:
            found = self.look(deployment, server.url)
        assert (found.code, found.bad) == (1, {"gateway.unreachable", "gateway.pending"})
        assert "TASKPILOT_PUSHGATEWAY_URL" in found.one("gateway.unreachable")["fix"]

    def test_whose_groups_they_are_is_not_guessed_where_the_store_cannot_be_read(self, deployment: Patient, gateway: Pushgateway) -> None:
        (deployment.state_dir / "taskpilot.db").write_text("this was a database once\n" * 500)
        found = self.look(deployment, gateway.url)
        assert found.bad == {"store.not-a-database", "gateway.unchecked"}


class TestCollector:
    def look(self, deployment: Patient, url: str, protocol: str) -> Diagnosis:
        variables = {"OTEL_ENABLED": None, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        return deployment.diagnose(environment=variables)

    def test_one_that_is_there_is_well_and_gets_no_span(self, deployment: Patient) -> None:
        with http_collector() as over_http, grpc_collector() as over_grpc:
            for received, protocol in ((over_http, "http/protobuf"), (over_grpc, "grpc")):
                found = self.look(deployment, received.endpoint, protocol)
                assert (found.code, found.bad) == (0, set())
                assert "collector.ok" in found.findings
                assert received.requests == []

    @pytest.mark.parametrize(
        ("start", "protocol", "code", "fix"),
        [
            (dead, "grpc", "collector.unreachable", "start the collector"),
            (partial(answering, 404), "http/protobuf", "collector.no-route", "without /v1/traces"),
            (partial(answering, 401), "http/protobuf", "collector.refused", "OTEL_EXPORTER_OTLP_HEADERS"),
        ],
        ids=["dead", "404", "401"],
    )
    def test_one_that_is_not(
        self, deployment: Patient, start: Callable[[], AbstractContextManager[BadServer]], protocol: str, code: str, fix: str
    ) -> None:
        with start() as server:
            found = self.look(deployment, server.url, protocol)
        assert (found.code, found.bad) == (1, {code})
        assert fix in found.one(code)["fix"]

    def test_that_nobody_named_may_be_absent(self, deployment: Patient) -> None:
        found = deployment.diagnose(environment={"OTEL_ENABLED": None})
        assert found.code == 0
        assert {"collector.none", "collector.ok"} & set(found.findings)


def test_servers_that_hang_all_together_hold_the_doctor_for_seconds_only(deployment: Patient) -> None:
    deployment.job(ASKING.format(model="gpt-4o-mini", options=""), name="asking")
    with ExitStack() as servers:
        urls = [servers.enter_context(start()).url for start in (hanging, dripping, hanging)]
        began = time.monotonic()
        found = deployment.diagnose(
            environment={
                "OPENAI_BASE_URL": f"{urls[0]}/v1",
                "TASKPILOT_PUSHGATEWAY_URL": urls[1],
                "OTEL_ENABLED": None,
                "OTEL_EXPORTER_OTLP_ENDPOINT": urls[2],
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            }
        )
    # Four seconds for all servers; the rest is for a machine that is busy.
    assert time.monotonic() - began < 20
    assert {"model.unreachable", "gateway.unreachable", "collector.unreachable"} <= found.bad
    assert {"store.ok", "jobs.ok"} <= set(found.findings)


def test_no_secret_is_printed_and_each_value_has_its_source(deployment: Patient) -> None:
    deployment.settings(
        'model = "gpt-4o-mini"\n[otel]\nheaders = {authorization = "s3cret-1"}\n'
        '[notify.channels.ops]\nurl = "https://hooks.example/s3cret-2"\nheaders = {x = "s3cret-3"}\n'
    )
    environment = {
        "TASKPILOT_MODEL": None,
        "OPENAI_API_KEY": "s3cret-4",
        "TASKPILOT_API_TOKEN": "s3cret-5",
        "OPENAI_BASE_URL": "http://me:s3cret-6@127.0.0.1:9/v1?key=s3cret-7",
        "TASKPILOT_PUSHGATEWAY_URL": "http://me:s3cret-8@127.0.0.1:9",
    }
    found = deployment.diagnose("--log-level", "debug", environment=environment)
    shown = {one["name"]: (one["value"], one["source"]) for one in found.document["settings"]}
    assert shown["model"] == ("gpt-4o-mini", "taskpilot.toml")
    assert shown["log_level"] == ("DEBUG", "--log-level")
    assert shown["lease_seconds"] == ("6 s", "env TASKPILOT_LEASE_SECONDS")
    assert shown["OPENAI_API_KEY"] == ("***", "env OPENAI_API_KEY")
    assert shown["openai.base_url"] == ("http://***@127.0.0.1:9/v1?***", "env OPENAI_BASE_URL")
    assert shown["notify.channels"] == ("ops=https://hooks.example/***", "taskpilot.toml")
    assert shown["drain_timeout"] == ("30 s", "default")
    assert "s3cret" not in json.dumps(found.document)
    assert "s3cret" not in deployment.look(environment=environment).out


def test_neither_openai_nor_opentelemetry_is_loaded(deployment: Patient) -> None:
    code = (
        "import sys; from taskpilot.cli.program import main; main(['doctor', '--json']);"
        "print(*sorted({'openai', 'opentelemetry', 'grpc', 'requests', 'alembic', 'rich'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=deployment.root, env=deployment.environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr.split() == []


def test_the_page_fits_80_columns_and_says_each_level_in_words(deployment: Patient) -> None:
    deployment.job("1 / 0\n", name="broken")
    variables = {"TASKPILOT_DEPLOYMENT": "day", "TASKPILOT_MODELL": "x"}
    for said in (deployment.look(environment=variables), deployment.look(cwd=Path("/"))):
        assert said.code == 78
        long = [line for line in said.out.splitlines() if len(line) > 80 and len(line.split()) > 2]
        assert long == []
        assert said.out.splitlines()[-1].endswith("the configuration is invalid (exit 78)")
    shown = deployment.on_terminal("doctor", columns=80, environment={**variables, "NO_COLOR": "1"})
    assert shown.code == 78
    assert "\x1b[3" not in shown.out
    # Without colours a word may still be bold.
    assert "error    jobs.broken: jobs/broken.py:1: " in re.sub(r"\x1b\[\d*m", "", shown.out)
    assert "\x1b[1;38;5;166merror" in deployment.on_terminal("doctor", columns=80, environment=variables).out
