"""TaskPilot: LLM-agent workflows as scheduled, unattended batch jobs. This is what a job file imports.

Each name is imported when it is first used, so that `import taskpilot` and `taskpilot --help` stay fast; `__init__.pyi` declares the same
names for type checkers.
"""

from importlib import import_module
from typing import Any, Final

_NAMES: Final = {
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
_MODULE_OF: Final = {name: module for module, names in _NAMES.items() for name in names}

__version__ = "0.1.0"

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605  a test compares it with the stub


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value
