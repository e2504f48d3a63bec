"""What every page shows around its content."""

from contextlib import suppress

from fastapi import Request

from taskpilot.domain.errors import TaskPilotError
from taskpilot.views.job_page import questions_open
from taskpilot.web.auth import caller_of
from taskpilot.web.dependencies import Services
from taskpilot.web.sessions import Role
from taskpilot.web.templating import Shell


def shell_of(request: Request, services: Services) -> Shell:
    """Who looks at the page. What came of the last action is told once, and not to a page that updates itself."""
    caller = caller_of(request)
    session = caller.session
    told: tuple[str, ...] = ()
    if session is not None and "x-live" not in request.headers:
        told, session.told = tuple(session.told), []
    name, questions = "", 0
    with suppress(TaskPilotError):
        name = services.deployment.store.deployment
        questions = questions_open(services.deployment)
    return Shell(
        deployment=name,
        logged_in=session is not None,
        may_read=caller.may_read,
        may_write=session is not None and caller.role >= Role.WRITER,
        csrf="" if session is None else session.csrf,
        told=told,
        path=request.url.path,
        questions=questions,
    )
