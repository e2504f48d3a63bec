"""Routes of the API that read jobs, fires, runs, tasks and decisions, a page at a time."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BeforeValidator, WithJsonSchema

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import DecisionStatus, Verdict
from taskpilot.domain.errors import NotFound, UsageError
from taskpilot.domain.notices import IncidentState
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.tasks import TaskStatus
from taskpilot.domain.times import utc_iso
from taskpilot.messages import shapes
from taskpilot.messages.attention import commanded
from taskpilot.store.listings import Page
from taskpilot.views import fires, incidents, jobs, runs, tasks
from taskpilot.views.status import status, status_json
from taskpilot.web import schemas
from taskpilot.web.auth import caller_of
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import answers


def _dated(given: object) -> object:
    if isinstance(given, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", given) is None:
        raise ValueError("write it like 2026-12-24T08:00:00Z")
    return given


JobName = Annotated[str, Path(pattern="^[a-z][a-z0-9_]{0,62}$")]
Wanted = Annotated[str | None, Query(pattern="^[a-z][a-z0-9_]{0,62}$", description="Only of this job.")]
_REFERENCE: Final = f"^({schemas.ID}|([a-z][a-z0-9_]{{0,62}}:)?last)$"
OfRun = Annotated[str | None, Query(pattern=_REFERENCE, description="Only of this run: its id or its end, `last`, or `JOB:last`.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Maximum number of items.")]
Moment = Annotated[AwareDatetime, BeforeValidator(_dated), WithJsonSchema({"type": "string", "format": "date-time"})]
"""An instant with its offset (RFC 3339); pydantic alone would accept a number too."""
Before = Annotated[str | None, Query(pattern=_REFERENCE, description="Only items older than this id.")]
Since = Annotated[Moment | None, Query(description="Only items made at this instant or later.")]
Until = Annotated[Moment | None, Query(description="Only items made before this instant.")]
Reference = Annotated[str, Path(pattern=_REFERENCE, description="An id, its last 8 characters or more, `last`, or `JOB:last`.")]


def reading_routes(services: Services) -> APIRouter:
    """The reading routes of the API."""
    router = APIRouter(prefix="/api/v1", tags=["reading"], responses=answers(401, 403, 421, 422, 503))
    deployment = services.deployment

    @router.get("/jobs", response_model=schemas.Jobs, responses=answers(409))
    def list_jobs(limit: Limit = 50, after: Annotated[str, Query(max_length=63, description="Only names after this one.")] = "") -> Any:
        """List the jobs by name, with their next and last runs."""
        lines = jobs.list_jobs(deployment, after=after, limit=limit)
        last = lines[-1].spec.name if len(lines) == limit else None
        following = _next("/api/v1/jobs", limit=limit, after=last) if last else None
        return {
            "items": [jobs.line_json(line) for line in lines],
            "next": following,
            "broken": [str(file) for file in deployment.catalog.broken],
        }

    @router.get("/jobs/{name}", response_model=schemas.JobDetail, responses=answers(404, 409))
    def show_job(name: JobName) -> Any:
        """Return one job with its parameters."""
        spec = defined(deployment, name)
        return jobs.line_json(jobs.show_job(deployment, name)) | {"parameters": jobs.parameters_json(spec)}

    @router.get("/jobs/{name}/fires", response_model=schemas.Listed[schemas.Fire])
    def list_fires(
        name: JobName, limit: Limit = 50, before: Annotated[Moment | None, Query(description="Only fires before this instant.")] = None
    ) -> Any:
        """List the outcomes of a job's scheduled times, latest first; also of a deleted job."""
        found = [fires.fire_json(line) for line in fires.list_fires(deployment, name, before=before, limit=limit)]
        last = found[-1]["scheduled_for"] if len(found) == limit else None
        return {"items": found, "next": _next(f"/api/v1/jobs/{name}/fires", limit=limit, before=last) if last else None}

    @router.get("/status", response_model=schemas.Status)
    def show_status() -> Any:
        """Return what happened since yesterday evening, and what needs a person."""
        return status_json(status(deployment), commanded)

    @router.get("/fires", response_model=schemas.Listed[schemas.Fire])
    def list_all_fires(
        job: Wanted = None,
        outcome: Annotated[list[FireOutcome] | None, Query()] = None,
        limit: Limit = 50,
        before: Annotated[Moment | None, Query(description="Only fires before this instant.")] = None,
    ) -> Any:
        """List the outcomes of scheduled times of all jobs, latest first; `outcome` can be repeated."""
        found = [fires.fire_json(line) for line in fires.list_fires(deployment, job, outcomes=outcome or (), before=before, limit=limit)]
        last = found[-1]["scheduled_for"] if len(found) == limit else None
        following = _next("/api/v1/fires", job=job, outcome=outcome, limit=limit, before=last) if last else None
        return {"items": found, "next": following}

    @router.get("/runs", response_model=schemas.Listed[schemas.Run], responses=answers(404))
    def list_runs(
        request: Request,
        job: Wanted = None,
        status: Annotated[list[RunStatus] | None, Query()] = None,
        limit: Limit = 50,
        before: Before = None,
        since: Since = None,
        until: Until = None,
    ) -> Any:
        """List runs, newest first; `status` can be repeated. Without the token, their results are null."""
        found = runs.list_runs(deployment, Page(limit, before, since, until), job=job, statuses=status or ())
        items = [_open_part(shapes.run_json(run), request) for run in found]
        return _listed("/api/v1/runs", limit, items, "run_id", job=job, status=status, since=_iso(since), until=_iso(until))

    @router.get("/runs/{run_id}", response_model=schemas.RunDetail, responses=answers(404))
    def show_run(request: Request, run_id: Reference) -> Any:
        """Return one run with its attempts, tasks and open questions. Without the token, its result and its steps' values are null."""
        return _open_part(runs.detail_json(runs.show_run(deployment, run_id)), request)

    @router.get("/incidents", response_model=schemas.Listed[schemas.Incident], responses=answers(404))
    def list_all_incidents(
        job: Wanted = None,
        state: Annotated[list[IncidentState] | None, Query()] = None,
        limit: Limit = 50,
        before: Before = None,
    ) -> Any:
        """List incidents, newest first; `state` can be repeated."""
        found = incidents.list_incidents(deployment, Page(limit, before), job=job, states=tuple(state or ()))
        return _listed("/api/v1/incidents", limit, [incidents.incident_json(one) for one in found], "id", job=job, state=state)

    @router.get("/tasks", response_model=schemas.Listed[schemas.Task], responses=answers(404))
    def list_tasks(
        run: OfRun = None,
        job: Wanted = None,
        status: Annotated[list[TaskStatus] | None, Query()] = None,
        limit: Limit = 50,
        before: Before = None,
        since: Since = None,
        until: Until = None,
    ) -> Any:
        """List tasks, newest first; `status` can be repeated."""
        found = tasks.list_tasks(deployment, Page(limit, before, since, until), run_id=run, job=job, statuses=status or ())
        items = [shapes.task_json(task) for task in found]
        return _listed("/api/v1/tasks", limit, items, "task_id", run=run, job=job, status=status, since=_iso(since), until=_iso(until))

    @router.get("/tasks/{task_id}", response_model=schemas.Task, responses=answers(404))
    def show_task(task_id: Reference) -> Any:
        """Return one task."""
        return shapes.task_json(tasks.show_task(deployment, task_id))

    @router.get("/decisions", response_model=schemas.Listed[schemas.Decision], responses=answers(404))
    def list_decisions(
        run: OfRun = None,
        job: Wanted = None,
        status: Annotated[list[DecisionStatus] | None, Query()] = None,
        verdict: Verdict | None = None,
        limit: Limit = 50,
        before: Before = None,
        since: Since = None,
        until: Until = None,
    ) -> Any:
        """List decisions on tool calls, newest first; `status` can be repeated."""
        page = Page(limit, before, since, until)
        found = tasks.list_decisions(deployment, page, run_id=run, job=job, statuses=status or (), verdict=verdict)
        items = [shapes.decision_json(decision) for decision in found]
        filters = {"run": run, "job": job, "status": status, "verdict": verdict, "since": _iso(since), "until": _iso(until)}
        return _listed("/api/v1/decisions", limit, items, "decision_id", **filters)

    @router.get("/decisions/{decision_id}", response_model=schemas.Decision, responses=answers(404))
    def show_decision(decision_id: Reference) -> Any:
        """Return one decision with the arguments of its tool call."""
        return shapes.decision_json(tasks.show_decision(deployment, decision_id))

    return router


