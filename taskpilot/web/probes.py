"""Routes for monitors: liveness, readiness, metrics, health and golden signals."""

import asyncio
import threading
import time
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.fires import AWAKE, PUNCTUAL, SchedulerState
from taskpilot.domain.text import said
from taskpilot.services.metrics import scrape
from taskpilot.store.probe import probe
from taskpilot.views.golden_signals import golden_json, golden_signals
from taskpilot.views.health import health, health_json
from taskpilot.web import schemas
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import answers

LIVE_SECONDS: Final = AWAKE.total_seconds()
"""After this time without a tick (three wake-ups) the scheduler counts as hanging."""
READY_SECONDS: Final = PUNCTUAL.total_seconds()
"""After this time without a tick (two wake-ups) it is not ready."""

_FRESH_SECONDS: Final = 1.0
"""The store is probed at most this often, however many monitors there are."""
_BUSY_SECONDS: Final = 0.5
"""A writer may hold the store for this long before it counts as locked."""
_WAIT_SECONDS: Final = 2.0
"""A disk may hang forever: after this the store counts as not usable."""
_THREADS: Final = 2
"""For /metrics and /health alone: requests to the API may take all of the others."""


class Readiness:
    """Whether runs can be started; used only from the event loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._asked_at = -_FRESH_SECONDS
        self._answer: asyncio.Future[str | None] | None = None

    async def reason(self) -> str | None:
        """Why the server is not ready, as a sentence; None where it is."""
        state = self._services.state()
        if state is not SchedulerState.RUNNING:
            return f"the scheduler is {state}"
        silent = self._services.seconds_since_tick()
        if silent > READY_SECONDS:
            return f"the scheduler's last tick was {silent:.0f} s ago"
        return self._services.failure() or await self._of_store()

    async def _of_store(self) -> str | None:
        now = time.monotonic()
        answer = self._answer
        if answer is None or (answer.done() and now - self._asked_at >= _FRESH_SECONDS):
            self._asked_at = now
            self._answer = answer = asyncio.get_running_loop().create_future()
            # A daemon thread: if the disk hangs, it blocks neither the thread pool nor the exit of the process.
            ask = threading.Thread(target=self._ask, args=(asyncio.get_running_loop(), answer), name="taskpilot-probe", daemon=True)
            ask.start()
        await asyncio.wait({answer}, timeout=_WAIT_SECONDS)
        return answer.result() if answer.done() else f"the store did not answer for {time.monotonic() - self._asked_at:.0f} s"

    def _ask(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[str | None]") -> None:
        try:
            probe(self._services.deployment.store, busy_seconds=_BUSY_SECONDS)
            reason = None
        except TaskPilotError as error:
            reason = error.one_line
        except BaseException as error:
            reason = said(error)
        # The event loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(answer.set_result, reason)


class Collected(StrEnum):
    """The part of the metrics that a scrape asks for."""

    ALL = "all"
    SCHEDULER = "scheduler"


class Exposition(Response):
    """The text format of Prometheus."""

    media_type = "text/plain; version=0.0.4; charset=utf-8"


def open_routes(services: Services) -> APIRouter:
    """The routes that need no token on any address."""
    router = APIRouter(tags=["monitoring"], responses=answers(421))
    readiness = Readiness(services)
    threads = CapacityLimiter(_THREADS)

    # The event loop itself answers both, so they work when every thread is busy or a disk hangs.
    @router.get("/livez", response_model=schemas.Liveness, responses={503: {"model": schemas.Liveness}})
    async def livez() -> Response:
        """Return 200 while the scheduler ticks, 503 if it hangs: restart it then."""
        silent = services.seconds_since_tick()
        alive = silent <= LIVE_SECONDS
        return JSONResponse({"alive": alive, "seconds_since_tick": round(silent, 3)}, 200 if alive else 503)

    @router.get("/readyz", response_model=schemas.Readiness, responses={503: {"model": schemas.Readiness}})
    async def readyz() -> Response:
        """Return 200 if runs can be started and recorded now, otherwise 503 with the reason."""
        reason = await readiness.reason()
        return JSONResponse({"ready": reason is None, "reason": reason}, 200 if reason is None else 503)

    @router.get("/metrics", response_class=Exposition, responses=answers(422, 503))
    async def metrics(collect: Annotated[list[Collected] | None, Query(alias="collect[]")] = None) -> Response:
        """Return the metrics in the text format of Prometheus.

        With a Pushgateway, only those of the scheduler and the process: the jobs' metrics are pushed and would be counted twice.
        `collect[]=all` returns all of them.
        """
        pushed = services.deployment.settings.pushgateway_url is not None
        everything = Collected.ALL in collect if collect else not pushed
        return Exposition(await to_thread.run_sync(lambda: scrape(services.deployment, everything=everything), limiter=threads))

    return router


def guarded_routes(services: Services) -> APIRouter:
    """The routes that need the token where reading does."""
    router = APIRouter(tags=["monitoring"], responses=answers(401, 403, 421))
    threads = CapacityLimiter(_THREADS)

    @router.get("/health", response_model=schemas.Health, responses={503: {"model": schemas.Health}})
    async def health_route() -> Response:
        """Return the health: 200 for pass and warn, 503 for fail."""
        asked = to_thread.run_sync(lambda: health_json(health(services.deployment, failure=services.failure())), limiter=threads)
        found: dict[str, Any] = await asked
        return JSONResponse(found, 503 if found["status"] == "fail" else 200)

    @router.get("/golden-signals", response_model=schemas.GoldenSignals, responses=answers(422, 503))
    def golden_route(days: Annotated[int, Query(ge=1, le=3650)] = 30) -> dict[str, Any]:
        """Return success rate, duration, cost, policy violations and correctness over the last days."""
        return golden_json(golden_signals(services.deployment, days=days))

    return router
