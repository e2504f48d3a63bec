"""HTTP connections with time limits for what a client sends. One that sends nothing more gives its place to others."""

import asyncio
from typing import Any, Final

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from taskpilot.web.errors import problem

HEAD_SECONDS: Final = 10.0
"""For the head of a request, from the connection or the last answer on."""
REQUEST_SECONDS: Final = 30.0
"""For head and body together."""
CONNECTIONS_MAX: Final = 512
"""Of more connections, the one is closed whose request has been incomplete for the longest time."""
REQUESTS_MAX: Final = 256
"""Requests that are answered at the same time; further ones get 503, those for `PROBES` are answered."""
PROBES: Final = frozenset({"/livez", "/readyz", "/health", "/metrics"})

_INCOMPLETE: Final = (h11.IDLE, h11.SEND_BODY)


class TimedProtocol(H11Protocol):
    """uvicorn's protocol, which itself waits for a client without end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As the base class."""
        super().connection_made(transport)
        self._expect_request()
        if len(self.connections) > CONNECTIONS_MAX:
            waiting = [one for one in self.connections if isinstance(one, TimedProtocol) and one is not self and one.is_incomplete]
            if waiting:
                min(waiting, key=lambda one: one.since).transport.abort()

    def on_response_complete(self) -> None:
        """As the base class."""
        super().on_response_complete()
        self._expect_request()

    @property
    def is_incomplete(self) -> bool:
        """Whether the client has sent no whole request since the last answer."""
        return self.conn.their_state in _INCOMPLETE

    def _expect_request(self) -> None:
        self.since = self.loop.time()
        self.loop.call_later(HEAD_SECONDS, self._close_where_in, h11.IDLE, self.since)
        self.loop.call_later(REQUEST_SECONDS, self._close_where_in, h11.SEND_BODY, self.since)

    def _close_where_in(self, state: Any, since: float) -> None:
        if since == self.since and self.conn.their_state is state and not self.transport.is_closing():
            self.transport.abort()


class Places:
    """Answers 503 while too many requests are in progress. A probe always has a place."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if self._taken >= REQUESTS_MAX:
            await problem(503, f"{self._taken} requests are in progress", {"Retry-After": "1"})(scope, receive, send)
            return
        self._taken += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._taken -= 1
