"""One HTTP POST to an address from the settings: no redirect, no proxy of the environment, and an end in time."""

import contextlib
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from taskpilot.domain.channels import Channel
from taskpilot.domain.errors import ConfigurationError, ToolFailed
from taskpilot.domain.text import one_line

TIMEOUT_SECONDS: Final = 10.0
"""For everything together, from the look-up of the name to the status line."""
MAX_RESPONSE_BYTES: Final = 64 * 1024
_DRAIN_SECONDS: Final = 1.0
_TARGET: Final = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_OURS: Final = frozenset({"content-length", "transfer-encoding", "connection", "host"})


@dataclass(frozen=True, slots=True)
class Address:
    """A channel's URL, checked and in parts. Its target and headers are often secrets, so nothing but its name is ever shown."""

    name: str
    secure: bool
    host: str = field(repr=False)
    port: int | None = field(repr=False)
    target: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


def address_of(name: str, channel: Channel) -> Address:
    """The channel's address. Raises ConfigurationError that names the channel and not its URL."""
    where = f"the channel {one_line(name, limit=64)!r} (notify.channels in the settings)"
    try:
        url = urlsplit(channel.url)
        port = url.port
    except ValueError:
        raise ConfigurationError(f"{where} has a URL that cannot be read") from None
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ConfigurationError(f"{where} needs a URL that begins with http:// or https://")
    if url.username is not None or url.password is not None:
        raise ConfigurationError(f"{where} has a user in its URL; put credentials into its headers")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not _TARGET.fullmatch(target) or not _TARGET.fullmatch(url.hostname):
        raise ConfigurationError(f"{where} has a URL with spaces or characters that must be %-escaped")
    for key, value in channel.headers.items():
        if not _HEADER_NAME.fullmatch(key) or not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(f"{where} has a header {one_line(key, limit=64)!r} that HTTP cannot carry")
        if key.lower() in _OURS:
            raise ConfigurationError(f"{where} sets the header {key}, which TaskPilot sets itself")
    return Address(name, url.scheme == "https", url.hostname, port, target, dict(channel.headers))


def post(address: Address, body: bytes, *, timeout_seconds: float = TIMEOUT_SECONDS) -> int:
    """Sends JSON and gives the status, a 2xx. Raises ToolFailed that says whether the message can have arrived."""
    delivery = _Delivery(address, body, timeout_seconds)
    # A thread, since neither a name server nor a server that drips a byte a second keeps to a socket's timeout.
    threading.Thread(target=delivery.run, name="notify", daemon=True).start()
    status = delivery.wait()
    if 200 <= status < 300:
        return status
    hint = "; redirects are not followed" if 300 <= status < 400 else ""
    raise ToolFailed(f"the channel {address.name!r} answered HTTP {status}{hint}")


class _Delivery:
    """One request in its own thread; whoever waits for it may give it up at any moment, and then nothing is sent any more."""

    def __init__(self, address: Address, body: bytes, timeout_seconds: float) -> None:
        self._address = address
        self._body = body
        self._seconds = timeout_seconds
        self._answered = threading.Event()
        self._given_up = threading.Event()
        self._connection: Any = None
        self._sending = False
        self._status = 0
        self._error: Exception | None = None

    def wait(self) -> int:
        try:
            self._answered.wait(self._seconds)
        finally:
            answered = self._answered.is_set()
            if not answered:
                self._give_up()
        if self._error is None and answered:
            return self._status
        reached = "it may or may not have received the message" if self._sending else "nothing was sent"
        # What the thread says after it was given up is the work of our own shutdown, and no cause.
        error = self._error if answered else None
        if error is None or isinstance(error, TimeoutError):
            raise ToolFailed(f"the channel {self._address.name!r} did not answer within {self._seconds:g} s; {reached}")
        raise ToolFailed(f"the channel {self._address.name!r} could not be reached ({_cause(error)}); {reached}") from None

    def run(self) -> None:
        try:
            self._connection = self._connect()
            response = self._send()
            self._status = response.status
            self._answered.set()
            self._drain(response)
        except Exception as error:  # http.client, ssl and a socket shut under them raise many kinds; the waiting side tells.
            if not self._answered.is_set():
                self._error = error
                self._answered.set()
        finally:
            if self._connection is not None:
                with contextlib.suppress(Exception):
                    self._connection.close()

    def _connect(self) -> Any:
        import http.client

        address = self._address
        if not address.secure:
            return http.client.HTTPConnection(address.host, address.port, timeout=self._seconds)
        import ssl

        return http.client.HTTPSConnection(address.host, address.port, timeout=self._seconds, context=ssl.create_default_context())

    def _send(self) -> Any:
        self._connection.connect()
        if self._given_up.is_set():
            raise TimeoutError
        self._sending = True
        headers = {"content-type": "application/json; charset=utf-8", "user-agent": "taskpilot", "connection": "close"}
        headers |= {name.lower(): value for name, value in self._address.headers.items()}
        self._connection.request("POST", self._address.target, body=self._body, headers=headers)
        return self._connection.getresponse()

    def _drain(self, response: Any) -> None:
        """Reads a short answer to its end, so that a polite server sees no broken connection; nobody waits for this."""
        end, size = time.monotonic() + _DRAIN_SECONDS, 0
        while time.monotonic() < end and size < MAX_RESPONSE_BYTES:
            part = response.read1(8192)
            if not part:
                return
            size += len(part)

    def _give_up(self) -> None:
        # First the mark, then the socket: the other side makes its socket first and looks for the mark then, so one of both is seen.
        self._given_up.set()
        sock = getattr(self._connection, "sock", None)
        if sock is not None:
            import socket

            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _cause(error: Exception) -> str:
    """What went wrong, in words that hold no part of the address."""
    certificate = getattr(error, "verify_message", None)
    if certificate:
        return f"its certificate is not accepted: {one_line(str(certificate), limit=100)}"
    text = getattr(error, "strerror", None)
    return one_line(text, limit=100) if isinstance(text, str) and text else type(error).__name__
