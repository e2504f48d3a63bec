"""The overview, the page of a job, and the list of runs."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from taskpilot.domain.attention import Attention
from taskpilot.domain.errors import NotFound, TaskPilotError, UsageError
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.specs import JobSpec, ParameterSpec
from taskpilot.domain.usage import nano_to_usd
from taskpilot.jobs.parameters import describe_parameters
from taskpilot.messages.attention import attention_command, commanded
from taskpilot.messages.budgets import budget_of
from taskpilot.setup.places import is_elsewhere
from taskpilot.store.listings import Page
from taskpilot.store.page_queries import Bar
from taskpilot.views.health import health
from taskpilot.views.job_page import bars_of, calendar
from taskpilot.views.jobs import list_jobs, next_fires, show_job
from taskpilot.views.runs import list_runs
from taskpilot.views.status import status
from taskpilot.web.charts import bars, history
from taskpilot.web.dependencies import Services
from taskpilot.web.reading import JobName
from taskpilot.web.shells import shell_of
from taskpilot.web.templating import Shell, render

BARS: Final = 30
CHARTED: Final = 60
JOBS: Final = 50
"""On one page of the overview."""
RUNS: Final = 20
LISTED: Final = 50


def job_page_routes(services: Services) -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)
    deployment = services.deployment

    @router.get("/jobs/{name}", response_class=HTMLResponse)
    def job_page(request: Request, name: JobName, state: str = "", since: str = "", until: str = "", before: str = "") -> Response:
        """One job; one that has no file any more with its history alone."""
        unknown = False
        values: dict[str, Any] = {"line": None, "error": "", "fields": [], "options": [], "coming": [], "schedule": None}
        try:
            line = show_job(deployment, name)
            spec = line.spec
            values |= {"line": line, "fields": [_field(one) for one in describe_parameters(spec)], "options": _options(spec)}
            values |= {"coming": [at for _, at in next_fires(deployment, name, 5)], "schedule": spec.schedule}
        except TaskPilotError as error:
            values["error"] = error.one_line
            unknown = isinstance(error, UsageError)
        listed = _listed(services, name, state, since, until, before)
        known = bars_of(deployment, [name], CHARTED)[name]
        if unknown and not known:
            raise NotFound(values["error"])
        values |= listed | {
            "name": name,
            "weeks": calendar(deployment, name, values["schedule"]),
            "durations": history(known, lambda bar: bar.active_micros, _words, f"Durations of the last {len(known)} runs"),
            "costs": history(known, lambda bar: bar.cost_nano, _words, f"Cost of the last {len(known)} runs"),
            "known": len(known),
            "command": command_of(services),
        }
        return HTMLResponse(render("job.html", shell=shell_of(request, services), **values))

    @router.get("/runs", response_class=HTMLResponse)
    def runs_page(
        request: Request,
        job: Annotated[str, Query(max_length=63)] = "",
        state: str = "",
        since: str = "",
        until: str = "",
        before: str = "",
    ) -> Response:
        """The runs of all jobs."""
        values = _listed(services, job or None, state, since, until, before)
        return HTMLResponse(render("runs.html", shell=shell_of(request, services), job=job, **values))

    return router


def overview(shell: Shell, services: Services, version: str, after: str = "") -> str:
    """What needs a person first, then the jobs and the last runs; where the store or the jobs cannot be read, the error and the rest."""
    deployment = services.deployment
    values: dict[str, Any] = {"jobs": [], "runs": [], "bars": {}, "sums": {}, "more": "", "error": "", "night": None}
    try:
        values["night"] = status(deployment)
        values["runs"] = list_runs(deployment, Page(RUNS))
        lines = list_jobs(deployment, after=after, limit=JOBS + 1)
        found = bars_of(deployment, [line.spec.name for line in lines[:JOBS]], BARS)
        values |= {
            "jobs": lines[:JOBS],
            "bars": {job: bars(runs, BARS, _summary(runs)) for job, runs in found.items()},
            "sums": {job: sum(bar.cost_nano or 0 for bar in runs) for job, runs in found.items()},
            "more": f"/?{urlencode({'after': lines[JOBS - 1].spec.name})}" if len(lines) > JOBS else "",
        }
    except TaskPilotError as error:
        values["error"] = error.one_line
    checked = health(deployment, failure=services.failure())
    return render("overview.html", shell=shell, **values, health=checked, version=version, command=command_of(services))


def command_of(services: Services) -> Any:
    """Makes the command for what needs attention, as pasted into a terminal in any folder."""
    settings = services.deployment.settings
    folders = ["--root", str(settings.root)]
    if is_elsewhere(settings.sources["state_dir"]):
        folders += ["--home", str(settings.state_dir)]

    def command(one: Attention) -> str:
        return commanded((*folders, *attention_command(one)))

    return command


def _summary(runs: list[Bar]) -> str:
    """Like `last 30 runs: 28 succeeded, 2 failed`."""
    counts: dict[str, int] = {}
    for bar in runs:
        counts[bar.status.value] = counts.get(bar.status.value, 0) + 1
    each = ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in counts.items())
    return f"last {len(runs)} runs: {each}" if runs else "no runs"


def _words(bar: Bar) -> str:
    cost = "unknown cost" if bar.cost_nano is None else f"{nano_to_usd(bar.cost_nano):.4f} USD"
    return f"{bar.at:%Y-%m-%d %H:%M} UTC, {bar.status.value}, {bar.active_micros / 1_000_000:.1f} s, {cost}"


def _listed(services: Services, job: str | None, state: str, since: str, until: str, before: str) -> dict[str, Any]:
    """A page of runs by the filters of a form. What cannot be read as a filter is left out."""
    states = [RunStatus(state)] if state in set(RunStatus) else []
    begin, end = _day(since), _day(until)
    page = Page(LISTED, before or None, begin, None if end is None else end + timedelta(days=1))
    found = list_runs(services.deployment, page, job=job, statuses=states)
    filters = {name: value for name, value in (("job", job), ("state", state), ("since", since), ("until", until)) if value}
    older = urlencode({**filters, "before": found[-1].id}) if len(found) == LISTED else ""
    return {
        "runs": found,
        "states": [one.value for one in RunStatus],
        "filters": {"state": state, "since": since, "until": until},
        "older": f"?{older}" if older else "",
    }


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def _field(one: ParameterSpec) -> dict[str, Any]:
    """The field of a form for a parameter. Its value is that of `-p`: text as it is, everything else as JSON."""
    choices: list[str] = []
    if one.form == "bool":
        choices = ["true", "false"]
    elif isinstance(one.form, list) and one.form[0] == "literal":
        choices = [str(choice) for choice in one.form[1:]]
    kinds = {"int": "number", "float": "number", "date": "date"}
    return {
        "name": one.name,
        "type": one.type_text,
        "kind": kinds.get(one.form if isinstance(one.form, str) else "", "text"),
        "step": "any" if one.form == "float" else "1",
        "choices": choices,
        "required": one.required,
        "is_file": one.input,
        "default": default_text(one),
    }


def default_text(one: ParameterSpec) -> str:
    """A parameter's default as its form field shows it."""
    if one.default is None:
        return ""
    return one.default if isinstance(one.default, str) else json.dumps(one.default, ensure_ascii=False)


def _options(spec: JobSpec) -> list[tuple[str, str]]:
    """The definition of a job, as its page lists it."""
    return [
        ("File", f"{spec.file}, line {spec.line}" if spec.file else "built in"),
        ("Schedule", spec.schedule.describe() if spec.schedule else "none"),
        ("Model", spec.model or "of the settings"),
        ("Tools", ", ".join(tool.name for tool in spec.tools) or "none of its own"),
        ("Budget of a run", budget_of(spec)),
        ("Deadline", str(spec.deadline)),
        ("Attempts", str(spec.retry.attempts)),
        ("Overlap", spec.overlap),
        ("Catch-up", spec.catch_up),
        ("Pause after failures", "off" if spec.pause_on_failure is None else f"{spec.pause_on_failure} in a row"),
    ]
