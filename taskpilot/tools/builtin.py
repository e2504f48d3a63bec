"""The built-in tools: `create_task`, whose effect is a row of the record, and `notify`, a message to a channel of the settings."""

import json
from collections.abc import Callable, Mapping
from typing import Final, Literal

from taskpilot.channels.webhook import TIMEOUT_SECONDS, address_of, post
from taskpilot.domain.channels import Channel
from taskpilot.domain.errors import ToolFailed
from taskpilot.domain.specs import ToolSpec
from taskpilot.domain.text import one_line, printable
from taskpilot.tools.decorator import make_spec

MAX_BODY_BYTES: Final = 64 * 1024


def notify_tool(channels: Mapping[str, Channel], log: Callable[[str], None], *, timeout_seconds: float = TIMEOUT_SECONDS) -> ToolSpec:
    """`notify`, over the channels of the settings. Not idempotent: a message sent twice is read twice.

    Raises ConfigurationError that names the channel, never its address, where one cannot be used.
    """
    addresses = {name: address_of(name, channel) for name, channel in channels.items()}
    known = ", ".join(sorted(addresses))

    def notify(channel: str, message: str) -> str:
        """Send a message to a channel."""
        if not addresses:
            log(f"notify {one_line(channel, limit=100)}: {printable(message)}")
            return "no channel is configured: written to the run's log"
        address = addresses.get(channel)
        if address is None:
            raise ToolFailed(f"there is no channel {one_line(channel, limit=100)!r}; the known ones are: {known}")
        body = json.dumps({"channel": channel, "message": message}, ensure_ascii=False).encode("utf-8")
        if len(body) > MAX_BODY_BYTES:
            raise ToolFailed(f"the message is larger than {MAX_BODY_BYTES // 1024} kB; nothing was sent")
        status = post(address, body, timeout_seconds=timeout_seconds)
        return f"sent to {channel} (HTTP {status})"

    description = f"Send a message to a channel. The channels are: {known}." if addresses else "Send a message to a channel."
    return make_spec(notify, name="notify", idempotent=False, description=description)


def create_task_tool(file_task: Callable[[str, str, str], str]) -> ToolSpec:
    """`create_task`, filing through `file_task(title, priority, description)`, which answers with what the model is told.

    Idempotent: its one effect is a row that the journal's key makes unique. Whether a title will do is for the policy to say.
    """

    def create_task(title: str, priority: Literal["high", "medium", "low"], description: str = "") -> str:
        """File a task: a title of 1 to 500 characters, a priority, and a description where more is to be said."""
        return file_task(title.strip(), priority, description)

    return make_spec(create_task, name="create_task", idempotent=True)
