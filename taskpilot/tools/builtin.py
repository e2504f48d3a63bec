"""The built-in tools: `create_task`, which records a task, and `notify`, which sends a message to a channel of the settings."""

from collections.abc import Callable, Mapping
from typing import Literal

from taskpilot.channels import TIMEOUT_SECONDS, open_channel
from taskpilot.domain.channels import Channel, Message
from taskpilot.domain.errors import ToolFailed
from taskpilot.domain.specs import ToolSpec
from taskpilot.domain.text import one_line, printable
from taskpilot.tools.decorator import make_spec


def notify_tool(channels: Mapping[str, Channel], log: Callable[[str], None], *, timeout_seconds: float = TIMEOUT_SECONDS) -> ToolSpec:
    """`notify`, with the channels of the settings. Not idempotent: a repeated call sends the message twice.

    Raises ConfigurationError that names an unusable channel, but not its URL.
    """
    opened = {name: open_channel(name, channel, seconds=timeout_seconds) for name, channel in channels.items()}
    known = ", ".join(sorted(opened))

    def notify(channel: str, message: str) -> str:
        """Send a message to a channel."""
        if not opened:
            log(f"notify {one_line(channel, limit=100)}: {printable(message)}")
            return "no channel is configured: written to the run's log"
        if channel not in opened:
            raise ToolFailed(f"there is no channel {one_line(channel, limit=100)!r}; use one of {known}")
        return f"sent to {channel} ({opened[channel].deliver(Message(message))})"

    description = f"Send a message to a channel. The channels are: {known}." if opened else "Send a message to a channel."
    return make_spec(notify, name="notify", idempotent=False, description=description)


def create_task_tool(file_task: Callable[[str, str, str], str]) -> ToolSpec:
    """`create_task`, which calls `file_task(title, priority, description)` and returns its text to the model.

    Idempotent: its only effect is a row that is unique by its place in the run. The policy checks the title.
    """

    def create_task(title: str, priority: Literal["high", "medium", "low"], description: str = "") -> str:
        """File a task: a title of 1 to 500 characters, a priority, and an optional description."""
        return file_task(title.strip(), priority, description)

    return make_spec(create_task, name="create_task", idempotent=True)
