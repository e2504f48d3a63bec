"""Records as JSON values, with the same keys on the command line and in the API."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from taskpilot.domain.decisions import Decision, Grant
from taskpilot.domain.reasons import Reason
from taskpilot.domain.runs import Attempt, Feedback, Run, RunStatus, RunSummary
from taskpilot.domain.steps import Step
from taskpilot.domain.tasks import Task
from taskpilot.domain.times import utc_iso
from taskpilot.domain.usage import Usage, nano_to_usd
from taskpilot.messages.reasons import reason_sentence


def iso(moment: datetime | None) -> str | None:
    """The instant in ISO 8601, UTC, to the microsecond."""
    return None if moment is None else utc_iso(moment, timespec="microseconds")


def usd(nano: int | None) -> float | None:
    """USD as a number; None where a call had no price."""
    return None if nano is None else float(nano_to_usd(nano))


def tokens_json(usage: Usage) -> dict[str, int]:
    """Tokens by kind; `input` includes `cached_input`."""
    return {"input": usage.input, "cached_input": usage.cached_input, "output": usage.output}


def reason_json(reason: Reason, *, now: bool = False) -> dict[str, Any]:
    """A reason as a sentence and in its typed form. `now`: it still holds, so the sentence is in the present tense."""
    return {"reason": reason_sentence(reason, now=now), "reason_code": reason.code.value, "reason_facts": dict(reason.facts)}


def summary_json(summary: RunSummary) -> dict[str, Any]:
    """The summary line of a run."""
    return asdict(summary) | reason_json(summary.reason, now=summary.run_id is None or summary.status == RunStatus.WAITING)


def run_json(run: Run) -> dict[str, Any]:
    """A run."""
    return {
        "run_id": run.id,
        "job": run.job,
        "status": run.status.value,
        **reason_json(run.reason, now=run.status is RunStatus.WAITING),
        "trigger": run.trigger.value,
        "scheduled_for": iso(run.scheduled_for),
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "duration_seconds": run.active_micros / 1_000_000,
        "deadline_seconds": run.deadline_micros / 1_000_000,
        "attempts": run.attempts,
        "attempts_allowed": run.attempts_allowed,
        "parameters": run.parameters,
        "model": run.model,
        "result": run.result,
        "tokens": tokens_json(run.spend.usage),
        "cost_usd": usd(run.spend.cost_nano),
        "llm_calls": run.spend.llm_calls,
        "tool_calls": run.spend.tool_calls,
        "trace_id": run.trace_id,
    }


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """An attempt."""
    return {
        "number": attempt.number,
        "status": attempt.status.value,
        **reason_json(attempt.reason),
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "duration_seconds": attempt.active_micros / 1_000_000,
    }


def task_json(task: Task) -> dict[str, Any]:
    """A task."""
    return {
        "task_id": task.id,
        "run_id": task.run_id,
        "job": task.job,
        "status": task.status.value,
        "priority": task.priority.value,
        "title": task.title,
        "description": task.description,
        "reason": task.reason,
        "created_at": iso(task.created_at),
        "updated_at": iso(task.updated_at),
        "expires_at": iso(task.expires_at),
        "via": None if task.via is None else task.via.value,
    }


def decision_json(decision: Decision) -> dict[str, Any]:
    """A decision."""
    return {
        "decision_id": decision.id,
        "run_id": decision.run_id,
        "job": decision.job,
        "agent": decision.agent,
        "tool": decision.tool,
        "arguments": decision.arguments,
        "verdict": decision.verdict.value,
        "status": decision.status.value,
        "reasons": list(decision.reasons),
        "engine": decision.engine,
        "path": decision.path,
        "decided_at": iso(decision.decided_at),
        "settled_by": decision.settled_by,
        "settled_at": iso(decision.settled_at),
        "note": decision.note,
        "expires_at": iso(decision.expires_at),
        "via": None if decision.via is None else decision.via.value,
        "grant": decision.grant_id,
    }


def grant_json(grant: Grant, now: datetime) -> dict[str, Any]:
    """A standing grant."""
    return {
        "grant_id": grant.id,
        "decision_id": grant.decision_id,
        "job": grant.job,
        "tool": grant.tool,
        "arguments": grant.arguments,
        "schema": grant.schema,
        "state": grant.state(now).value,
        "until": iso(grant.until),
        "max": grant.uses_max,
        "used": grant.uses,
        "granted_by": grant.granted_by,
        "granted_at": iso(grant.granted_at),
        "note": grant.note,
        "revoked_by": grant.revoked_by,
        "revoked_at": iso(grant.revoked_at),
    }


def step_json(step: Step) -> dict[str, Any]:
    """A step, without the tokens and cost of LLM calls."""
    return {
        "step_id": step.id,
        "attempt": step.attempt,
        "scope": step.scope,
        "kind": step.kind.value,
        "name": step.name,
        "status": step.status.value,
        "input": step.input,
        "result": step.result,
        "error": step.error,
        "started_at": iso(step.started_at),
        "ended_at": iso(step.ended_at),
    }


def feedback_json(feedback: Feedback) -> dict[str, Any]:
    """A person's rating of a run's result."""
    return {"verdict": feedback.verdict.value, "by": feedback.given_by, "at": iso(feedback.given_at), "note": feedback.note}
