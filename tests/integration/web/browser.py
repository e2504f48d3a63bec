"""Debian's Chromium on a server with rows of every kind, and hostile ones among them."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.notices import NoticeEvent
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.store.notices import insert_incident
from tests.integration.web.serving import Served, awake
from tests.records import NOON, add_agent, add_decision, add_run, add_step, add_task, raised
from tests.servers.debian import require

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[31m\u202egnirts"


@dataclass(frozen=True)
class Story:
    """The runs that the tests look at."""

    waiting: str
    decision: str
    task: str
    failed: str
    succeeded: str
    incident: str


def told(served: Served) -> Story:
    """Puts the rows in."""
    store = served.deployment.store
    awake(served.deployment)
    every = [add_run(store, model="offline", active_micros=(number % 7 + 1) * 900_000) for number in range(25)]
    failed = add_run(store, model="offline", status=RunStatus.FAILED, reason=raised(HOSTILE), active_micros=3_000_000)
    add_run(store, status=RunStatus.CANCELLED)
    # Of another job than the ones that the tests start: a run that waits is an active one.
    waiting = add_run(store, job="reads", status=RunStatus.WAITING, active_micros=5_000_000)
    task = add_task(store, waiting, job="reads", status=TaskStatus.REVIEW, title=f"Refund the customer {HOSTILE}")
    decision = add_decision(store, waiting, job="reads", tool="notify", arguments={"message": HOSTILE, "amount": 2000})
    add_agent(store, waiting, "executor", "/workflow.0/executor.0")
    asked = [{"role": "user", "content": "Plan the work. " + HOSTILE}]
    add_step(store, waiting, kind=StepKind.ASK, name="executor", status=StepStatus.SUCCEEDED, input=asked, result=HOSTILE + "x" * 1_000_000)
    add_step(store, waiting, name="open_ticket", status=StepStatus.FAILED, error="the tracker is away", position=1)
    with store.write() as connection:
        incident = insert_incident(connection, NoticeEvent.RUN_FAILED, at=NOON, job="triage", run_id=failed, reason=raised(HOSTILE))
    folder = served.deployment.make_run_dir(waiting)
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "report.md").write_text("# Report\n")
    line = {"@timestamp": "2026-11-23T12:00:00.000Z", "log.level": "info", "message": f"begun {HOSTILE}"}
    (folder / "run.log").write_text(json.dumps(line) + "\n")
    return Story(waiting, decision, task, failed, every[0], incident.id)


@dataclass
class Watched:
    """What went wrong on the pages of a browser."""

    errors: list[str] = field(default_factory=list)

    def follow(self, page: Any) -> Any:
        page.on("console", lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", self._failed)
        return page

    def _failed(self, request: Any) -> None:
        # A page that is left ends its own requests.
        if "ERR_ABORTED" not in str(request.failure):
            self.errors.append(f"{request.url}: {request.failure}")


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    if os.environ.get("TASKPILOT_CI") != "1":
        pytest.importorskip("playwright.sync_api")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require("chromium", "chromium"), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def axe(folder: Path) -> str:
    """The source of axe-core, of the npm registry. Without npm the test is skipped at home, and fails in CI."""
    npm = require("npm", "npm")
    done = subprocess.run(
        [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "axe-core@4.14.1"],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    source = folder / "node_modules/axe-core/axe.min.js"
    if done.returncode and os.environ.get("TASKPILOT_CI") != "1":
        pytest.skip(f"axe-core cannot be installed: {done.stderr[-200:]}")
    return source.read_text(encoding="utf-8")
