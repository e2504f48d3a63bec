"""Routes that read what is in a run: its steps, logs and artifacts. They need the token on a loopback address too."""

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated, Any, BinaryIO, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request, Security
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from taskpilot.deployment import Deployment
from taskpilot.views import artifacts, runs, steps
from taskpilot.web import schemas
from taskpilot.web.auth import CHALLENGE, caller_of
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import answers
from taskpilot.web.reading import Limit, Reference
from taskpilot.web.writing import BEARER

_PIECE: Final = 256 * 1024
_BYTES: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}}


def run_content_routes(services: Services) -> APIRouter:
    """The routes."""
    deployment = services.deployment

    def private(request: Request) -> None:
        if not caller_of(request).may_read:
            raise HTTPException(401, "send the token as `Authorization: Bearer ...`", CHALLENGE)

    router = APIRouter(
        prefix="/api/v1/runs/{run_id}",
        tags=["reading"],
        responses=answers(401, 403, 404, 421, 422, 503),
        dependencies=[Depends(private), Security(BEARER)],
    )

    @router.get("/steps", response_model=schemas.Listed[schemas.RunStep])
    def list_steps(
        run_id: Reference,
        full: Annotated[bool, Query(description="Do not cut long texts.")] = False,
        limit: Limit = 200,
        after: Annotated[str, Query(max_length=36, description="Only steps after the one with this id.")] = "",
    ) -> Any:
        """List what the agents and tools did, in order: prompts, replies, calls, arguments, results. Secrets are masked."""
        made = list(steps.run_steps(deployment, run_id, full=full))
        begin = next((place + 1 for place, step in enumerate(made) if step["id"] == after), 0)
        page = made[begin : begin + limit]
        query = urlencode({"full": full, "limit": limit, "after": page[-1]["id"]}) if begin + limit < len(made) else None
        return {"items": page, "next": query and f"/api/v1/runs/{quote(run_id)}/steps?{query}"}

    @router.get("/logs", response_model=schemas.Listed[schemas.LogLine])
    def list_log_lines(
        run_id: Reference,
        output: Annotated[bool, Query(description="What the job's process printed, instead of the log.")] = False,
        limit: Limit = 1000,
    ) -> Any:
        """Return the last lines of the run's log, oldest first."""
        if output:
            printed = deque(runs.run_output(deployment, run_id), maxlen=limit)
            return {"items": [{"time": "", "level": "", "message": line} for line in printed], "next": None}
        lines = deque(runs.run_log(deployment, run_id), maxlen=limit)
        return {"items": [{"time": line.time, "level": line.level, "message": line.message} for line in lines], "next": None}

    @router.get("/artifacts", response_model=schemas.Listed[schemas.Artifact])
    def list_artifacts(run_id: Reference) -> Any:
        """List the files that the run wrote."""
        return {"items": artifacts.run_artifacts(deployment, run_id), "next": None}

    @router.get("/artifacts/{name}", response_class=StreamingResponse, responses=_BYTES)
    def read_artifact(run_id: Reference, name: str) -> StreamingResponse:
        """Return one of these files, to be saved."""
        return artifact_answer(deployment, run_id, name)

    return router


def artifact_answer(deployment: Deployment, run_id: str, name: str) -> StreamingResponse:
    """One file of a run, to be saved. Raises UsageError or NotFound."""
    stack = ExitStack()
    file = stack.enter_context(artifacts.opened(deployment, run_id, name))
    disposition = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    return StreamingResponse(_pieces(file, stack), media_type="application/octet-stream", headers=disposition)


def _pieces(file: BinaryIO, stack: ExitStack) -> Iterator[bytes]:
    with stack:
        while piece := file.read(_PIECE):
            yield piece
