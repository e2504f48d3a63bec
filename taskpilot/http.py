"""One HTTP exchange within a total time and a size limit, also with a server that hangs or sends a byte a second."""

import http.client
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from taskpilot.domain.text import one_line

T = TypeVar("T")


class TimedCall(Generic[T]):
    """One call in a daemon thread. What it raises is kept, never printed; when the time is over it is left alone."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: list[T] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="taskpilot-telemetry", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether the call came to an end, by a value or an error, within `seconds`."""
        self._thread.join(max(seconds, 0.0))
        return not self._thread.is_alive()

    @property
    def value(self) -> T | None:
        """What the call returned; None where it raised or has not ended."""
        return self._value[0] if self._value else None

    def _run(self) -> None:
        try:
            self._value.append(self._work())
        except BaseException as error:
            self.error = error


_ERROR_BODY_MAX: Final = 2_000
_PROXY_GAVE_UP: Final = frozenset({502, 504})


class Unanswered(Exception):
    """No answer came. `late` tells that the request may still take effect."""

    def __init__(self, message: str, *, late: bool) -> None:
        super().__init__(message)
        self.late = late


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said; the body only as far as it came in time."""

    status: int
    body: bytes

    @property
    def late(self) -> bool:
        """True where a proxy answered for a server that may still do what was asked."""
        return self.status in _PROXY_GAVE_UP


def exchange(
    method: str,
    url: str,
    *,
    seconds: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    body_max: int = _ERROR_BODY_MAX,
    trust: ssl.SSLContext | None = None,
) -> Answer:
    """Asks once: no proxies, no redirects, no retries; userinfo in the URL is sent as basic authentication.

    `trust` says whose https certificates are good; None: those that the system trusts.

    Raises Unanswered, and ValueError where the URL is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shown(url)} is no http or https URL")
    if seconds <= 0:
        raise Unanswered("no time was left to ask", late=False)
    deadline = time.monotonic() + seconds
    one = _Exchange(parts, seconds, trust)
    background = TimedCall(lambda: one.run(method, body, {**_authorization(parts), **(headers or {})}, body_max))
    ended = background.wait(deadline - time.monotonic())
    # Read before the end from our side: a status line that is cut by it would look like a whole one.
    status = one.status
    if not ended:
        one.abandon()
    if status is not None:
        return Answer(status, bytes(one.received))
    if not ended or isinstance(background.error, TimeoutError):
        raise Unanswered(f"no answer within {seconds:.1f} s", late=True)
    cause = background.error
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    raise Unanswered(one_line(f"{type(cause).__name__}: {text}"), late=one.sent)


def shown(url: str) -> str:
    """The URL without what may be a password in it, on one line."""
    return one_line(url.rpartition("@")[2] if "@" in url else url)


@dataclass
class _Exchange:
    parts: SplitResult
    seconds: float
    trust: ssl.SSLContext | None
    sent: bool = False
    status: int | None = None
    received: bytearray = field(default_factory=bytearray)
    _connection: http.client.HTTPConnection | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self, method: str, body: bytes | None, headers: Mapping[str, str], body_max: int) -> None:
        host = self.parts.hostname or ""
        connection: http.client.HTTPConnection
        if self.parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, self.parts.port, timeout=self.seconds, context=self.trust)
        else:
            connection = http.client.HTTPConnection(host, self.parts.port, timeout=self.seconds)
        self._connection = connection
        try:
            connection.connect()
            # A request that starts after it was given up would be an older value that lands later.
            if self._over.is_set():
                return
            self.sent = True
            target = (self.parts.path or "/") + (f"?{self.parts.query}" if self.parts.query else "")
            connection.request(method, target, body=body, headers=dict(headers))
            response = connection.getresponse()
            self.status = response.status
            while len(self.received) < body_max and (chunk := response.read1(body_max - len(self.received))):
                self.received += chunk
        finally:
            connection.close()

    def abandon(self) -> None:
        """Ends the exchange from outside: what is not sent yet never is."""
        self._over.set()
        connection = self._connection
        plug = connection.sock if connection is not None else None
        if plug is not None:
            with suppress(OSError):
                plug.shutdown(socket.SHUT_RDWR)


def _authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": "Basic " + b64encode(pair.encode()).decode()}
