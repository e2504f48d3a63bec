"""Filebeat's configuration, the index templates and what Kibana is given, against what TaskPilot writes; no Elasticsearch can run here."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskpilot.telemetry import decision_log, logs
from taskpilot.telemetry.log_files import Rotation

NAMES = ("logs", "decisions")


@pytest.fixture(scope="module")
def filebeat(repository: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((repository / "observability/filebeat/filebeat.yml").read_text())
    return content


@pytest.fixture(scope="module")
def objects(repository: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What Kibana imports, by type and id."""
    lines = (repository / "observability/kibana/saved-objects.ndjson").read_text().splitlines()
    found = {(one["type"], one["id"]): one for one in map(json.loads, lines)}
    assert len(found) == len(lines)
    return found


def template(repository: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((repository / f"observability/elasticsearch/{name}-template.json").read_text())
    return content


def fields_of(properties: dict[str, Any], above: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in properties.items():
        found |= fields_of(value["properties"], f"{above}{key}.") if "properties" in value else {above + key}
    return found


def test_filebeat_reads_the_files_that_we_write_and_their_older_ones(filebeat: dict[str, Any]) -> None:
    paths = [input_["paths"] for input_ in filebeat["filebeat.inputs"]]
    kept = Rotation(Path("lock")).kept
    for globs, file in zip(paths, (logs.FILE, Path(decision_log.FILE)), strict=True):
        written = [f"/taskpilot/{file}", *(f"/taskpilot/{file}.{number}" for number in range(1, kept + 1))]
        assert all(any(fnmatch(path, glob) for glob in globs) for path in written)
    assert kept < 10


def test_filebeat_knows_files_by_their_first_bytes_and_each_input_by_an_id(filebeat: dict[str, Any]) -> None:
    inputs = filebeat["filebeat.inputs"]
    assert [input_["id"] for input_ in inputs] == ["taskpilot-logs", "taskpilot-decisions"]
    for input_ in inputs:
        assert input_["type"] == "filestream"
        assert "file_identity.fingerprint" in input_
        assert input_["prospector.scanner.fingerprint"]["enabled"] is True
        assert 64 <= input_["prospector.scanner.fingerprint"]["length"] <= 256


def test_what_filebeat_sends_lands_in_our_templates(repository: Path, filebeat: dict[str, Any]) -> None:
    output = filebeat["output.elasticsearch"]
    indices = [output["index"], *(each["index"] for each in output["indices"])]
    for name, index in zip(NAMES, indices, strict=True):
        content = template(repository, name)
        assert any(fnmatch(index, pattern) for pattern in content["index_patterns"])
        assert content["data_stream"] == {}
        # Above the templates that Elasticsearch brings along (100 and 200).
        assert content["priority"] > 200
        assert content["template"]["settings"]["index.lifecycle.name"] == "taskpilot"
    added = [processor["add_fields"]["fields"] for processor in filebeat["filebeat.inputs"][1]["processors"] if "add_fields" in processor]
    datasets = [fields["dataset"] for fields in added if "dataset" in fields]
    assert output["indices"][0]["when.equals"]["event.dataset"] in datasets
    # Ours would be overwritten.
    assert filebeat["setup.template.enabled"] is filebeat["setup.ilm.enabled"] is False


def test_what_filebeat_copies_out_of_a_decision_is_mapped_at_both_ends(repository: Path, filebeat: dict[str, Any]) -> None:
    mapped = fields_of(template(repository, "decisions")["template"]["mappings"]["properties"])
    copies = next(
        processor["copy_fields"]["fields"] for processor in filebeat["filebeat.inputs"][1]["processors"] if "copy_fields" in processor
    )
    assert {copy["to"] for copy in copies} <= mapped
    assert {copy["from"].replace("decision.", "taskpilot.decision.", 1) for copy in copies} <= mapped


def test_what_is_older_than_30_days_goes(repository: Path) -> None:
    phases = json.loads((repository / "observability/elasticsearch/lifecycle.json").read_text())["policy"]["phases"]
    assert phases["delete"] == {"min_age": "30d", "actions": {"delete": {}}}
    assert "rollover" in phases["hot"]["actions"]


def test_kibana_gets_the_data_views_and_searches_by_name(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    titles = {kind: sorted(one["attributes"]["title"] for (type_, _), one in objects.items() if type_ == kind) for kind, _ in objects}
    assert titles == {
        "index-pattern": ["taskpilot-decisions-*", "taskpilot-logs-*"],
        "search": ["TaskPilot: decisions", "TaskPilot: errors", "TaskPilot: one run"],
    }


def test_every_reference_inside_the_saved_objects_resolves(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    for (kind, _), one in objects.items():
        assert all((reference["type"], reference["id"]) in objects for reference in one["references"])
        if kind == "search":
            source = json.loads(one["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
            assert source["indexRefName"] in {reference["name"] for reference in one["references"]}


def test_every_field_of_a_saved_search_is_in_the_template_of_its_data_view(
    repository: Path, objects: dict[tuple[str, str], dict[str, Any]]
) -> None:
    for (kind, _), one in objects.items():
        if kind != "search":
            continue
        name = one["references"][0]["id"].removeprefix("taskpilot-")
        mapped = fields_of(template(repository, name)["template"]["mappings"]["properties"])
        query = json.loads(one["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]["query"]
        asked = (
            set(re.findall(r"([@\w.]+) :", query)) | set(one["attributes"]["columns"]) | {field for field, _ in one["attributes"]["sort"]}
        )
        assert asked
        assert asked - mapped == set()


class Elastic(ThreadingHTTPServer):
    """Plays Elasticsearch and Kibana as far as setup.sh talks to them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, str | None, bytes]] = []
        self.refuses = ""
        self.imported = b'{"successCount":5,"success":true}'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Elastic

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization"), body))
        said = self.server.imported if "_import" in self.path else b"{}"
        refused = bool(self.server.refuses) and self.server.refuses in self.path
        if refused:
            said = b'{"error":"no, since it is a test"}'
        self.send_response(400 if refused else 200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_PUT = do_POST = _answer  # noqa: N815  the names that the base class asks for

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  the base class names it
        """Says nothing."""


@pytest.fixture
def elastic() -> Iterator[Elastic]:
    server = Elastic()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def setup(repository: Path, url: str, **more: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("curl") is None:
        pytest.skip("curl is missing: apt-get install curl")
    environment = {"PATH": os.environ["PATH"], "ELASTICSEARCH_URL": url, "KIBANA_URL": url, "SETUP_SECONDS": "20", **more}
    script = repository / "observability/elasticsearch/setup.sh"
    return subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60)


def test_setup_puts_everything_in_place_and_again(repository: Path, elastic: Elastic) -> None:
    for _ in range(2):
        elastic.asked.clear()
        done = setup(repository, elastic.url, ELASTIC_PASSWORD='p"a\\ss')
        assert (done.returncode, done.stderr) == (0, "")
        puts = {path: json.loads(body) for method, path, _, body in elastic.asked if method == "PUT"}
        assert sorted(puts) == ["/_ilm/policy/taskpilot", "/_index_template/taskpilot-decisions", "/_index_template/taskpilot-logs"]
        assert puts["/_index_template/taskpilot-logs"] == template(repository, "logs")
        ((path, body),) = [(path, body) for method, path, _, body in elastic.asked if method == "POST"]
        assert path == "/api/saved_objects/_import?overwrite=true"
        assert (repository / "observability/kibana/saved-objects.ndjson").read_bytes() in body
        # elastic:p"a\ss
        assert {login for _, _, login, _ in elastic.asked} == {"Basic ZWxhc3RpYzpwImFcc3M="}


@pytest.mark.parametrize("refuses", ["_ilm", "taskpilot-logs", "taskpilot-decisions", "_import"])
def test_setup_fails_loudly_where_something_is_refused(repository: Path, elastic: Elastic, refuses: str) -> None:
    elastic.refuses = refuses
    done = setup(repository, elastic.url)
    assert done.returncode == 1
    assert "HTTP 400" in done.stderr
    assert "no, since it is a test" in done.stderr


def test_setup_does_not_take_an_import_of_a_part_for_a_whole(repository: Path, elastic: Elastic) -> None:
    elastic.imported = b'{"successCount":3,"success":false}'
    done = setup(repository, elastic.url)
    assert (done.returncode, "successCount" in done.stderr) == (1, True)


def test_setup_says_who_did_not_come(repository: Path) -> None:
    done = setup(repository, "http://127.0.0.1:9", SETUP_SECONDS="0")
    assert done.returncode == 1
    assert done.stderr.startswith("setup: Elasticsearch did not become ready at http://127.0.0.1:9/")
    assert done.stderr.endswith("(last answer: HTTP 000)\n")
