"""Our webhook: takes each message as a signed HTTP POST of JSON."""

import hmac
import json
import re
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from taskpilot.domain.channels import Channel, Message
from taskpilot.domain.errors import ConfigurationError, NotDelivered
from taskpilot.domain.text import one_line
from taskpilot.http import Unanswered, exchange

MAX_MESSAGE_BYTES: Final = 64 * 1024
_MAX_RESPONSE_BYTES: Final = 64 * 1024
_TARGET: Final = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_OURS: Final = frozenset({"content-length", "transfer-encoding", "connection", "host", "idempotency-key", "taskpilot-signature"})
_REFUSED: Final = frozenset({400, 410, 413, 415, 422})
"""The receiver understood the request and does not want it. 401, 403 and 404 are not among them: its settings or ours may be corrected."""


class Webhook:
    """One address. Its path, query and headers are often secrets, so nothing but its name is ever shown."""

    def __init__(self, name: str, channel: Channel, *, seconds: float, now: Callable[[], float] = time.time) -> None:
        """Raises ConfigurationError that names the channel and not its URL."""
        _check(f"the channel {one_line(name, limit=64)!r} (notify.channels in the settings)", channel)
        self._name = name
        self._url = channel.url
        self._secret = channel.secret
        self._headers = {"content-type": "application/json; charset=utf-8", "user-agent": "taskpilot", "connection": "close"}
        self._headers |= {key.lower(): value for key, value in channel.headers.items()}
        self._seconds = seconds
        self._now = now

    def check(self) -> None:
        """Nothing more than at its making can be checked."""

    def deliver(self, message: Message) -> str:
        """Sends the message; gives its HTTP status, a 2xx. Raises NotDelivered, whose text says whether the message can have arrived."""
        value = {"channel": self._name, "message": message.text} if message.data is None else dict(message.data)
        body = json.dumps(value, ensure_ascii=False).encode("utf-8")
        if len(body) > MAX_MESSAGE_BYTES:
            raise NotDelivered(f"the message is larger than {MAX_MESSAGE_BYTES // 1024} kB; nothing was sent", refused=True)
        name = f"the channel {self._name!r}"
        try:
            status = exchange(
                "POST",
                self._url,
                seconds=self._seconds,
                body=body,
                headers=self._headers | self._signed(body, message.key),
                body_max=_MAX_RESPONSE_BYTES,
                wait_for_body=False,
            ).status
        except Unanswered as error:
            reached = "it may or may not have received the message" if error.late else "nothing was sent"
            if error.timed_out:
                raise NotDelivered(f"{name} did not answer within {self._seconds:g} s; {reached}", late=error.late) from None
            raise NotDelivered(f"{name} could not be reached ({error}); {reached}", late=error.late) from None
        if 200 <= status < 300:
            return f"HTTP {status}"
        why = "; redirects are not followed" if 300 <= status < 400 else ""
        raise NotDelivered(f"{name} answered HTTP {status}{why}", answered=True, refused=status in _REFUSED)

    def _signed(self, body: bytes, key: str) -> dict[str, str]:
        headers = {"idempotency-key": key} if key else {}
        if self._secret is not None:
            at = str(int(self._now()))
            digest = hmac.digest(self._secret.encode("utf-8"), at.encode() + b"." + body, "sha256").hex()
            headers["taskpilot-signature"] = f"t={at},v1={digest}"
        return headers


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
