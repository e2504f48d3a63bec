"""decision_logs.jsonl: each decision in the format of OPA's decision log."""

import json
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.decisions import Decision
from taskpilot.domain.events import DecisionMade, Fact, RunIdentity
from taskpilot.domain.times import utc_iso
from taskpilot.telemetry.log_files import Rotation, SharedLogFile
from taskpilot.telemetry.redaction import Redactor
from taskpilot.telemetry.traces.names import span_id_of

FILE: Final = "decision_logs.jsonl"
_LINE_MAX: Final = 256 * 1024


class DecisionLogSignal:
    """Appends each recorded decision as one line."""

    def __init__(self, state_dir: Path, *, secrets: tuple[str, ...] = ()) -> None:
        self._file = SharedLogFile(state_dir / FILE, rotation=Rotation.in_state_dir(state_dir))
        self._redactor = Redactor(secrets)

    def emit(self, fact: Fact) -> None:
        """Writes decisions, ignores other facts. Raises OSError where the line could not be written, so that the caller counts it."""
        if isinstance(fact, DecisionMade) and not self._file.append(self._line(fact.run, fact.decision)):
            raise OSError(f"{self._file.path} could not be written")

    def _line(self, run: RunIdentity, decision: Decision) -> str:
        masked: list[str] = []
        given: dict[str, Any] = {
            "tool": decision.tool,
            "agent": decision.agent,
            "job": decision.job,
            "run_id": decision.run_id,
            **decision.input,
            "arguments": decision.arguments,
        }
        document: dict[str, Any] = {
            "decision_id": decision.id,
            "timestamp": utc_iso(decision.decided_at, timespec="microseconds"),
            "path": decision.path,
            "input": self._redactor.plain(given, changed=lambda place: masked.append(f"/input{place}")),
            "result": {
                "verdict": decision.verdict.value,
                "status": decision.status.value,
                "reasons": self._redactor.plain(list(decision.reasons), changed=lambda place: masked.append(f"/result/reasons{place}")),
            },
            "labels": {
                "run_id": run.run_id,
                "job": run.job,
                "agent": decision.agent,
                "engine": decision.engine,
                "deployment": run.deployment,
            },
            "trace_id": run.trace_id,
            # The span of this decision is made from the store later, with this same id.
            "span_id": span_id_of(decision.id),
            "metrics": {"timer_rego_query_eval_ns": decision.evaluation_nanoseconds},
            "masked": masked,
        }
        line = json.dumps(document, allow_nan=False, separators=(",", ":"))
        if len(line) > _LINE_MAX:
            document |= {"input": {"tool": decision.tool, "agent": decision.agent, "arguments": "…"}, "masked": ["/input/arguments"]}
            line = json.dumps(document, allow_nan=False, separators=(",", ":"))
        return line
