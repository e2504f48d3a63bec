"""`/a/TOKEN`: the page behind the link in a notice. It needs no login: the link itself is the secret.

GET shows what will run and answers nothing, so that a program that opens the links of a mail approves nothing; POST answers, once.
"""

import asyncio
import json
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from taskpilot.domain.decisions import APPROVE, Decision
from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.text import one_line, printable
from taskpilot.messages.actions import Answered
from taskpilot.services.links import Linked, LinkState, answer_by_link, read_link
from taskpilot.web.audit import Audit
from taskpilot.web.auth import BODY_SECONDS, Access, read_body
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import problem, problem_of
from taskpilot.web.templating import link_policy, render

PREFIX: Final = "/a/"
HIDDEN: Final = "/a/..."
"""What logs and the record show of such a path."""
_TOKEN_MAX: Final = 200
_SHOWN: Final = 20_000
"""Characters of what will run that the page shows; what is longer can only be refused here."""
_ACTOR: Final = "link"
_NAME_MAX: Final = 100
_NOTE_MAX: Final = 1_000
_STATUSES: Final = {LinkState.OPEN: 200, LinkState.FORGED: 403, LinkState.ANSWERED: 409, LinkState.EXPIRED: 410}
_TITLES: Final = {
    LinkState.FORGED: "This link is not valid",
    LinkState.ANSWERED: "This question is answered already",
    LinkState.EXPIRED: "Nobody answered in time: it is denied",
}


class LinkPages:
    """Answers the paths of links, and leaves all others to the application."""

    def __init__(self, app: ASGIApp, services: Services, access: Access) -> None:
        self._app = app
        self._services = services
        self._access = access
        self._audit = Audit(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        response = await self._answer(scope, receive)
        response.headers.update(
            {
                "Content-Security-Policy": link_policy(),
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cache-Control": "no-store",
            }
        )
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        headers, method, token = Headers(scope=scope), scope["method"], scope["path"].removeprefix(PREFIX)
        if not self._is_ours(scope, headers):
            return problem(421, "the Host header does not name this server")
        if method not in ("GET", "HEAD", "POST"):
            return problem(405, "a link is opened, or answered by its form", {"Allow": "GET, HEAD, POST"})
        if len(token) > _TOKEN_MAX or not token.isascii():
            token = ""
        try:
            if method != "POST":
                return _page(await run_in_threadpool(read_link, self._services.deployment, token), None)
            return await self._posted(headers, receive, token)
        except TaskPilotError as error:
            return problem_of(error)

    async def _posted(self, headers: Headers, receive: Receive, token: str) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await read_body(receive)
        except (TimeoutError, ConnectionResetError):
            return problem(408, f"the body did not arrive within {BODY_SECONDS:.0f} s")
        if body is None:
            return problem(413, "the form is too large")
        if body and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
            return problem(415, "send the form as application/x-www-form-urlencoded")
        try:
            fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=20)
        except ValueError:
            return problem(422, "the body is not a valid form")
        verdict, by, note = (fields.get(name, [""])[0].strip() for name in ("verdict", "by", "note"))
        return await run_in_threadpool(self._record, token, verdict, one_line(by, limit=_NAME_MAX), one_line(note, limit=_NOTE_MAX))

    def _record(self, token: str, verdict: str, by: str, note: str) -> Response:
        deployment = self._services.deployment
        found, given = read_link(deployment, token), None
        if found.state is LinkState.OPEN and (verdict not in ("approve", "reject") or (verdict == "approve" and not _is_shown(found))):
            return problem(422, "the form has no answer that this page offers")
        if found.state is LinkState.OPEN:
            found, given = answer_by_link(deployment, token, approve=verdict == "approve", by=by or "the holder of the link", note=note)
        status = 200 if given is not None else _STATUSES[found.state]
        # Not the path: it is a secret.
        self._audit.refused("POST", HIDDEN, status, anonymous=True) if given is None else self._told(found, verdict)
        self._services.wake()
        return _page(found, given)

    def _told(self, found: Linked, verdict: str) -> None:
        assert found.question is not None
        noun = "decisions" if isinstance(found.question, Decision) else "tasks"
        self._audit.answered(_ACTOR, f"{noun}.{verdict}", found.question.id)

    def _is_ours(self, scope: Scope, headers: Headers) -> bool:
        hosts, server = headers.getlist("host"), scope.get("server")
        if len(hosts) != 1:
            return False
        public = self._services.deployment.settings.public_url
        if public is not None and hosts[0].lower() == urlsplit(public).netloc.lower():
            return True
        return self._access.hosts.knows(hosts[0], path=scope["path"], local_address=server[0] if server else None)


def _page(found: Linked, given: Answered | None) -> Response:
    status = 200 if given is not None else _STATUSES[found.state]
    values: dict[str, Any] = {"state": found.state.value, "title": _TITLES.get(found.state, "A question for you"), "given": None}
    question = found.question
    if given is not None:
        values |= {"given": given.item.status.value, "title": "Your answer is recorded"}
    if question is not None:
        values |= {
            "job": question.job,
            "run_id": question.run_id,
            "what": _what(found),
            "text": _text(found)[:_SHOWN],
            "shown": _is_shown(found),
            "why": one_line("; ".join(question.reasons) if isinstance(question, Decision) else question.reason, limit=1_000),
            "expires_at": question.expires_at,
            "cost_nano": None if found.run is None else found.run.spend.cost_nano,
            "answered_by": (question.settled_by if isinstance(question, Decision) else "") or "",
        }
    return HTMLResponse(render("link.html", **values), status, headers={"X-Robots-Tag": "noindex"})


def _what(found: Linked) -> str:
    question = found.question
    if not isinstance(question, Decision):
        return "A task"
    return "A question of the job" if question.tool == APPROVE else f"The call of {one_line(question.tool, limit=128)}"


def _text(found: Linked) -> str:
    question = found.question
    assert question is not None
    if isinstance(question, Decision):
        return printable(json.dumps(question.arguments, ensure_ascii=False, indent=2, sort_keys=True), keep_newlines=True)
    return printable(f"{question.title}\n\npriority: {question.priority}\n\n{question.description}", keep_newlines=True)


def _is_shown(found: Linked) -> bool:
    """Whether the page shows all that will run: only that can be approved."""
    return len(_text(found)) <= _SHOWN
