"""`create_task`, the built-in tool whose effect is a row of the record."""

from collections.abc import Callable
from typing import Literal

from taskpilot.domain.specs import ToolSpec
from taskpilot.tools.decorator import make_spec


def create_task_tool(file_task: Callable[[str, str, str], str]) -> ToolSpec:
    """`create_task`, filing through `file_task(title, priority, description)`, which answers with what the model is told.

    Idempotent: its one effect is a row that the journal's key makes unique. Whether a title will do is for the policy to say.
    """

    def create_task(title: str, priority: Literal["high", "medium", "low"], description: str = "") -> str:
        """File a task: a title of 1 to 500 characters, a priority, and a description where more is to be said."""
        return file_task(title.strip(), priority, description)

    return make_spec(create_task, name="create_task", idempotent=True)
