"""The forms of the pages: each does what the API does, and leads back to a page that says what came of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from taskpilot.domain.decisions import Via
from taskpilot.domain.errors import NotFound, TaskPilotError, UsageError
from taskpilot.domain.ids import short_id
from taskpilot.domain.runs import FeedbackVerdict
from taskpilot.domain.steps import StepAnswer
from taskpilot.jobs.parameters import describe_parameters
from taskpilot.messages.actions import answered, cancelled, job_paused, job_resumed, rated
from taskpilot.notices import actions
from taskpilot.services import approvals, jobs
from taskpilot.services.queued_runs import enqueue_rerun, enqueue_resume, enqueue_run
from taskpilot.services.running import cancel_run
from taskpilot.web.auth import FORM, caller_of
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import status_of
from taskpilot.web.job_pages import default_text
from taskpilot.web.reading import JobName, Reference
from taskpilot.web.shells import shell_of
from taskpilot.web.templating import refusal_page

_BY: Final = "page"
_NOTE_MOST: Final = 1_000
_MANY: Final = 100


class Form:
    """The fields of a form."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self._fields = fields

    def one(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        return self._fields.get(name, [default])[0]

    def every(self, name: str) -> Sequence[str]:
        """All values of a field."""
        return self._fields.get(name, [])

    @property
    def note(self) -> str:
        """The note of a person. Raises UsageError."""
        note = self.one("note").strip()
        if len(note) > _NOTE_MOST:
            raise UsageError(f"the note is longer than {_NOTE_MOST:,} characters")
        return note

    def named(self, prefix: str) -> list[tuple[str, str]]:
        """The fields whose names begin so, without it."""
        return [(name.removeprefix(prefix), values[0]) for name, values in self._fields.items() if name.startswith(prefix)]


def form_routes(services: Services) -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)
    deployment = services.deployment

    def act(request: Request, back: str, action: Callable[[Form], tuple[str, str | None]]) -> Response:
        """Does what a form asks for. `action` gives the sentence for the person, and the page to go to, by default the one before."""
        form = Form(request.scope[FORM])
        target = form.one("back")
        target = target if target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable() else back
        try:
            sentence, elsewhere = action(form)
        except TaskPilotError as error:
            return refusal_page(status_of(error), str(error), hint=error.hint or "", shell=shell_of(request, services), back=target)
        services.wake()
        session = caller_of(request).session
        if session is not None:
            session.told.append(sentence)
        return RedirectResponse(elsewhere or target, 303)

    @router.post("/jobs/{name}/run")
    def run(request: Request, name: JobName) -> Response:
        def action(form: Form) -> tuple[str, str | None]:
            defaults = {one.name: default_text(one) for one in describe_parameters(deployment.job(name)) if not one.required}
            # A field that nobody changed has the default of the moment at which the run starts.
            texts = [(field, text) for field, text in form.named("p.") if text != defaults.get(field)]
            run = enqueue_run(deployment, name, parameters={}, texts=texts, model=form.one("model").strip() or None)
            return f"run {short_id(run.id)} of {name} is queued", f"/runs/{run.id}"

        return act(request, f"/jobs/{name}", action)

    @router.post("/jobs/{name}/pause")
    def pause(request: Request, name: JobName) -> Response:
        def action(form: Form) -> tuple[str, str | None]:
            jobs.pause_job(deployment, name, by=_BY, note=form.note)
            return job_paused(name), None

        return act(request, f"/jobs/{name}", action)

    @router.post("/jobs/{name}/resume")
    def resume_job(request: Request, name: JobName) -> Response:
        def action(form: Form) -> tuple[str, str | None]:
            jobs.resume_job(deployment, name, by=_BY, note=form.note)
            return job_resumed(name), None

        return act(request, f"/jobs/{name}", action)

    @router.post("/runs/{run_id}/cancel")
    def cancel(request: Request, run_id: Reference) -> Response:
        return act(request, f"/runs/{run_id}", lambda _form: (cancelled(cancel_run(deployment, run_id)), None))

    @router.post("/runs/{run_id}/rerun")
    def rerun(request: Request, run_id: Reference) -> Response:
        def action(_form: Form) -> tuple[str, str | None]:
            run = enqueue_rerun(deployment, run_id)
            return f"run {short_id(run.id)} of {run.job} is queued", f"/runs/{run.id}"

        return act(request, f"/runs/{run_id}", action)

    @router.post("/runs/{run_id}/resume")
    def resume_run(request: Request, run_id: Reference) -> Response:
        def action(form: Form) -> tuple[str, str | None]:
            run = enqueue_resume(deployment, run_id, answer=_step_answer(form))
            return f"run {short_id(run.id)} goes on", f"/runs/{run.id}"

        return act(request, f"/runs/{run_id}", action)

    @router.post("/runs/{run_id}/feedback")
    def feedback(request: Request, run_id: Reference) -> Response:
        def action(form: Form) -> tuple[str, str | None]:
            verdict = FeedbackVerdict.CORRECT if form.one("verdict") == "correct" else FeedbackVerdict.WRONG
            return rated(approvals.give_feedback(deployment, run_id, verdict, by=_BY, note=form.note)), None

        return act(request, f"/runs/{run_id}", action)

    @router.post("/incidents/{incident_id}/ack")
    def acknowledge(request: Request, incident_id: Reference) -> Response:
        def action(form: Form) -> tuple[str, str | None]:
            found = actions.acknowledge(deployment, incident_id, by=_BY, note=form.note)
            return f"incident {short_id(found.id)} is acknowledged", None

        return act(request, "/incidents", action)

    @router.post("/approvals/several/approve")
    def approve(request: Request) -> Response:
        return act(request, "/approvals", lambda form: (_answer(form, approve=True), None))

    @router.post("/approvals/several/reject")
    def reject(request: Request) -> Response:
        return act(request, "/approvals", lambda form: (_answer(form, approve=False), None))

    def _answer(form: Form, *, approve: bool) -> str:
        """Answers each of the named calls and tasks; one that is refused does not keep the others from their answers."""
        decide = approvals.approve_decision if approve else approvals.reject_decision
        settle: Callable[..., Any] = approvals.approve_task if approve else approvals.reject_task
        asked = [(decide, one) for one in form.every("decision")] + [(settle, one) for one in form.every("task")]
        if not asked:
            raise UsageError("nothing is chosen")
        if len(asked) > _MANY:
            raise UsageError(f"more than {_MANY} are chosen")
        told, refusals = [], []
        for function, name in asked:
            try:
                told.append(answered(function(deployment, name, by=_BY, note=form.note, via=Via.PAGE)))
            except TaskPilotError as error:
                refusals.append(error)
        if refusals and not told:
            raise refusals[0]
        return "; ".join([*told, *(error.one_line for error in refusals)])

    return router


def _step_answer(form: Form) -> StepAnswer | None:
    """A person's answer about a step, where the form has one. Raises UsageError or NotFound."""
    step_id, kind, text = form.one("step"), form.one("answer"), form.one("result").strip()
    if not step_id:
        return None
    if kind == "again":
        return StepAnswer(step_id, "again")
    if kind == "fail":
        return StepAnswer(step_id, "fail")
    if kind != "done":
        raise NotFound("there is no such answer")
    try:
        return StepAnswer(step_id, "done", json.loads(text) if text else None)
    except (ValueError, RecursionError):
        raise UsageError("the result is not JSON", hint='write a text in quotation marks: "done"') from None
