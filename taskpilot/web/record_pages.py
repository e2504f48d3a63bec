"""The pages of approvals, incidents, fires, decisions and health."""

from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision, DecisionStatus
from taskpilot.domain.notices import IncidentState
from taskpilot.domain.runs import OPEN, FireOutcome, Run, RunStatus
from taskpilot.domain.steps import Step
from taskpilot.domain.tasks import Task, TaskStatus
from taskpilot.messages.questions import Question, about_step
from taskpilot.store.listings import Page
from taskpilot.views.fires import list_fires
from taskpilot.views.golden_signals import golden_json, golden_signals
from taskpilot.views.health import health
from taskpilot.views.incidents import list_incidents
from taskpilot.views.runs import list_runs, show_run
from taskpilot.views.tasks import list_decisions, list_tasks, show_decision
from taskpilot.web.auth import caller_of, to_login
from taskpilot.web.dependencies import Services
from taskpilot.web.job_pages import command_of
from taskpilot.web.reading import Moment
from taskpilot.web.shells import shell_of
from taskpilot.web.templating import render

_LISTED: Final = 50
_ASKED: Final = 50


@dataclass(frozen=True, slots=True)
class Waiting:
    """What of a run waits for a person."""

    run: Run
    decisions: list[Decision]
    tasks: list[Task]
    steps: list[tuple[Step, Question]]


def record_page_routes(services: Services) -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)
    deployment = services.deployment

    @router.get("/approvals", response_class=HTMLResponse)
    def approvals_page(request: Request) -> Response:
        """What waits for an answer: exactly what will run."""
        if not caller_of(request).may_read:
            return to_login("/approvals")
        waiting = _waiting(deployment)
        number = sum(len(one.decisions) + len(one.tasks) for one in waiting)
        return HTMLResponse(render("approvals.html", shell=shell_of(request, services), waiting=waiting, number=number))

    @router.get("/fires", response_class=HTMLResponse)
    def fires_page(
        request: Request,
        job: Annotated[str, Query(max_length=63)] = "",
        outcome: str = "",
        before: Annotated[Moment | None, Query()] = None,
    ) -> Response:
        """What became of each scheduled time."""
        chosen = [outcome] if outcome in set(FireOutcome) else []
        lines = list_fires(deployment, job or None, outcomes=chosen, before=before, limit=_LISTED)
        last = lines[-1].last.isoformat() if len(lines) == _LISTED else None
        older = last and urlencode({"job": job, "outcome": outcome, "before": last})
        values = {"lines": lines, "outcomes": [one.value for one in FireOutcome], "job": job, "outcome": outcome, "older": older}
        return HTMLResponse(render("fires.html", shell=shell_of(request, services), **values))

    @router.get("/incidents", response_class=HTMLResponse)
    def incidents_page(request: Request, state: str = "", before: str = "") -> Response:
        """What was told, and what is still open."""
        chosen = (IncidentState(state),) if state in set(IncidentState) else ()
        found = list_incidents(deployment, Page(_LISTED, before or None), states=chosen)
        older = urlencode({"state": state, "before": found[-1].id}) if len(found) == _LISTED else ""
        values = {"incidents": found, "states": [one.value for one in IncidentState], "chosen": state, "older": older}
        return HTMLResponse(render("incidents.html", shell=shell_of(request, services), **values))

    @router.get("/decisions", response_class=HTMLResponse)
    def decisions_page(request: Request, job: Annotated[str, Query(max_length=63)] = "", state: str = "", before: str = "") -> Response:
        """Every verdict about a tool call."""
        if not caller_of(request).may_read:
            return to_login("/decisions")
        chosen = [state] if state in set(DecisionStatus) else []
        found = list_decisions(deployment, Page(_LISTED, before or None), job=job or None, statuses=chosen)
        older = urlencode({"job": job, "state": state, "before": found[-1].id}) if len(found) == _LISTED else ""
        values = {"decisions": found, "states": [one.value for one in DecisionStatus], "job": job, "state": state, "older": older}
        return HTMLResponse(render("decisions.html", shell=shell_of(request, services), **values))

    @router.get("/system", response_class=HTMLResponse)
    def health_page(request: Request) -> Response:
        """Health, with the command that helps for each finding, and the golden signals."""
        values: dict[str, Any] = {"health": health(deployment, failure=services.failure()), "command": command_of(services)}
        values["signals"] = golden_json(golden_signals(deployment, days=30))
        return HTMLResponse(render("system.html", shell=shell_of(request, services), **values))

    return router


def _waiting(deployment: Deployment) -> list[Waiting]:
    """The runs with an open question, those that asked first."""
    page = Page(_ASKED)
    decisions = list_decisions(deployment, page, statuses=[DecisionStatus.PENDING])
    tasks = list_tasks(deployment, page, statuses=[TaskStatus.REVIEW])
    waiting = [run.id for run in list_runs(deployment, page, statuses=[RunStatus.WAITING])]
    found = []
    for run_id in sorted({*(one.run_id for one in decisions), *(one.run_id for one in tasks), *waiting}):
        detail = show_run(deployment, run_id)
        if detail.run.status in OPEN:
            # The whole arguments: a list has only the begin of long ones.
            asked = [show_decision(deployment, one.id) for one in detail.pending]
            review = [task for task in detail.tasks if task.status is TaskStatus.REVIEW]
            steps = [(step, about_step(run_id, step)) for step in detail.uncertain]
            if asked or review or steps:
                found.append(Waiting(detail.run, asked, review, steps))
    return found
