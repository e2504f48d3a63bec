"""Delivers one message to a channel of the settings: our webhook for http and https, apprise for every other scheme."""

from importlib import import_module
from typing import Final, Protocol, cast

from taskpilot.domain.channels import Channel, Message

TIMEOUT_SECONDS: Final = 10.0
"""For one delivery, from resolving the host's name to the answer."""


class OpenChannel(Protocol):
    """A channel that is checked and ready."""

    def check(self) -> None:
        """Raises ConfigurationError where nothing can be sent; sends nothing."""
        ...

    def deliver(self, message: Message) -> str:
        """Sends the message; gives what the channel answered. Raises NotDelivered, whose text says whether it can have arrived."""
        ...


def open_channel(name: str, channel: Channel, *, seconds: float = TIMEOUT_SECONDS) -> OpenChannel:
    """The channel, of the kind that its URL's scheme names. Raises ConfigurationError that names the channel and not its URL."""
    # Imported late: a run that sends nothing does not need it.
    module, class_name = ("webhook", "Webhook") if channel.is_webhook else ("service", "Service")
    return cast("OpenChannel", getattr(import_module(f"taskpilot.channels.{module}"), class_name)(name, channel, seconds=seconds))
