"""What a person's browser shows: the history of runs, and the API's description; server-rendered, with nothing from elsewhere."""

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from taskpilot.domain.errors import TaskPilotError
from taskpilot.operations.health import Health, health
from taskpilot.operations.jobs import list_jobs
from taskpilot.operations.runs import list_runs
from taskpilot.store.listings import Page
from taskpilot.web import schemas
from taskpilot.web.description import for_people
from taskpilot.web.problems import answers
from taskpilot.web.services import Services
from taskpilot.web.templating import render

RUNS: Final = 50
JOBS: Final = 200
"""More are in the API: a page with a thousand jobs is read by nobody."""

LINKS: Final = {
    "health": "/health",
    "live": "/livez",
    "ready": "/readyz",
    "metrics": "/metrics",
    "golden_signals": "/golden-signals",
    "jobs": "/api/v1/jobs",
    "runs": "/api/v1/runs",
    "tasks": "/api/v1/tasks",
    "decisions": "/api/v1/decisions",
    "openapi": "/openapi.json",
    "docs": "/docs",
}
_HTML: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}


def page_routes(services: Services, version: str) -> APIRouter:
    """The pages, and the service info for programs that ask for the same path."""
    router = APIRouter(tags=["pages"], responses=answers(401, 403, 421))
    house = services.house

    @router.get("/", response_model=schemas.Service, responses=_HTML | answers(503))
    def root(request: Request) -> Response:
        """Who answers and where what is; for a browser, the history of runs."""
        if prefers_html(request.headers.get("accept", "")):
            return HTMLResponse(_history(services, version), headers={"Vary": "Accept"})
        info = {"name": "taskpilot", "version": version, "deployment": house.store.deployment, "links": LINKS}
        return JSONResponse(info, headers={"Vary": "Accept"})

    @router.get("/docs", response_class=HTMLResponse)
    def docs(request: Request) -> Response:
        """The API's description, to be read."""
        return HTMLResponse(render("docs.html", **for_people(request.app.openapi())))

    @router.get("/openapi.json", responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}})
    def openapi(request: Request) -> Response:
        """The API's description, for programs."""
        return JSONResponse(request.app.openapi())

    return router


def prefers_html(accept: str) -> bool:
    """Whether text/html is named, and JSON is not liked better."""
    liked = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.split(","):
        kind, _, parameters = part.strip().partition(";")
        if kind.strip().lower() in liked:
            liked[kind.strip().lower()] = _quality(parameters)
    return liked["text/html"] > 0 and liked["text/html"] >= liked["application/json"]


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _history(services: Services, version: str) -> str:
    """The page; where the store or the jobs cannot be read, what can be said all the same."""
    house = services.house
    found: Health = health(house)
    values: dict[str, Any] = {"jobs": [], "runs": [], "more_jobs": False, "trouble": "", "deployment": ""}
    try:
        values["deployment"] = house.store.deployment
        values["runs"] = list_runs(house, Page(RUNS))
        lines = list_jobs(house, limit=JOBS + 1)
        values |= {"jobs": lines[:JOBS], "more_jobs": len(lines) > JOBS}
    except TaskPilotError as error:
        values["trouble"] = str(error)
    return render("history.html", **values, health=found, version=version, now=services.now())
