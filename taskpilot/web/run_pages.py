"""The page of a run, of one of its steps, and its files. They need a token on a loopback address too."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import DecisionStatus
from taskpilot.domain.runs import OPEN, RESUMABLE, Run, RunStatus
from taskpilot.messages.questions import about_step
from taskpilot.store.listings import Page
from taskpilot.views.run_page import SPANS, run_page, step_page
from taskpilot.views.tasks import list_decisions
from taskpilot.web.auth import caller_of, to_login
from taskpilot.web.dependencies import Services
from taskpilot.web.reading import Reference
from taskpilot.web.run_contents import artifact_answer
from taskpilot.web.shells import shell_of
from taskpilot.web.templating import render

_STEP_MOST: Final = 20_000
_DECISIONS: Final = 100


def run_page_routes(services: Services) -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)
    deployment = services.deployment

    @router.get("/runs/{run_id}", response_class=HTMLResponse)
    def show_run_page(request: Request, run_id: Reference, start: Annotated[int, Query(ge=0, le=1_000_000)] = 0) -> Response:
        """Everything about one run."""
        if not caller_of(request).may_read:
            return to_login(request.url.path)
        page = run_page(deployment, run_id, start=start)
        run = page.detail.run
        values: dict[str, Any] = {
            "page": page,
            "run": run,
            "decisions": list_decisions(deployment, Page(_DECISIONS), run_id=run.id),
            "questions": [(step, about_step(run.id, step)) for step in page.detail.uncertain],
            "links": _links(deployment, run),
            "may": {
                "cancel": run.status in OPEN,
                "resume": run.status in RESUMABLE and run.status is not RunStatus.QUEUED,
                "rerun": True,
                "rate": run.status is RunStatus.SUCCEEDED,
            },
            "pending": DecisionStatus.PENDING,
            "start": start,
            "next": f"?start={start + SPANS}" if start + SPANS < page.number else "",
            "previous": f"?start={max(start - SPANS, 0)}" if start else "",
        }
        return HTMLResponse(render("run.html", shell=shell_of(request, services), **values))

    @router.get("/runs/{run_id}/steps/{step_id}", response_class=HTMLResponse)
    def show_step_page(request: Request, run_id: Reference, step_id: str) -> Response:
        """One step with more of its texts."""
        if not caller_of(request).may_read:
            return to_login(request.url.path)
        step = step_page(deployment, run_id, step_id, limit=_STEP_MOST)
        if step is None:
            raise HTTPException(404)
        return HTMLResponse(render("step.html", shell=shell_of(request, services), step=step, run_id=run_id))

    @router.get("/runs/{run_id}/artifacts/{name}")
    def artifact(request: Request, run_id: Reference, name: str) -> Response:
        """A file of the run, to be saved."""
        return artifact_answer(deployment, run_id, name) if caller_of(request).may_read else to_login(f"/runs/{run_id}")

    return router


def _links(deployment: Deployment, run: Run) -> list[tuple[str, str]]:
    """Where the monitoring servers show this run, as far as they are set up."""
    settings = deployment.settings
    has_stack = (settings.root / "docker-compose.observability.yml").exists()
    found = []
    if has_stack or settings.sources["stack_jaeger"] != "default":
        found.append(("Trace", f"{settings.stack_jaeger.rstrip('/')}/trace/{run.trace_id}"))
    if has_stack or settings.sources["stack_grafana"] != "default":
        found.append(("Dashboards", f"{settings.stack_grafana.rstrip('/')}/dashboards?query={quote('TaskPilot')}"))
    if has_stack:
        found.append(("Logs", f"http://localhost:5601/app/discover#/?_a=(query:(language:kuery,query:'taskpilot.run.id:%22{run.id}%22'))"))
    return found
