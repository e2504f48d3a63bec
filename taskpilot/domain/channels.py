"""Where `notify` may send: channels that the settings name, so that a model never gives a URL."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Channel:
    """One address that takes a message as an HTTP POST of JSON. Both fields may hold secrets: kept out of `repr`."""

    url: str = field(repr=False)
    """http or https, with the path that a webhook needs."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each message, such as Authorization."""
