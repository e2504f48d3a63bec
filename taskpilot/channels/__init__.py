"""Delivers one message to a channel of the settings. A new kind is one module here and its URL schemes in `domain/channels.py`."""

from importlib import import_module
from typing import Final, Protocol, cast

from taskpilot.domain.channels import KINDS, Channel
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line

TIMEOUT_SECONDS: Final = 10.0
"""For one delivery, from resolving the host's name to the answer."""


class OpenChannel(Protocol):
    """A channel that is checked and ready."""

    def deliver(self, message: str) -> str:
        """Sends the message; gives what the channel answered. Raises ToolFailed, whose text says whether the message can have arrived."""
        ...


def open_channel(name: str, channel: Channel, *, seconds: float = TIMEOUT_SECONDS) -> OpenChannel:
    """The channel, of the kind that its URL's scheme names. Raises ConfigurationError that names the channel and not its URL."""
    kind = KINDS.get(channel.url.partition(":")[0].lower())
    if kind is None:
        known = " or ".join(f"{scheme}://" for scheme in KINDS)
        raise ConfigurationError(
            f"the channel {one_line(name, limit=64)!r} (notify.channels in the settings) needs a URL that begins with {known}"
        )
    # Imported late: a run that sends nothing does not need it.
    module, _, class_name = kind.partition(":")
    return cast("OpenChannel", getattr(import_module(f"taskpilot.channels.{module}"), class_name)(name, channel, seconds=seconds))
