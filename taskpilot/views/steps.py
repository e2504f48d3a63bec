"""What a run's agents and tools did, step by step: prompts, replies, tool calls and results, with secrets masked and long texts cut."""

import json
from collections.abc import Iterator
from typing import Any, Final

from taskpilot.deployment import Deployment
from taskpilot.domain.steps import Step, StepKind
from taskpilot.messages.shapes import iso, tokens_json, usd
from taskpilot.store import runs, steps
from taskpilot.store.ids import find_id
from taskpilot.telemetry.redaction import Redactor
from taskpilot.views.runs import no_run

TEXT_SHOWN: Final = 2_000
"""Characters of one text that are shown without `full`."""
_DEEPEST: Final = 50
"""A value below this many levels is shown as one text."""
_KEPT: Final = frozenset({"too_long"})
"""The only key of an input of which the journal kept the beginning."""


def run_steps(deployment: Deployment, run_id: str, *, full: bool = False) -> Iterator[dict[str, Any]]:
    """The steps in the order of their start, as JSON values; not the digests of what maps and workflows were given.

    Raises UsageError or NotFound.
    """
    with deployment.store.read() as connection:
        run_id = find_id(connection, run_id)
        if runs.get_run(connection, run_id) is None:
            raise no_run(run_id)
        made = [step for step in steps.steps_of(connection, run_id) if step.kind is not StepKind.GIVEN]
    return (step_json(step, deployment.redactor, full=full) for step in made)


def step_json(step: Step, redactor: Redactor, *, full: bool) -> dict[str, Any]:
    """One step. `truncated` says that a text was cut, here or when it was recorded."""
    shown = _Shown(redactor, None if full else TEXT_SHOWN)
    took = None if step.ended_at is None else max((step.ended_at - step.started_at).total_seconds(), 0.0)
    values = {
        "id": step.id,
        "kind": step.kind.value,
        "agent": step.agent,
        "name": step.name,
        "status": step.status.value,
        "started_at": iso(step.started_at),
        "duration_seconds": took,
        "model": step.model,
        "input": shown.value(step.input),
        "result": shown.value(step.result),
        "error": shown.value(step.error),
        "tokens": None if step.usage is None else tokens_json(step.usage),
        "cost_usd": usd(step.cost_nano),
        "decision_id": step.decision_id,
    }
    cut_before = isinstance(step.input, dict) and step.input.keys() == _KEPT
    return values | {"truncated": shown.cut or cut_before}


class _Shown:
    """Masks and cuts the texts of one step."""

    def __init__(self, redactor: Redactor, limit: int | None) -> None:
        self._redactor = redactor
        self._limit = limit
        self.cut = False

    def value(self, value: Any, depth: int = 0) -> Any:
        """A JSON value with its texts masked and cut."""
        if isinstance(value, str):
            return self._text(value)
        if depth >= _DEEPEST and isinstance(value, list | dict):
            return self._text(json.dumps(value, ensure_ascii=False))
        if isinstance(value, list):
            return [self.value(one, depth + 1) for one in value]
        if isinstance(value, dict):
            return {
                self._text(name): self._redactor.named(name, one) if isinstance(one, str) and self._redactor.is_secret(name) else
                self.value(one, depth + 1)
                for name, one in value.items()
            }  # fmt: skip
        return value

    def _text(self, text: str) -> str:
        masked = self._redactor.masked(text)
        if self._limit is None or len(masked) <= self._limit:
            return masked
        self.cut = True
        return f"{masked[: self._limit]}… ({len(masked):,} characters)"
