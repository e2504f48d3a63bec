"""Routes of the API that change something. The auth middleware has checked the token and recorded the request before."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Security
from fastapi.security import HTTPBearer

from taskpilot.domain.decisions import Via
from taskpilot.domain.runs import Run
from taskpilot.domain.steps import StepAnswer
from taskpilot.messages.actions import answered, cancelled, job_paused, job_resumed, rated
from taskpilot.notices import actions
from taskpilot.services import approvals, jobs
from taskpilot.services.queued_runs import enqueue_rerun, enqueue_resume, enqueue_run
from taskpilot.services.running import cancel_run
from taskpilot.web import schemas
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import answers
from taskpilot.web.reading import JobName, Reference, defined, named_in_path
from taskpilot.web.repeats import KEY_MOST, KEY_PATTERN

Who = Annotated[schemas.Answer | None, Body()]

BEARER = HTTPBearer(auto_error=False, description="TASKPILOT_API_TOKEN")
"""Only describes the token in the API's description; the auth middleware checks it."""


def _idempotency_key(
    _key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=KEY_MOST,
            pattern=KEY_PATTERN,
            description="A request that is sent again with its key acts once and gets the same answer, for a day or until the server ends.",
        ),
    ] = None,
) -> None:
    """Only describes the header; the auth middleware follows it."""


def writing_routes(services: Services) -> APIRouter:
    """The writing routes of the API."""
    refusals = answers(401, 403, 404, 408, 409, 413, 415, 421, 422, 503)
    router = APIRouter(prefix="/api/v1", tags=["writing"], responses=refusals, dependencies=[Security(BEARER), Depends(_idempotency_key)])
    deployment = services.deployment

    def done(message: str) -> dict[str, str]:
        services.wake()
        return {"message": message}

    def queued(run: Run) -> dict[str, Any]:
        link = f"/api/v1/runs/{run.id}"
        return {"run_id": run.id, "job": run.job, "status": run.status, "link": link} | done(f"run {run.id} is queued")

    @router.post("/jobs/{name}/run", response_model=schemas.Queued, status_code=202)
    def run_job(name: JobName, wanted: Annotated[schemas.RunRequest | None, Body()] = None) -> Any:
        """Queue a new run. It starts when fewer than `max_concurrent_runs` are active. A parameter that names a file cannot be set here."""
        defined(deployment, name)
        asked = wanted or schemas.RunRequest()
        return queued(enqueue_run(deployment, name, parameters=asked.parameters, model=asked.model))

    @router.post("/jobs/{name}/pause", response_model=schemas.Done)
    def pause_job(name: JobName, who: Who = None) -> Any:
        """Start no new run of this job until it is resumed. Active runs continue."""
        asked = who or schemas.Answer()
        with named_in_path():
            jobs.pause_job(deployment, name, by=asked.by, note=asked.note)
        return done(job_paused(name))

    @router.post("/jobs/{name}/resume", response_model=schemas.Done)
    def resume_job(name: JobName, who: Who = None) -> Any:
        """End the pause. Runs that were due in it are not made up."""
        asked = who or schemas.Answer()
        with named_in_path():
            jobs.resume_job(deployment, name, by=asked.by, note=asked.note)
        return done(job_resumed(name))

    @router.post("/runs/{run_id}/cancel", response_model=schemas.Done)
    def cancel(run_id: Reference) -> Any:
        """Cancel a run that is queued, running or waiting. The process of a running one gets SIGTERM, and SIGKILL 10 s later."""
        return done(cancelled(cancel_run(deployment, run_id)))

    @router.post("/runs/{run_id}/rerun", response_model=schemas.Queued, status_code=202)
    def rerun(run_id: Reference, wanted: Annotated[schemas.RerunRequest | None, Body()] = None) -> Any:
        """Queue a new run with the parameters and input files of an earlier one."""
        return queued(enqueue_rerun(deployment, run_id, model=wanted.model if wanted else None))

    @router.post("/runs/{run_id}/resume", response_model=schemas.Queued, status_code=202)
    def resume(run_id: Reference, wanted: Annotated[schemas.StepResumeRequest | schemas.ResumeRequest | None, Body()] = None) -> Any:
        """Queue a run to go on from its record. `step_id` and `answer` together say what became of an uncertain tool call."""
        answer = StepAnswer(wanted.step_id, wanted.answer, wanted.result) if isinstance(wanted, schemas.StepResumeRequest) else None
        return queued(enqueue_resume(deployment, run_id, model=wanted.model if wanted else None, answer=answer))

    @router.post("/runs/{run_id}/feedback", response_model=schemas.Done)
    def feedback(run_id: Reference, rating: schemas.FeedbackAnswer) -> Any:
        """Record whether the result of an ended run was correct. A later rating replaces an earlier one."""
        return done(rated(approvals.give_feedback(deployment, run_id, rating.verdict, by=rating.by, note=rating.note)))

    @router.post("/tasks/{task_id}/approve", response_model=schemas.Done)
    def approve_task(task_id: Reference, who: Annotated[schemas.TaskAnswer | None, Body()] = None) -> Any:
        """Approve a task. A failed one is executed again; only with `repeat` it may make the calls again that it made."""
        asked = who or schemas.TaskAnswer()
        return done(answered(approvals.approve_task(deployment, task_id, by=asked.by, note=asked.note, via=Via.API, repeat=asked.repeat)))

    @router.post("/tasks/{task_id}/reject", response_model=schemas.Done)
    def reject_task(task_id: Reference, who: Who = None) -> Any:
        """Reject a task."""
        asked = who or schemas.Answer()
        return done(answered(approvals.reject_task(deployment, task_id, by=asked.by, note=asked.note, via=Via.API)))

    @router.post("/incidents/{incident_id}/ack", response_model=schemas.Done)
    def acknowledge(incident_id: Reference, who: Who = None) -> Any:
        """End the reminders of an incident."""
        asked = who or schemas.Answer()
        found = actions.acknowledge(deployment, incident_id, by=asked.by, note=asked.note)
        return done(f"incident {found.id} is acknowledged")

    @router.post("/decisions/{decision_id}/approve", response_model=schemas.Done)
    def approve_decision(decision_id: Reference, who: Who = None) -> Any:
        """Approve one tool call: this tool with exactly these arguments."""
        asked = who or schemas.Answer()
        return done(answered(approvals.approve_decision(deployment, decision_id, by=asked.by, note=asked.note, via=Via.API)))

    @router.post("/decisions/{decision_id}/reject", response_model=schemas.Done)
    def reject_decision(decision_id: Reference, who: Who = None) -> Any:
        """Reject one tool call."""
        asked = who or schemas.Answer()
        return done(answered(approvals.reject_decision(deployment, decision_id, by=asked.by, note=asked.note, via=Via.API)))

    return router
