"""Routes of the API that change something; the gate has asked for the token by then, and recorded what is asked."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Security
from fastapi.security import HTTPBearer

from taskpilot.services import approvals, jobs
from taskpilot.services.approvals import give_feedback
from taskpilot.services.queued_runs import enqueue_run
from taskpilot.services.running import cancel_run
from taskpilot.web import schemas
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import answers
from taskpilot.web.reading import JobName, defined, named_in_path

Who = Annotated[schemas.Answer | None, Body()]

BEARER = HTTPBearer(auto_error=False, description="TASKPILOT_API_TOKEN")
"""Tells of the token in the description; the gate is who looks at it."""


def writing_routes(services: Services) -> APIRouter:
    """The write part of the API."""
    refusals = answers(401, 403, 404, 408, 409, 413, 415, 421, 422, 503)
    router = APIRouter(prefix="/api/v1", tags=["writing"], responses=refusals, dependencies=[Security(BEARER)])
    deployment = services.deployment

    def done(message: str) -> dict[str, str]:
        services.wake()
        return {"message": message}

    @router.post("/jobs/{name}/run", response_model=schemas.Queued, status_code=202)
    def run_job(name: JobName, wanted: Annotated[schemas.RunRequest | None, Body()] = None) -> Any:
        """Puts a new run into the queue; it starts when there is a place. A parameter that names a file cannot be set from here."""
        defined(deployment, name)
        asked = wanted or schemas.RunRequest()
        run = enqueue_run(deployment, name, parameters=asked.parameters, model=asked.model)
        link = f"/api/v1/runs/{run.id}"
        return {"run_id": run.id, "job": run.job, "status": run.status, "link": link} | done(f"run {run.id} is in the queue")

    @router.post("/jobs/{name}/pause", response_model=schemas.Done)
    def pause_job(name: JobName, who: Who = None) -> Any:
        """Starts nothing of this job until it is resumed; what runs goes on."""
        asked = who or schemas.Answer()
        with named_in_path():
            return done(jobs.pause_job(deployment, name, by=asked.by, note=asked.note))

    @router.post("/jobs/{name}/resume", response_model=schemas.Done)
    def resume_job(name: JobName, who: Who = None) -> Any:
        """Ends the pause; nothing is caught up."""
        asked = who or schemas.Answer()
        with named_in_path():
            return done(jobs.resume_job(deployment, name, by=asked.by, note=asked.note))

    @router.post("/runs/{run_id}/cancel", response_model=schemas.Done)
    def cancel(run_id: UUID) -> Any:
        """Ends a run that is queued, running or waiting; a running one is asked to, and killed after 10 s."""
        return done(cancel_run(deployment, str(run_id)))

    @router.post("/runs/{run_id}/feedback", response_model=schemas.Done)
    def feedback(run_id: UUID, said: schemas.FeedbackAnswer) -> Any:
        """Says whether an ended run's result was right; a later word takes the earlier one's place."""
        return done(give_feedback(deployment, str(run_id), said.verdict, by=said.by, note=said.note))

    @router.post("/tasks/{task_id}/approve", response_model=schemas.Done)
    def approve_task(task_id: UUID, who: Who = None) -> Any:
        """Lets a task be executed."""
        asked = who or schemas.Answer()
        return done(approvals.approve_task(deployment, str(task_id), by=asked.by, note=asked.note))

    @router.post("/tasks/{task_id}/reject", response_model=schemas.Done)
    def reject_task(task_id: UUID, who: Who = None) -> Any:
        """Ends a task unexecuted."""
        asked = who or schemas.Answer()
        return done(approvals.reject_task(deployment, str(task_id), by=asked.by, note=asked.note))

    @router.post("/decisions/{decision_id}/approve", response_model=schemas.Done)
    def approve_decision(decision_id: UUID, who: Who = None) -> Any:
        """Lets exactly this tool call, with these arguments, be made."""
        asked = who or schemas.Answer()
        return done(approvals.approve_decision(deployment, str(decision_id), by=asked.by, note=asked.note))

    @router.post("/decisions/{decision_id}/reject", response_model=schemas.Done)
    def reject_decision(decision_id: UUID, who: Who = None) -> Any:
        """Denies exactly this tool call."""
        asked = who or schemas.Answer()
        return done(approvals.reject_decision(deployment, str(decision_id), by=asked.by, note=asked.note))

    return router
