"""Every field that we write is one of ECS, of its type, or stands under a name of our own; facts of ECS are in ecs_fields.json."""

import ast
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.events import Event, RunIdentity
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.telemetry.ecs import ECS_VERSION, EcsLines
from taskpilot.telemetry.job_output import JobOutput
from taskpilot.telemetry.log_files import SharedLogFile
from taskpilot.telemetry.logs import LogSignal, configure_logs, run_logger
from taskpilot.telemetry.redaction import Redactor

HERE = Path(__file__).parent
REPOSITORY = Path(__file__).parents[3]
RUN = RunIdentity("0190", "triage", 2, "a" * 32, "b" * 16, "testing")
FACTS: dict[str, Any] = json.loads((HERE / "ecs_fields.json").read_text())
OWN = ("taskpilot.", "labels.")


def mapped(name: str) -> dict[str, str]:
    """The fields of a template and their types."""
    found: dict[str, str] = {}

    def walk(properties: dict[str, Any], above: str) -> None:
        for key, value in properties.items():
            if "properties" in value:
                walk(value["properties"], f"{above}{key}.")
            else:
                found[above + key] = value["type"]

    template = json.loads((REPOSITORY / "observability" / "elasticsearch" / f"{name}-template.json").read_text())
    walk(template["template"]["mappings"]["properties"], "")
    return found


def fits(value: Any, kind: str) -> bool:
    if kind == "date":
        return datetime.fromisoformat(value).tzinfo is not None
    if kind == "long":
        return type(value) is int
    return isinstance(value, dict) if kind in {"object", "flattened"} else isinstance(value, str)


@cache
def told_fields() -> frozenset[str]:
    """The fields that the repository gives to events, read from its source."""
    found: set[str] = set()
    for path in (REPOSITORY / "taskpilot").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"emit", "waiting"}:
                found |= {keyword.arg for keyword in node.keywords if keyword.arg is not None}
    # The fields of the events that end a run, or ask a person, stand in variables.
    asked = {"decision_id", "task_id", "step_id"}
    told = found | asked | {"status", "reason_code", "reason_facts", "exit_code"}
    return frozenset(told - {"level", "as_json", "quiet", "skip_ok"})


@pytest.fixture
def lines(home: Path, unlogged: None) -> list[dict[str, Any]]:
    """A line of every kind, with every field that the repository ever gives."""
    configure_logs(home, level="DEBUG", identity=RUN, deployment="testing")
    numbers = {name for name, kind in mapped("logs").items() if kind == "long"}
    fields = {name: 1 if f"taskpilot.{name}" in numbers else "x" for name in told_fields()}
    LogSignal().emit(Event(RUN, datetime.now(UTC), "step-ended", "m", fields=fields))
    try:
        raise ValueError("wrong")
    except ValueError:
        run_logger(RUN).exception("failed", count=1, nested={"a": [1]})
    shared = home / "logs" / "taskpilot.log"
    output = JobOutput(home / "output.log", RUN, SharedLogFile(shared), EcsLines(Redactor()))
    (home / "output.log").write_text("printed\n" * 3000)
    output.close()
    return [json.loads(line) for line in shared.read_text().splitlines()]


def test_every_field_is_one_of_ecs_with_its_type_or_our_own(lines: list[dict[str, Any]]) -> None:
    assert FACTS["ecs_version"] == ECS_VERSION == lines[0]["ecs.version"]
    strange = {
        name: value
        for line in lines
        for name, value in line.items()
        if not name.startswith(OWN) and not (name in FACTS["fields"] and fits(value, FACTS["fields"][name]))
    }
    assert strange == {}
    assert {"error.stack_trace", "labels", "process.pid", "trace.id"} <= {name for line in lines for name in line}
    assert all(isinstance(value, str) for line in lines for value in line.get("labels", {}).values())


def test_every_field_of_our_own_is_in_the_template_with_its_type(lines: list[dict[str, Any]]) -> None:
    template = mapped("logs")
    assert {name: value for line in lines for name, value in line.items() if not fits(value, template.get(name, ""))} == {}
    assert {f"taskpilot.{name}" for name in told_fields()} <= set(template)


def test_a_field_that_no_template_knows_would_be_seen(home: Path, unlogged: None) -> None:
    assert not fits(1, mapped("logs")["log.level"])
    assert not fits("1", mapped("logs")["process.pid"])
    assert {"agent", "exit_code", "decision_id", "step_id"} <= told_fields()


@pytest.mark.parametrize("name", ["logs", "decisions"])
def test_the_templates_have_the_types_of_ecs(name: str) -> None:
    template = {field: kind for field, kind in mapped(name).items() if not field.startswith("taskpilot.")}
    assert template == {field: FACTS["fields"].get(field) for field in template}


def test_the_end_of_a_run_is_a_sentence_with_its_reason_as_fields(home: Path, unlogged: None) -> None:
    configure_logs(home)
    reason = Reason(ReasonCode.EXCEPTION, {"error_type": "ValueError", "error": "no inbox"})
    ended = {"status": "failed", "reason": reason, "exit_code": 1}
    LogSignal().emit(Event(RUN, datetime.now(UTC), "run-ended", "attempt 1 of triage failed", level="warning", fields=ended))
    line = json.loads((home / "logs" / "taskpilot.log").read_text())
    assert line["message"] == "attempt 1 of triage failed: ValueError: no inbox"
    assert line["taskpilot.reason_code"] == "exception"
    assert json.loads(line["taskpilot.reason_facts"]) == reason.facts


def test_a_line_begins_with_its_time_so_that_files_differ_in_their_first_bytes(home: Path, unlogged: None) -> None:
    configure_logs(home)
    run_logger().info("")
    line = (home / "logs" / "taskpilot.log").read_text()
    assert line.startswith('{"@timestamp"')
    # What observability/filebeat/filebeat.yml takes for a file's fingerprint: the shortest line is shipped at once.
    assert len(line) > 128
