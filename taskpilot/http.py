"""One HTTP exchange within a total time and a size limit, also with a server that hangs or sends a byte a second."""

import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from taskpilot.domain.text import one_line

T = TypeVar("T")

_ERROR_BODY_MAX: Final = 2_000
_GATEWAY_ERRORS: Final = frozenset({502, 504})
_DRAIN_SECONDS: Final = 1.0
_CHUNK: Final = 64 * 1024


class Deadline:
    """One time limit for several waits together."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; negative when it has passed."""
        return self._end - time.monotonic()


class TimedCall(Generic[T]):
    """One call in a daemon thread. What it raises is kept, never printed; after `wait` it may be abandoned."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: list[T] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="taskpilot-timed-call", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether the call returned or raised within `seconds`."""
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


class Unanswered(Exception):
    """No answer came; its text holds no part of the URL."""

    def __init__(self, message: str, *, late: bool, timed_out: bool = False) -> None:
        super().__init__(message)
        self.late = late
        """The request was sent, and may still take effect."""
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; the body only as far as it came in time."""

    status: int
    body: bytes

    @property
    def success(self) -> bool:
        """Any 2xx."""
        return 200 <= self.status < 300

    @property
    def late(self) -> bool:
        """True where a proxy answered for a server that may still carry out the request."""
        return self.status in _GATEWAY_ERRORS


def exchange(
    method: str,
    url: str,
    *,
    seconds: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    body_max: int = _ERROR_BODY_MAX,
    wait_for_body: bool = True,
    ca_file: Path | None = None,
    proxy: str | None = None,
) -> Answer:
    """Asks once: no proxy but the given one, no redirects, no retries; userinfo in the URL is sent as basic authentication.

    Where `wait_for_body` is False the status line is enough: up to `body_max` bytes are then read in the background and thrown away, so
    that the server sees no broken connection. `ca_file` has the certificates to trust for https; None: those of the system.
    Raises Unanswered, and ValueError for a text that is no URL.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        # Not the cause: it may quote the URL, and with it a password.
        raise ValueError(f"{shown(url)} is no http or https URL")
    if seconds <= 0:
        raise Unanswered("no time was left to ask", late=False, timed_out=True)
    one = _Exchange(
        lambda: _connection(parts, seconds, ca_file, proxy),
        method,
        parts,
        body,
        {**_authorization(parts), **_proxy_authorization(parts, proxy), **(headers or {})},
        body_max,
        wait_for_body,
        whole_target=proxy is not None and parts.scheme == "http",
    )
    # A thread, since neither a name server nor a server that sends a byte a second keeps to a socket's timeout.
    TimedCall(one.run)
    in_time = False
    try:
        in_time = one.over.wait(seconds)
    finally:
        # Read before we close the connection: a status line that this cuts would look like a whole one.
        status = one.status
        if not in_time:
            one.abandon()
    if status is not None:
        return Answer(status, bytes(one.received))
    if not in_time or one.error is None or isinstance(one.error, TimeoutError):
        raise Unanswered(f"no answer within {seconds:.1f} s", late=one.sent, timed_out=True)
    raise Unanswered(_cause(one.error), late=one.sent)


def shown(url: str) -> str:
    """The URL without what may be a secret in it (user, password, query), on one line."""
    return one_line(url.rpartition("@")[2].partition("?")[0])


@dataclass
class _Exchange:
    connect: Callable[[], Any]
    method: str
    parts: SplitResult
    body: bytes | None
    headers: Mapping[str, str]
    body_max: int
    wait_for_body: bool
    whole_target: bool = False
    """A proxy gets the whole address of an http request."""
    sent: bool = False
    status: int | None = None
    received: bytearray = field(default_factory=bytearray)
    error: BaseException | None = None
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the caller need not wait any longer."""
    _abandoned: threading.Event = field(default_factory=threading.Event)
    _connection: Any = None

    def run(self) -> None:
        try:
            self._ask()
        except BaseException as error:
            self.error = error
        finally:
            self.over.set()
            if self._connection is not None:
                with suppress(Exception):
                    self._connection.close()

    def _ask(self) -> None:
        self._connection = connection = self.connect()
        connection.connect()
        # A request that starts after it was given up would be an older value that lands later.
        if self._abandoned.is_set():
            return
        self.sent = True
        target = (self.parts.path or "/") + (f"?{self.parts.query}" if self.parts.query else "")
        if self.whole_target:
            target = f"http://{self.parts.netloc.rpartition('@')[2]}{target}"
        connection.request(self.method, target, body=self.body, headers=dict(self.headers))
        response = connection.getresponse()
        self.status = response.status
        end = Deadline(float("inf"))
        if not self.wait_for_body:
            self.over.set()
            end = Deadline(_DRAIN_SECONDS)
        while end.left > 0 and len(self.received) < self.body_max:
            chunk = response.read1(min(_CHUNK, self.body_max - len(self.received)))
            if not chunk:
                return
            self.received += chunk

    def abandon(self) -> None:
        """Ends the exchange from another thread: what is not sent yet is never sent."""
        # First the flag, then the socket: the thread opens its socket first and checks the flag then, so it notices one of the two.
        self._abandoned.set()
        connected = getattr(self._connection, "sock", None)
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


def _connection(parts: SplitResult, seconds: float, ca_file: Path | None, proxy: str | None) -> Any:
    # Imported late: a run without telemetry needs neither.
    import http.client

    host, port = parts.hostname or "", parts.port
    first = parts if proxy is None else urlsplit(proxy)
    if parts.scheme == "http":
        return http.client.HTTPConnection(first.hostname or "", first.port, timeout=seconds)
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror or error}: {ca_file}") from error
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
    tunnel = http.client.HTTPSConnection(first.hostname or "", first.port or 80, timeout=seconds, context=context)
    tunnel.set_tunnel(host, port, headers=_as_proxy(_authorization(first)))
    return tunnel


def _as_proxy(headers: Mapping[str, str]) -> dict[str, str]:
    return {f"Proxy-{name}": value for name, value in headers.items()}


def _proxy_authorization(parts: SplitResult, proxy: str | None) -> dict[str, str]:
    """For an http request; a tunnel sends its own."""
    return _as_proxy(_authorization(urlsplit(proxy))) if proxy is not None and parts.scheme == "http" else {}


def _authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": "Basic " + b64encode(pair.encode()).decode()}


def _cause(error: BaseException) -> str:
    """What went wrong. Not `str(error)`: that of an InvalidURL quotes the URL."""
    certificate = getattr(error, "verify_message", None)
    if certificate:
        return f"its certificate is not accepted: {one_line(str(certificate), limit=100)}"
    text = getattr(error, "strerror", None)
    return one_line(text, limit=100) if isinstance(text, str) and text else type(error).__name__
