"""The questions that a run asks a person, with the command for each answer."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskpilot.domain.decisions import APPROVE, Decision
from taskpilot.domain.steps import Step, StepKind, StepStatus
from taskpilot.domain.tasks import Task
from taskpilot.domain.text import one_line


@dataclass(frozen=True, slots=True)
class Question:
    """One question; its sentence is printable."""

    sentence: str
    answers: tuple[tuple[str, str], ...]
    """Each answer and its command."""
    expires_at: datetime | None = None
    """Without an answer until then it is denied."""


def about_task(task: Task) -> Question:
    """A task in review."""
    answers = (("yes", f"taskpilot tasks approve {task.id}"), ("no", f"taskpilot tasks reject {task.id}"))
    return Question(f'Execute the task "{one_line(task.title)}"?', answers, task.expires_at)


def about_decision(decision: Decision) -> Question:
    """A tool call that policy wants a person to approve."""
    answers = (("yes", f"taskpilot decisions approve {decision.id}"), ("no", f"taskpilot decisions reject {decision.id}"))
    if decision.tool == APPROVE:
        asked, details = decision.arguments.get("question", ""), decision.arguments.get("details")
        more = f" {one_line(json.dumps(details, ensure_ascii=False), limit=300)}" if details else ""
        return Question(f"{one_line(str(asked), limit=500)}{more}", answers, decision.expires_at)
    why = one_line("; ".join(decision.reasons))
    return Question(
        f"Allow the call {call_text(decision.tool, decision.arguments)}? The policy requires approval: {why}", answers, decision.expires_at
    )


def about_step(run_id: str, step: Step) -> Question:
    """A tool call without a known result, or one that differs from the recorded call."""
    call = call_text(step.name, step.input)
    resume = f"taskpilot runs resume {run_id} --step {step.id}"
    answers = (("yes", f"{resume} --done JSON"), ("no, call it", f"{resume} --again"), ("fail it", f"{resume} --fail"))
    if step.kind is StepKind.GIVEN:
        (noun, item), *_ = dict(step.input).items()
        what = "request of a workflow" if noun == "workflow" else "item of a map"
        return Question(
            f"Work on the {what} {one_line(str(item), limit=300)}? An earlier attempt had another one at this place, with effects.",
            (("yes, as new work", answers[1][1]), ("no", answers[2][1])),
        )
    if step.status is StepStatus.DIVERGED:
        answers = (("it was made", answers[0][1]), ("make it", answers[1][1]), answers[2])
        return Question(f"Make the call {call}? An earlier attempt made a different call at this step.", answers)
    return Question(f"Did the call {call} happen? It started, and its result is not known.", answers)


def call_text(tool: str, arguments: Any) -> str:
    """A call on one line."""
    return f"{one_line(tool)}({one_line(json.dumps(arguments, ensure_ascii=False), limit=300)})"
