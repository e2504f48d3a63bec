"""Whether a run would be started and recorded now: asked of the scheduler's loop and of the store's file, and answered in bounded time."""

import asyncio
import threading
import time
from contextlib import suppress
from typing import Final

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.fires import AWAKE, PUNCTUAL, SchedulerState
from taskpilot.domain.text import said
from taskpilot.store.probe import probe
from taskpilot.web.services import Services

LIVE_SECONDS: Final = AWAKE.total_seconds()
"""A loop that did not come round for three wake-ups hangs."""
READY_SECONDS: Final = PUNCTUAL.total_seconds()
"""One that missed two is not to be relied on before it is to be restarted."""

_FRESH_SECONDS: Final = 1.0
"""The store is asked at most this often, however many monitors there are."""
_BUSY_SECONDS: Final = 0.5
"""A writer may hold the store for this long before it counts as locked."""
_WAIT_SECONDS: Final = 2.0
"""A disk may hang for ever; the answer comes after this."""


class Readiness:
    """Asked from the event loop alone."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._asked_at = -_FRESH_SECONDS
        self._answer: asyncio.Future[str | None] | None = None

    async def reason(self) -> str | None:
        """Why we are not ready, as a sentence; None where we are."""
        state = self._services.state()
        if state is not SchedulerState.RUNNING:
            return f"the scheduler is {state}"
        silent = self._services.seconds_since_turn()
        if silent > READY_SECONDS:
            return f"the scheduler's loop did not come round for {silent:.0f} s"
        return await self._of_store()

    async def _of_store(self) -> str | None:
        now = time.monotonic()
        answer = self._answer
        if answer is None or (answer.done() and now - self._asked_at >= _FRESH_SECONDS):
            self._asked_at = now
            self._answer = answer = asyncio.get_running_loop().create_future()
            # Its own daemon thread: a disk that hangs costs one, and neither a place in the pool nor the end of the process.
            ask = threading.Thread(target=self._ask, args=(asyncio.get_running_loop(), answer), name="taskpilot-probe", daemon=True)
            ask.start()
        await asyncio.wait({answer}, timeout=_WAIT_SECONDS)
        return answer.result() if answer.done() else f"the store did not answer for {time.monotonic() - self._asked_at:.0f} s"

    def _ask(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[str | None]") -> None:
        try:
            probe(self._services.house.store, busy_seconds=_BUSY_SECONDS)
            reason = None
        except TaskPilotError as error:
            reason = str(error)
        except BaseException as error:
            reason = said(error)
        # Where the server ended meanwhile, nobody asks any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(answer.set_result, reason)
