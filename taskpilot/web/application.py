"""Routes, refusals and the door, put together."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI, Security
from starlette.types import ASGIApp

from taskpilot.web.audit import Audit
from taskpilot.web.gate import Access, Gate
from taskpilot.web.pages import page_routes
from taskpilot.web.probes import guarded_routes, open_routes
from taskpilot.web.problems import Problem, speak_in_problems
from taskpilot.web.reading import reading_routes
from taskpilot.web.services import Services
from taskpilot.web.writing import BEARER, writing_routes

_DESCRIPTION = (
    "What this deployment of TaskPilot runs, ran and waits for. Lists are pages, the newest first; `next` is where the following page is. "
    "Writing needs the token that the server was started with (TASKPILOT_API_TOKEN) as `Authorization: Bearer ...`, and so does reading "
    "where the server listens on another address than this machine's own. Refusals have one shape, Problem."
)


def make_application(services: Services, access: Access) -> ASGIApp:
    """What the server serves."""
    app = FastAPI(
        title="TaskPilot",
        version=_version(),
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    speak_in_problems(app)
    reads = [Security(BEARER)] if access.reading_needs_token else []
    app.include_router(open_routes(services))
    app.include_router(guarded_routes(services), dependencies=reads)
    app.include_router(page_routes(services, app.version), dependencies=reads)
    app.include_router(reading_routes(services), dependencies=reads)
    app.include_router(writing_routes(services))
    _describe_problems(app)
    return Gate(app, access, Audit(services))


def _describe_problems(app: FastAPI) -> None:
    """Adds the shape of refusals to the description: no route returns it by itself, so that FastAPI would not know it."""
    described: dict[str, Any] = app.openapi()
    described["components"]["schemas"]["Problem"] = Problem.model_json_schema()


def _version() -> str:
    try:
        return version("taskpilot")
    except PackageNotFoundError:
        return "unknown"
