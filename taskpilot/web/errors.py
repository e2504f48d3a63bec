"""The shape of every error response (RFC 9457), and the HTTP status of each kind of error."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from taskpilot.domain.errors import (
    ConfigurationError,
    JobLoading,
    NotFound,
    StoreBusy,
    StoreError,
    TaskPilotError,
    TransitionRefused,
    UsageError,
)
from taskpilot.domain.text import one_line, printable
from taskpilot.web.templating import refusal_page

MEDIA_TYPE: Final = "application/problem+json"

_STATUSES: Final = (
    (NotFound, 404),
    (UsageError, 422),
    (TransitionRefused, 409),
    (ConfigurationError, 409),
    (StoreBusy, 503),
    (JobLoading, 503),
    (StoreError, 503),
)
_RETRY_SECONDS: Final = 5
"""Retry-After of a busy store: longer than a writer waits for it."""

_MEANINGS: Final = {
    401: "The bearer token is missing or wrong.",
    403: "Forbidden: writing is off, this address serves only probes and metrics, or the request came from another site's page.",
    404: "There is no such record.",
    408: "The body did not arrive in time.",
    409: "The current state of the record or the configuration does not allow it.",
    413: "The body is larger than 64 KiB.",
    415: "The Content-Type of the body is not JSON.",
    421: "The Host header does not name this server.",
    422: "A parameter or the body is invalid.",
    503: "The store cannot be used at the moment, or the job's file is being loaded.",
}


class Problem(BaseModel):
    """Why a request failed."""

    status: int = Field(description="The HTTP status.")
    title: str = Field(description="The status in words.")
    detail: str = Field(description="What happened, as a sentence.")
    hint: str | None = Field(default=None, description="The command to type or the setting to change.")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, *, hint: str | None = None) -> Response:
    """An error response; `hint` is left out where there is none."""
    content: dict[str, Any] = {"status": status, "title": HTTPStatus(status).phrase, "detail": printable(detail)}
    if hint is not None:
        content["hint"] = printable(hint)
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for its description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


def status_of(error: TaskPilotError) -> int:
    """The HTTP status for an error of a service or a view."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def problem_of(error: TaskPilotError) -> Response:
    """The response for an error of a service or a view."""
    status = status_of(error)
    return problem(status, str(error), {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else None, hint=error.hint)


def install_error_handlers(app: FastAPI) -> None:
    """Gives every error of the application the shape of Problem."""

    def for_reader(
        request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None, hint: str | None = None
    ) -> Response:
        """A page for people, Problem for programs."""
        if not request.url.path.startswith("/api/") and prefers_html(request.headers.get("accept", "")):
            return refusal_page(status, detail, hint=hint or "")
        return problem(status, detail, headers, hint=hint)

    def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, TaskPilotError)
        status = status_of(error)
        return for_reader(request, status, str(error), {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else None, error.hint)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return for_reader(request, 422, "; ".join(map(_words, error.errors()[:3])))

    def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return for_reader(request, 404, f"there is nothing at {one_line(request.url.path)}; /docs lists the paths")
        return problem(error.status_code, error.detail, error.headers)

    def unforeseen(_request: Request, _error: Exception) -> Response:
        return problem(500, "internal error; the log of `taskpilot serve` has the traceback")

    app.add_exception_handler(TaskPilotError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, unforeseen)


def _words(error: Mapping[str, Any]) -> str:
    """Like `query limit: Input should be less than or equal to 1000`, without the value that was given."""
    where = " ".join(str(part) for part in error.get("loc", ()))
    return one_line(f"{where}: {error.get('msg', 'invalid')}")


def prefers_html(accept: str) -> bool:
    """Whether an Accept header names text/html and does not prefer JSON."""
    quality = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.split(","):
        kind, _, parameters = part.strip().partition(";")
        if kind.strip().lower() in quality:
            quality[kind.strip().lower()] = _quality(parameters)
    return quality["text/html"] > 0 and quality["text/html"] >= quality["application/json"]


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
