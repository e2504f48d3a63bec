"""A webhook: takes each message as an HTTP POST of JSON."""

import json
import re
from typing import Final
from urllib.parse import urlsplit

from taskpilot.domain.channels import Channel
from taskpilot.domain.errors import ConfigurationError, ToolFailed
from taskpilot.domain.text import one_line
from taskpilot.http import Unanswered, exchange

MAX_MESSAGE_BYTES: Final = 64 * 1024
_MAX_RESPONSE_BYTES: Final = 64 * 1024
_TARGET: Final = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_OURS: Final = frozenset({"content-length", "transfer-encoding", "connection", "host"})


class Webhook:
    """One address. Its path, query and headers are often secrets, so nothing but its name is ever shown."""

    def __init__(self, name: str, channel: Channel, *, seconds: float) -> None:
        """Raises ConfigurationError that names the channel and not its URL."""
        _check(f"the channel {one_line(name, limit=64)!r} (notify.channels in the settings)", channel)
        self._name = name
        self._url = channel.url
        self._headers = {"content-type": "application/json; charset=utf-8", "user-agent": "taskpilot", "connection": "close"}
        self._headers |= {key.lower(): value for key, value in channel.headers.items()}
        self._seconds = seconds

    def deliver(self, message: str) -> str:
        """Sends the message; gives its HTTP status, a 2xx. Raises ToolFailed, whose text says whether the message can have arrived."""
        body = json.dumps({"channel": self._name, "message": message}, ensure_ascii=False).encode("utf-8")
        if len(body) > MAX_MESSAGE_BYTES:
            raise ToolFailed(f"the message is larger than {MAX_MESSAGE_BYTES // 1024} kB; nothing was sent")
        name = f"the channel {self._name!r}"
        try:
            status = exchange(
                "POST",
                self._url,
                seconds=self._seconds,
                body=body,
                headers=self._headers,
                body_max=_MAX_RESPONSE_BYTES,
                wait_for_body=False,
            ).status
        except Unanswered as error:
            reached = "it may or may not have received the message" if error.late else "nothing was sent"
            if error.timed_out:
                raise ToolFailed(f"{name} did not answer within {self._seconds:g} s; {reached}") from None
            raise ToolFailed(f"{name} could not be reached ({error}); {reached}") from None
        if 200 <= status < 300:
            return f"HTTP {status}"
        raise ToolFailed(f"{name} answered HTTP {status}" + ("; redirects are not followed" if 300 <= status < 400 else ""))


def _check(where: str, channel: Channel) -> None:
    try:
        url = urlsplit(channel.url)
        _ = url.port
    except ValueError:
        raise ConfigurationError(f"{where} has a URL that cannot be read") from None
    if not url.hostname:
        raise ConfigurationError(f"{where} has a URL without a host")
    if url.username is not None or url.password is not None:
        raise ConfigurationError(f"{where} has a user in its URL; put credentials into its headers")
    if not _TARGET.fullmatch(f"{url.hostname}{url.path}{url.query}"):
        raise ConfigurationError(f"{where} has a URL with spaces or characters that must be %-escaped")
    for key, value in channel.headers.items():
        if not _HEADER_NAME.fullmatch(key) or not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(f"{where} has a header {one_line(key, limit=64)!r} that HTTP cannot carry")
        if key.lower() in _OURS:
            raise ConfigurationError(f"{where} sets the header {key}, which TaskPilot sets itself")
