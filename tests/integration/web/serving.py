"""A real server over a real store, with a scheduler that is only said to run, and a client that says what it sends."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.fires import SchedulerState
from taskpilot.domain.ids import new_id
from taskpilot.store.schedulers import begin_scheduler
from taskpilot.store.tables import audit
from taskpilot.web.dependencies import Services
from taskpilot.web.server import HttpServer

TOKEN = "correct-horse"

JOBS = '''\
from taskpilot import RunContext, cron, job
from taskpilot.domain.specs import InputFile


@job(schedule=cron("0 7 * * mon-fri", timezone="Europe/Berlin"), model="offline")
def triage(ctx: RunContext, wishes: str = "", times: int = 1, share: float = 0.5) -> str:
    """Turn wishes into reviewed <b>tasks</b>."""
    return "done"


@job(schedule=None)
def reads(ctx: RunContext, inbox: InputFile = "inbox.txt") -> str:
    """Reads a file."""
    return inbox
'''


@dataclass
class Stage:
    """What a test does to the scheduler that the server believes in."""

    state: SchedulerState = SchedulerState.RUNNING
    silent: float = 0.0
    failure: str | None = None
    woken: int = 0

    def wake(self) -> None:
        self.woken += 1


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A server and its client."""

    deployment: Deployment
    server: HttpServer
    port: int
    stage: Stage = field(default_factory=Stage)

    def ask(self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One request; `Host` may be another one than the right one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, value: Any = None, *, token: str | None = TOKEN, headers: Mapping[str, str] | None = None) -> Reply:
        given = {} if token is None else {"Authorization": f"Bearer {token}"}
        body = None if value is None else json.dumps(value).encode()
        if body is not None:
            given["Content-Type"] = "application/json"
        return self.ask("POST", path, body=body, headers={**given, **(headers or {})})

    def audited(self) -> list[tuple[str, str, str, str]]:
        """(actor, action, subject, answer) of each write so far."""
        from sqlalchemy import select

        with self.deployment.store.read() as connection:
            rows = connection.execute(select(audit).order_by(audit.c.id))
            return [(row.actor, row.action, row.subject, row.answer) for row in rows]


def make_root(folder: Path, settings: str = "") -> Path:
    root = folder / "root"
    (root / "jobs").mkdir(parents=True)
    (root / "jobs" / "work.py").write_text(JOBS, encoding="utf-8")
    (root / "inbox.txt").write_text("one wish\n", encoding="utf-8")
    (root / "taskpilot.toml").write_text(settings, encoding="utf-8")
    return root


def awake(deployment: Deployment) -> None:
    """A scheduler that the record knows, as `taskpilot serve` writes of itself."""
    with deployment.store.write() as connection:
        begin_scheduler(connection, new_id(), owner=deployment.owner, version="0", now=deployment.now(), boot=deployment.boot())


@contextmanager
def serving(root: Path, *, token: str | None = None, read_token: str | None = None, host: str = "127.0.0.1") -> Iterator[Served]:
    """Serves a root until the block ends."""
    tokens = {"TASKPILOT_API_TOKEN": token, "TASKPILOT_READ_TOKEN": read_token}
    deployment = Deployment(load(root=root, environ={name: value for name, value in tokens.items() if value is not None}))
    # As in `serve`, where the job files are loaded before the first request.
    assert deployment.catalog
    stage = Stage()
    services = Services(
        deployment=deployment,
        now=deployment.now,
        seconds_since_tick=lambda: stage.silent,
        state=lambda: stage.state,
        failure=lambda: stage.failure,
        wake=stage.wake,
    )
    server = HttpServer(services, host=host, port=0)
    server.start()
    try:
        yield Served(deployment, server, int(server.url.rpartition(":")[2]), stage)
    finally:
        server.stop(5)
        deployment.close()