def _open_part(run: dict[str, Any], request: Request) -> dict[str, Any]:
    """A run without what only those who hold the token may read."""
    if caller_of(request).may_read:
        return run
    hidden = [step | {"input": None, "result": None, "error": None} for step in run.get("uncertain_steps", ())]
    return run | {"result": None} | ({"uncertain_steps": hidden} if hidden else {})


def defined(deployment: Deployment, name: str) -> JobSpec:
    """The job named in a path. Raises NotFound where there is none, ConfigurationError where its file is broken."""
    with named_in_path():
        return deployment.known_catalog.get(name)


@contextmanager
def named_in_path() -> Iterator[None]:
    """Turns UsageError (an unknown job) into NotFound: a job named in a path that does not exist is a 404."""
    try:
        yield
    except UsageError as error:
        raise NotFound(str(error), hint=error.hint) from None


def _listed(path: str, limit: int, items: list[dict[str, Any]], key: str, **filters: Any) -> dict[str, Any]:
    """A page; `next` repeats its filters."""
    following = _next(path, **filters, limit=limit, before=items[-1][key]) if len(items) == limit else None
    return {"items": items, "next": following}


def _next(path: str, **query: Any) -> str:
    return f"{path}?{urlencode({name: value for name, value in query.items() if value is not None}, doseq=True)}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else utc_iso(moment)
