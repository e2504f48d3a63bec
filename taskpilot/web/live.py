"""Tells open pages that the record has changed, as server-sent events without content."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from taskpilot.domain.errors import TaskPilotError
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import problem

LISTENERS_MAX: Final = 64
_POLL_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 15.0
"""After this time without a change a comment is sent, so that a client that is gone is noticed."""
_LONGEST_SECONDS: Final = 600.0
"""Then the browser connects again by itself, and a session that has ended is noticed."""

_Mark = tuple[tuple[int, int], ...]


class Changes:
    """Watches the files of the store while a page listens. Used only from the event loop, but for `close`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._listeners = 0
        self._number = 0
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        # A disk that hangs then holds no thread of the requests.
        self._thread = CapacityLimiter(1)

    def close(self) -> None:
        """Ends every stream; from any thread."""
        self._closed = True
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._tell)

    def stream(self) -> AsyncIterator[bytes] | None:
        """The events for one page; None where too many listen."""
        return None if self._listeners >= LISTENERS_MAX else self._events()

    async def _events(self) -> AsyncIterator[bytes]:
        self._loop = asyncio.get_running_loop()
        self._listeners += 1
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        end = time.monotonic() + _LONGEST_SECONDS
        try:
            yield b"retry: 3000\n\n"
            while not self._closed and time.monotonic() < end:
                seen = self._number
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _QUIET_SECONDS)
                yield b"event: change\ndata:\n\n" if self._number != seen else b":\n\n"
        finally:
            self._listeners -= 1
            if self._listeners == 0 and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        self._number += 1
        changed.set()

    async def _watch(self) -> None:
        before = await self._mark()
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            now = await self._mark()
            if now != before:
                before = now
                self._tell()

    async def _mark(self) -> _Mark:
        return await to_thread.run_sync(self._look, limiter=self._thread)

    def _look(self) -> _Mark:
        """Changes with each commit: SQLite writes to the log beside the database."""
        try:
            path = self._services.deployment.store.path
        except TaskPilotError:
            return ()
        return tuple(_stat(one) for one in (path, path.with_name(f"{path.name}-wal")))


def _stat(path: Path) -> tuple[int, int]:
    try:
        info = path.stat()
    except OSError:
        return (0, 0)
    return info.st_mtime_ns, info.st_size


def live_routes(changes: Changes) -> APIRouter:
    """The route."""
    router = APIRouter(include_in_schema=False)

    @router.get("/events")
    async def events() -> Response:
        """An event for each change of the record, until the browser leaves."""
        stream = changes.stream()
        if stream is None:
            return problem(503, "too many pages listen", {"Retry-After": "30"})
        return StreamingResponse(stream, media_type="text/event-stream")

    return router
