"""The page behind the link in a notice: it shows what will run, is answered by POST, once, and by nobody who has no such link."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import select

from taskpilot import RunContext, job
from taskpilot.domain.decisions import Decision, DecisionStatus, Via
from taskpilot.domain.fires import SchedulerState
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.services.approvals import approve_decision
from taskpilot.store.approval_links import issue_link, link_token
from taskpilot.store.tables import audit, decisions
from taskpilot.testing import ScriptedModel
from taskpilot.web.auth import Access, Hosts
from taskpilot.web.dependencies import Services
from taskpilot.web.links import LinkPages
from tests.asking import MADE, asking, refund
from tests.spine import Spine

HOSTILE = "</pre><script>alert(1)</script>\u202e\x1b[2J"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


class Visitor:
    """Somebody with a browser, and the server in the same process."""

    def __init__(self, spine: Spine) -> None:
        services = Services(spine.deployment, spine.clock, lambda: 0.0, lambda: SchedulerState.RUNNING, lambda: None, lambda: None)

        async def others(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        self._app = LinkPages(others, services, Access(Hosts("127.0.0.1", "127.0.0.1"), None, ""))

    def __call__(self, method: str, path: str, form: dict[str, str] | None = None, *, host: str = "127.0.0.1", kind: str = "") -> Answer:
        sent: list[dict[str, Any]] = []
        headers = [(b"host", host.encode()), (b"content-type", (kind or "application/x-www-form-urlencoded").encode())]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "server": ("127.0.0.1", 80), "query_string": b""}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": urlencode(form or {}).encode(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self._app(scope, receive, send))
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, b"".join(one.get("body", b"") for one in sent).decode())


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    made = asking(tmp_path, settings='[web]\npublic_url = "https://tasks.example.org"')
    yield made
    made.close()


@pytest.fixture
def visit(spine: Spine) -> Visitor:
    return Visitor(spine)


@job(tools=[refund])
def refunds(ctx: RunContext, customer: str = "4711") -> str:
    """One refund."""
    return ctx.call(refund, customer=customer)


def asked(spine: Spine, customer: str = "4711") -> tuple[Decision, str]:
    """An open question, and the path of its link."""
    (decision,) = spine.decisions(spine.run(refunds, parameters={"customer": customer}).run.id)
    return decision, link(spine, decision)


def link(spine: Spine, question: Any) -> str:
    with spine.store.write() as connection:
        issue_link(connection, question)
        return f"/a/{link_token(connection, question)}"


def test_looking_answers_nothing_and_one_post_answers_once(spine: Spine, visit: Visitor) -> None:
    decision, path = asked(spine, HOSTILE)
    for method in ("GET", "HEAD", "GET"):
        seen = visit(method, path)
        assert (seen.status, "<form" in seen.text) == (200, True)
    assert "&lt;script&gt;" in seen.text
    assert "<script" not in seen.text
    assert "\\u202e" in seen.text
    assert (seen.headers["cache-control"], seen.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "form-action 'self'" in seen.headers["content-security-policy"]
    assert spine.decisions(decision.run_id)[0].status is DecisionStatus.PENDING

    done = visit("POST", path, {"verdict": "approve", "by": "ada <b>", "note": "from the train"})
    assert (done.status, "is approved" in done.text) == (200, True)
    (answered,) = spine.decisions(decision.run_id)
    assert (answered.status, answered.via, answered.settled_by, answered.note) == ("approved", "link", "ada <b>", "from the train")
    for verdict in ("approve", "reject"):
        again = visit("POST", path, {"verdict": verdict})
        assert (again.status, "<form" in again.text) == (409, False)
    assert "ada &lt;b&gt;" in again.text
    assert visit("GET", path).status == 409
    assert spine.resume(refunds, decision.run_id).run.status is RunStatus.SUCCEEDED
    assert MADE == {HOSTILE: 1}
    with spine.store.read() as connection:
        rows = list(connection.execute(select(audit.c.actor, audit.c.action, audit.c.subject, audit.c.answer).order_by(audit.c.id)))
    assert rows[0] == ("link", "decisions.approve", decision.id, "200")
    assert all(path not in str(row) for row in rows)


def test_forged_links_are_403_and_a_stolen_one_answers_for_its_own_call_only(spine: Spine, visit: Visitor) -> None:
    decision, path = asked(spine)
    _other, other = asked(spine, "12")
    middle = len(path) // 2
    forged = [path[:-1], f"{path}A", path[:middle] + ("A" if path[middle] != "A" else "B") + path[middle + 1 :], "/a/", "/a/%00", "/a/é"]
    forged += [path[: len(path) - 43] + other[len(other) - 43 :], path.replace("/a/", "/a/..", 1)]
    for one in forged:
        for method in ("GET", "POST"):
            refused = visit(method, one, {"verdict": "approve"})
            assert (refused.status, "<form" in refused.text) == (403, False), one
    # What is to be done is signed too.
    with spine.store.write() as connection:
        connection.execute(decisions.update().where(decisions.c.id == decision.id).values(arguments='{"customer":"0815"}'))
    assert visit("POST", path, {"verdict": "approve"}).status == 403
    assert visit("POST", other, {"verdict": "reject"}).status == 200


def test_a_link_that_was_never_sent_is_none(spine: Spine, visit: Visitor) -> None:
    (decision,) = spine.decisions(spine.run(refunds).run.id)
    with spine.store.read() as connection:
        path = f"/a/{link_token(connection, decision)}"
    assert visit("POST", path, {"verdict": "approve"}).status == 403


def test_an_expired_link_is_410_before_and_after_that_was_recorded(spine: Spine, visit: Visitor) -> None:
    decision, path = asked(spine)
    spine.clock.advance(timedelta(hours=24))
    for _ in range(2):
        assert visit("GET", path).status == 410
        late = visit("POST", path, {"verdict": "approve"})
        assert (late.status, "<form" in late.text) == (410, False)
        spine.ledger.expire()
    assert spine.run_of(decision.run_id).status is RunStatus.DENIED


def test_an_answer_elsewhere_or_the_end_of_the_run_makes_it_409(spine: Spine, visit: Visitor) -> None:
    first, path = asked(spine)
    approve_decision(spine.deployment, first.id, by="bob", note="", via=Via.TERMINAL)
    assert visit("POST", path, {"verdict": "reject"}).status == 409
    second, path = asked(spine)
    spine.ledger.cancel(second.run_id)
    assert (visit("GET", path).status, visit("POST", path, {"verdict": "approve"}).status) == (409, 409)


def test_what_is_too_long_to_show_can_only_be_refused(spine: Spine, visit: Visitor) -> None:
    decision, path = asked(spine, "x" * 30_000)
    seen = visit("GET", path)
    assert ('value="approve"' in seen.text, 'value="reject"' in seen.text, len(seen.text) < 60_000) == (False, True, True)
    assert visit("POST", path, {"verdict": "approve"}).status == 422
    assert visit("POST", path, {"verdict": "reject"}).status == 200
    assert spine.decisions(decision.run_id)[0].status is DecisionStatus.REJECTED


def test_a_task_in_review_has_a_link_too(spine: Spine, visit: Visitor) -> None:
    replies = [{"tasks": [{"title": "Pay <ada>", "priority": "high", "description": ""}]}, {"verdict": "REVIEW", "reason": "look"}]

    @job()
    def reviews(ctx: RunContext) -> str:
        return ctx.workflow("pay").tasks[0].status

    (task,) = spine.tasks(spine.run(reviews, ScriptedModel(replies)).run.id)
    path = link(spine, task)
    assert "Pay &lt;ada&gt;" in visit("GET", path).text
    assert [visit("POST", path, {"verdict": "reject", "by": "ada"}).status for _ in range(2)] == [200, 409]
    (after,) = spine.tasks(task.run_id)
    assert (after.status, after.via) == (TaskStatus.REJECTED, Via.LINK)


def test_hosts_methods_and_bodies_are_checked(spine: Spine, visit: Visitor) -> None:
    _, path = asked(spine)
    assert visit("GET", path, host="tasks.example.org").status == 200
    assert visit("GET", path, host="evil.example.org").status == 421
    assert visit("PUT", path).status == 405
    assert visit("POST", path, {"verdict": "approve"}, kind="application/json").status == 415
    assert visit("POST", path, {"verdict": "both"}).status == 422
    assert visit("POST", path, {"verdict": "approve", "note": "x" * 70_000}).status == 413
    assert visit("GET", "/elsewhere").status == 404
    assert spine.total("taskpilot_approvals_total") == {}
