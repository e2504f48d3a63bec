"""TaskPilot: LLM-agent workflows as scheduled, unattended batch jobs. This is what a job file imports; it wakes nothing heavy."""

from typing import Any

from taskpilot.domain.errors import (
    BudgetExceeded,
    Denied,
    ItemError,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    ReplyInvalid,
    RequirementNotMet,
    TaskPilotError,
    ToolFailed,
    Waiting,
)
from taskpilot.domain.inputs import InputFile
from taskpilot.domain.schedule import at, cron, every
from taskpilot.domain.specs import Budget, Retry
from taskpilot.jobs.decorator import job
from taskpilot.tools.decorator import tool

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "BudgetExceeded",
    "Denied",
    "InputFile",
    "ItemError",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "ReplyInvalid",
    "RequirementNotMet",
    "Retry",
    "RunContext",
    "TaskPilotError",
    "ToolFailed",
    "Waiting",
    "at",
    "cron",
    "every",
    "job",
    "tool",
]


def __getattr__(name: str) -> Any:
    # A job file names RunContext in its annotations only; what stands behind it loads pydantic and the store.
    if name == "RunContext":
        from taskpilot.context.run_context import RunContext

        return RunContext
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
