"""Channels: the addresses in the settings to which messages may be sent, so that a model never chooses a URL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

KINDS: Final = {"http": "webhook:Webhook", "https": "webhook:Webhook"}
"""By URL scheme: the module in `taskpilot/channels/`, and its class that delivers."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One address of the settings. Both fields may hold secrets: kept out of `repr`."""

    url: str = field(repr=False)
    """Its scheme selects the kind of channel; for http and https, with the path that a webhook needs."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each message, such as Authorization."""
