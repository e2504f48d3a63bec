"""Tools that a model may call: `@tool`, the schemas from annotations, and the built-in tools."""

from taskpilot.tools.arguments import parse_arguments
from taskpilot.tools.builtin import create_task_tool, notify_tool
from taskpilot.tools.decorator import BUILT_IN, is_tool, tool, tool_spec
from taskpilot.tools.invocation import invoke, read_result, result_text

__all__ = [
    "BUILT_IN",
    "create_task_tool",
    "invoke",
    "is_tool",
    "notify_tool",
    "parse_arguments",
    "read_result",
    "result_text",
    "tool",
    "tool_spec",
]
