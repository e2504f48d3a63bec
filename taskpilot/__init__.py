"""TaskPilot: LLM-agent workflows as scheduled, unattended batch jobs. This is what a job file imports.

Each name is loaded when it is first asked for, so that `import taskpilot` and `taskpilot --help` wake nothing; `__init__.pyi` says the
same to type checkers.
"""

from importlib import import_module
from typing import Any, Final

_ROOMS: Final = {
    "taskpilot.context.run_context": ("RunContext",),
    "taskpilot.domain.errors": (
        "BudgetExceeded",
        "Denied",
        "ItemError",
        "ModelError",
        "ModelRefused",
        "ModelUnavailable",
        "ReplyInvalid",
        "RequirementNotMet",
        "TaskPilotError",
        "ToolArgumentsInvalid",
        "ToolFailed",
        "Waiting",
    ),
    "taskpilot.schedules.schedule": ("at", "cron", "every"),
    "taskpilot.domain.specs": ("Budget", "InputFile", "Retry"),
    "taskpilot.domain.runs": ("RunStatus",),
    "taskpilot.domain.tasks": ("Priority", "TaskResult", "TaskStatus", "WorkflowResult"),
    "taskpilot.jobs.decorator": ("job",),
    "taskpilot.telemetry.logs": ("RunLogger",),
    "taskpilot.tools.decorator": ("tool",),
}
_FACE: Final = {name: room for room, names in _ROOMS.items() for name in names}

__version__ = "0.1.0"

__all__ = sorted(_FACE)  # noqa: PLE0605  a test holds it against the stub


def __getattr__(name: str) -> Any:
    room = _FACE.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(room), name)
    globals()[name] = value
    return value
