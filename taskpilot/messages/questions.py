"""What a run asks a person, with the command for each answer."""

import json
from dataclasses import dataclass
from typing import Any

from taskpilot.domain.decisions import Decision
from taskpilot.domain.steps import Step, StepStatus
from taskpilot.domain.tasks import Task
from taskpilot.domain.text import one_line


@dataclass(frozen=True, slots=True)
class Question:
    """One question; its sentence is printable."""

    sentence: str
    answers: tuple[tuple[str, str], ...]
    """What each says, and its command."""


def about_task(task: Task) -> Question:
    """A task in review."""
    answers = (("yes", f"taskpilot tasks approve {task.id}"), ("no", f"taskpilot tasks reject {task.id}"))
    return Question(f"Shall this task be executed: {one_line(task.title)}?", answers)


def about_decision(decision: Decision) -> Question:
    """A tool call that policy wants a person to approve."""
    answers = (("yes", f"taskpilot decisions approve {decision.id}"), ("no", f"taskpilot decisions reject {decision.id}"))
    why = one_line("; ".join(decision.reasons))
    return Question(f"May it call {_call(decision.tool, decision.arguments)}? The policy asks for approval: {why}", answers)


def about_step(run_id: str, step: Step) -> Question:
    """A tool call of which nobody knows whether it happened, or that differs from the recorded one."""
    call = _call(step.name, step.input)
    resume = f"taskpilot runs resume {run_id} --step {step.id}"
    answers = (("it did", f"{resume} --done JSON"), ("it did not", f"{resume} --again"), ("give it up", f"{resume} --fail"))
    if step.status is StepStatus.DIVERGED:
        answers = (("it was called", answers[0][1]), ("call it", answers[1][1]), answers[2])
        return Question(f"Shall it call {call}? An earlier attempt made another call at this place.", answers)
    return Question(f"Did the call {call} happen? It had started, and its end is not known.", answers)


def _call(tool: str, arguments: Any) -> str:
    return f"{one_line(tool)}({one_line(json.dumps(arguments, ensure_ascii=False), limit=300)})"
