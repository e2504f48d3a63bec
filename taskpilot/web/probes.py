"""Routes for monitors: is it alive, is it ready, how does it stand, and what are its numbers."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from taskpilot.operations.golden_signals import golden_json, golden_signals
from taskpilot.operations.health import health, health_json
from taskpilot.operations.metrics import scrape
from taskpilot.web import probe_schemas as schemas
from taskpilot.web.problems import answers
from taskpilot.web.readiness import LIVE_SECONDS, Readiness
from taskpilot.web.services import Services


class Collected(StrEnum):
    """What a scrape asks for."""

    ALL = "all"
    SCHEDULER = "scheduler"


class Exposition(Response):
    """Prometheus's text format."""

    media_type = "text/plain; version=0.0.4; charset=utf-8"


def open_routes(services: Services) -> APIRouter:
    """What answers on every address."""
    router = APIRouter(tags=["monitoring"], responses=answers(421))
    readiness = Readiness(services)

    # Both are answered by the event loop itself, also where every thread is busy or a disk hangs.
    @router.get("/livez", response_model=schemas.Liveness, responses={503: {"model": schemas.Liveness}})
    async def livez() -> Response:
        """Whether the scheduler's loop comes round: 503 where it hangs, and a restart helps."""
        silent = services.seconds_since_turn()
        alive = silent <= LIVE_SECONDS
        return JSONResponse({"alive": alive, "seconds_since_turn": round(silent, 3)}, 200 if alive else 503)

    @router.get("/readyz", response_model=schemas.Readiness, responses={503: {"model": schemas.Readiness}})
    async def readyz() -> Response:
        """Whether a run would be started and recorded now: 503 with the reason while it starts, stops, or the store cannot be used."""
        reason = await readiness.reason()
        return JSONResponse({"ready": reason is None, "reason": reason}, 200 if reason is None else 503)

    @router.get("/metrics", response_class=Exposition, responses=answers(422, 503))
    def metrics(collect: Annotated[list[Collected] | None, Query(alias="collect[]")] = None) -> Response:
        """Every number in Prometheus's text format; where a gateway is set, the scheduler's and the process's alone.

        The jobs' numbers are pushed then, and would be counted twice. `collect[]` says which ones all the same.
        """
        pushed = services.house.settings.pushgateway_url is not None
        everything = Collected.ALL in collect if collect else not pushed
        return Exposition(scrape(services.house, everything=everything))

    return router


def guarded_routes(services: Services) -> APIRouter:
    """What answers where reading is allowed."""
    router = APIRouter(tags=["monitoring"], responses=answers(401, 403, 421))

    @router.get("/health", response_model=schemas.Health, responses={503: {"model": schemas.Health}})
    def health_route() -> Response:
        """How everything stands: 200 for pass and warn, 503 for fail."""
        found: dict[str, Any] = health_json(health(services.house))
        return JSONResponse(found, 503 if found["status"] == "fail" else 200)

    @router.get("/golden-signals", response_model=schemas.GoldenSignals, responses=answers(422, 503))
    def golden_route(days: Annotated[int, Query(ge=1, le=3650)] = 30) -> dict[str, Any]:
        """Whether the work is worth its while: success, duration, cost, violations and correctness over the last days."""
        return golden_json(golden_signals(services.house, days=days))

    return router
