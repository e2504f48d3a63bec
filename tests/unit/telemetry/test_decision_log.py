"""decision_logs.jsonl in the shape of OPA."""

import json
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.decisions import Decision, DecisionStatus, Verdict
from taskpilot.domain.events import DecisionMade, Event, RunIdentity
from taskpilot.domain.protocols import Signals
from taskpilot.telemetry.decision_log import DecisionLogSignal
from taskpilot.telemetry.traces.names import span_id_of

RUN = RunIdentity("0190", "triage", 1, "a" * 32, "b" * 16, "testing")
DENIED = Decision(
    id="d1",
    run_id="0190",
    job="triage",
    step_key="k",
    agent="executor",
    tool="notify",
    arguments={"channel": "ops", "message": "use sk-very-secret", "to/do": ["sk-very-secret"]},
    engine="regorus",
    path="taskpilot/decision",
    verdict=Verdict.DENY,
    status=DecisionStatus.FINAL,
    reasons=("it says delete",),
    decided_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
    evaluation_nanoseconds=4000,
    input={"job_tools": ["notify"]},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "decision_logs.jsonl").read_text().splitlines()]


def test_a_verdict_is_a_line_as_opa_writes_it(folder: Path) -> None:
    DecisionLogSignal(folder).emit(DecisionMade(RUN, DENIED))
    (line,) = written(folder)
    assert line["decision_id"] == "d1"
    assert line["timestamp"] == "2026-11-23T12:00:00.000000Z"
    assert line["path"] == "taskpilot/decision"
    assert line["input"]["arguments"]["message"] == "use sk-very-secret"
    assert line["input"]["job_tools"] == ["notify"]
    assert line["result"] == {"verdict": "deny", "status": "final", "reasons": ["it says delete"]}
    labels = {"run_id": "0190", "job": "triage", "agent": "executor", "engine": "regorus"}
    assert labels.items() <= line["labels"].items()
    assert (line["trace_id"], line["span_id"]) == ("a" * 32, span_id_of("d1"))
    assert line["metrics"] == {"timer_rego_query_eval_ns": 4000}
    assert line["masked"] == []
    assert stat.S_IMODE((folder / "decision_logs.jsonl").stat().st_mode) == 0o600


def test_a_secret_is_masked_and_the_line_names_the_place(folder: Path) -> None:
    DecisionLogSignal(folder, secrets=("sk-very-secret",)).emit(DecisionMade(RUN, DENIED))
    (line,) = written(folder)
    assert "sk-very-secret" not in json.dumps(line)
    assert line["masked"] == ["/input/arguments/message", "/input/arguments/to~1do/0"]


def test_endless_arguments_are_bounded(folder: Path) -> None:
    endless = replace(DENIED, arguments={str(number): "x" * 100_000 for number in range(100)})
    DecisionLogSignal(folder).emit(DecisionMade(RUN, endless))
    (line,) = written(folder)
    assert line["masked"] == ["/input/arguments"]
    assert line["result"]["verdict"] == "deny"


def test_other_facts_are_not_its_business(folder: Path) -> None:
    DecisionLogSignal(folder).emit(Event(RUN, datetime.now(UTC), "run-started", "It started."))
    assert not folder.exists()


def test_a_log_that_cannot_be_written_is_counted_and_the_run_continues(folder: Path) -> None:
    (folder / "decision_logs.jsonl").mkdir(parents=True)
    signals = Signals([DecisionLogSignal(folder)])
    signals.emit(DecisionMade(RUN, DENIED))
    assert signals.failures == {"DecisionLogSignal": 1}


def test_every_field_of_a_line_is_mapped_for_elasticsearch(folder: Path) -> None:
    DecisionLogSignal(folder).emit(DecisionMade(RUN, DENIED))
    template = json.loads((Path(__file__).parents[3] / "observability/elasticsearch/decisions-template.json").read_text())
    mappings = template["template"]["mappings"]["properties"]["taskpilot"]["properties"]["decision"]["properties"]

    def check(value: Any, mapping: dict[str, Any]) -> None:
        if "properties" in mapping:
            assert set(value) == set(mapping["properties"])
            for name, inner in value.items():
                check(inner, mapping["properties"][name])
        else:
            kinds = {"keyword": str, "date": str, "long": int, "flattened": dict}
            assert all(isinstance(one, kinds[mapping["type"]]) for one in (value if isinstance(value, list) else [value]))

    (line,) = written(folder)
    check(line, {"properties": mappings})
