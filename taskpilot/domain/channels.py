"""Channels: the addresses in the settings to which messages may be sent, so that a model never chooses a URL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

WEBHOOKS: Final = ("http", "https")
"""URL schemes of our own webhook; every other scheme is one of apprise's."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One address of the settings. Each field may hold secrets: kept out of `repr`."""

    url: str = field(repr=False)
    """Its scheme selects the kind of channel; for http and https, with the path that a webhook needs."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of a webhook: sent with each message, such as Authorization."""
    secret: str | None = field(default=None, repr=False)
    """Of a webhook: the key of the signature."""

    @property
    def scheme(self) -> str:
        """Like `https` or `slack`."""
        return self.url.partition(":")[0].lower()

    @property
    def is_webhook(self) -> bool:
        """Whether it gets our JSON instead of a text."""
        return self.scheme in WEBHOOKS


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel delivers. The text, the HTML and the data say the same."""

    text: str
    title: str = ""
    html: str = ""
    """For mail; empty: the text."""
    data: Mapping[str, Any] | None = None
    """The JSON for a webhook; None: the channel's name and the text."""
    key: str = ""
    """The `Idempotency-Key`, the same at each try; empty: none."""
