"""The built-in tools: `create_task`, whose effect is a row of the record, and `notify`, a message to a channel of the settings."""

from collections.abc import Callable, Mapping
from typing import Literal

from taskpilot.channels import TIMEOUT_SECONDS, open_channel
from taskpilot.domain.channels import Channel
from taskpilot.domain.errors import ToolFailed
from taskpilot.domain.specs import ToolSpec
from taskpilot.domain.text import one_line, printable
from taskpilot.tools.decorator import make_spec


def notify_tool(channels: Mapping[str, Channel], log: Callable[[str], None], *, timeout_seconds: float = TIMEOUT_SECONDS) -> ToolSpec:
    """`notify`, over the channels of the settings. Not idempotent: a message sent twice is read twice.

    Raises ConfigurationError that names the channel, never its address, where one cannot be used.
    """
    opened = {name: open_channel(name, channel, seconds=timeout_seconds) for name, channel in channels.items()}
    known = ", ".join(sorted(opened))

    def notify(channel: str, message: str) -> str:
        """Send a message to a channel."""
        if not opened:
            log(f"notify {one_line(channel, limit=100)}: {printable(message)}")
            return "no channel is configured: written to the run's log"
        if channel not in opened:
            raise ToolFailed(f"there is no channel {one_line(channel, limit=100)!r}; the known ones are: {known}")
        return f"sent to {channel} ({opened[channel].deliver(message)})"

    description = f"Send a message to a channel. The channels are: {known}." if opened else "Send a message to a channel."
    return make_spec(notify, name="notify", idempotent=False, description=description)


def create_task_tool(file_task: Callable[[str, str, str], str]) -> ToolSpec:
    """`create_task`, filing through `file_task(title, priority, description)`, which answers with what the model is told.

    Idempotent: its one effect is a row that the journal's key makes unique. Whether a title will do is for the policy to say.
    """

    def create_task(title: str, priority: Literal["high", "medium", "low"], description: str = "") -> str:
        """File a task: a title of 1 to 500 characters, a priority, and a description where more is to be said."""
        return file_task(title.strip(), priority, description)

    return make_spec(create_task, name="create_task", idempotent=True)
