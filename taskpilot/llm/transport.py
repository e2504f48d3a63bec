"""The HTTP transport of the openai SDK, with a deadline for the whole exchange and a size limit for the reply, which the SDK lacks.

It imports httpx2 and httpcore2, so it is imported only at the first call.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpcore2
import httpx2

from taskpilot.http import Deadline

_CONNECT_SECONDS: Final = 10.0
"""A host that accepts no connection in this time counts as unreachable."""
_IDLE_SECONDS: Final = 4.0
"""Servers with uvicorn close an idle connection after 5 s; we close it earlier, so that no request meets a closing one."""


class ReplyRefused(Exception):
    """The reply's body is larger than allowed, or compressed although that was not asked for."""


class _ExchangeEnd(threading.local):
    """The deadline of this thread's exchange; a synchronous pool does all its input and output in the calling thread."""

    def __init__(self) -> None:
        self.deadline: Deadline | None = None

    def limit(self, timeout: float | None, late: Callable[[str], Exception]) -> float | None:
        """The smaller of `timeout` and the remaining time. Raises `late` if there is none."""
        if self.deadline is None:
            return timeout
        left = self.deadline.left
        if left <= 0:
            raise late("the request took too long")
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore2.NetworkStream):
    """A connection whose reads and writes end at the deadline; a read timeout alone would start again with each byte."""

    def __init__(self, stream: httpcore2.NetworkStream, end: _ExchangeEnd) -> None:
        self._stream = stream
        self._end = end

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._end.limit(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces: each one gets the remaining time.
        for start in range(0, len(buffer), 65_536):
            self._stream.write(buffer[start : start + 65_536], self._end.limit(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._end.limit(timeout, httpcore2.ConnectTimeout)), self._end)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore2.NetworkBackend):
    """Tries each address of a host in turn, all before the deadline."""

    def __init__(self, end: _ExchangeEnd) -> None:
        self._end = end
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(f"the name {host} was not found: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        failure: Exception = httpcore2.ConnectError(f"the name {host} has no address")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._end.limit(timeout, httpcore2.ConnectTimeout), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self._end)
        raise failure


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Turns httpcore2's exceptions into those of httpx2 that the SDK knows; their type shows whether the request was sent."""
    try:
        yield
    except (httpcore2.ConnectTimeout, httpcore2.PoolTimeout) as error:
        raise httpx2.ConnectTimeout(str(error)) from error
    except httpcore2.TimeoutException as error:
        raise httpx2.ReadTimeout(str(error)) from error
    except (httpcore2.ConnectError, httpcore2.ProxyError, httpcore2.LocalProtocolError, httpcore2.UnsupportedProtocol) as error:
        raise httpx2.ConnectError(str(error)) from error
    except httpcore2.RemoteProtocolError as error:
        raise httpx2.RemoteProtocolError(str(error)) from error
    except httpcore2.NetworkError as error:
        raise httpx2.ReadError(str(error)) from error


class _Body(httpx2.SyncByteStream):
    """A reply's body of at most `limit` bytes."""

    def __init__(self, chunks: Iterable[bytes], limit: int) -> None:
        self._chunks = chunks
        self._limit = limit

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        with _httpx_errors():
            for chunk in self._chunks:
                size += len(chunk)
                if size > self._limit:
                    raise ReplyRefused(f"its reply is larger than {self._limit:,} bytes")
                yield chunk

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


class BoundedTransport(httpx2.BaseTransport):
    """One pool of connections; the `read` timeout of a request limits its whole exchange, from connecting to the last byte.

    The lookup of the host's name has the system's limits instead.
    """

    def __init__(self, *, max_reply_bytes: int, proxy: str | None = None) -> None:
        self._max_reply_bytes = max_reply_bytes
        self._end = _ExchangeEnd()
        options: dict[str, Any] = {
            "ssl_context": httpx2.create_ssl_context(),
            "max_connections": None,
            "keepalive_expiry": _IDLE_SECONDS,
            "network_backend": _Backend(self._end),
        }
        self._pool = httpcore2.ConnectionPool(**options) if proxy is None else _through(proxy, options)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """One exchange. Raises the exceptions of httpx2, and ReplyRefused."""
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        whole = timeouts.get("read")
        self._end.deadline = None if whole is None else Deadline(whole)
        if not isinstance(request.stream, httpx2.SyncByteStream):
            raise TypeError("a synchronous request was expected")
        with _httpx_errors():
            response = self._pool.handle_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        if not isinstance(response.stream, Iterable):
            raise TypeError("a synchronous response was expected")
        body = _Body(response.stream, self._max_reply_bytes)
        headers = httpx2.Headers(response.headers)
        try:
            self._check_headers(headers)
        except ReplyRefused:
            body.close()
            raise
        return httpx2.Response(status_code=response.status, headers=headers, stream=body, extensions=response.extensions)

    def _check_headers(self, headers: httpx2.Headers) -> None:
        # A few compressed kilobytes may become gigabytes, and we asked for plain text.
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ReplyRefused("its reply is compressed, which was not asked for")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._max_reply_bytes:
            raise ReplyRefused(f"its reply is larger than {self._max_reply_bytes:,} bytes")

    def close(self) -> None:
        """Closes all connections."""
        self._pool.close()


def _through(proxy: str, options: dict[str, Any]) -> httpcore2.HTTPProxy:
    parts = urlsplit(proxy)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    address = f"{parts.scheme}://{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    user = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    return httpcore2.HTTPProxy(address, proxy_auth=user, **options)


def http_client(*, max_reply_bytes: int, proxy: str | None = None) -> httpx2.Client:
    """A client that follows no redirect and takes no proxy or credentials from the environment."""
    transport = BoundedTransport(max_reply_bytes=max_reply_bytes, proxy=proxy)
    return httpx2.Client(transport=transport, trust_env=False, follow_redirects=False)


def timeout_of(seconds: float) -> httpx2.Timeout:
    """The whole exchange ends after `seconds`."""
    return httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))
