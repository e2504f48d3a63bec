"""A running server whose settings and policy are edited: each attempt follows those of the moment at which it starts."""

from collections.abc import Iterator

import pytest

from tests.acceptance.serving.server import Server, attempts_of, ended, fires_of, new_root, runs_of, serving, soon, wait
from tests.command import TaskPilot

pytestmark = pytest.mark.slow

JOB = """
import time
from pathlib import Path
from taskpilot import Retry, RunContext, at, job, tool

ROOT = Path(__file__).parent.parent


@tool
def send(text: str) -> str:
    'Send a text.'
    with (ROOT / "sent").open("a") as file:
        file.write(f"{text}\\n")
    return text


@job(schedule=SCHEDULE, tools=[send], retry=Retry(attempts=2))
def NAME(ctx: RunContext) -> str:
    if ctx.attempt == 1 and RETRIED:
        (ROOT / "NAME.waits").touch()
        while not (ROOT / "NAME.open").exists():
            time.sleep(0.05)
        raise ConnectionError("once more")
    return ctx.call("send", text="NAME")
"""
DENY = 'package taskpilot.tools\ndeny contains "not now" if input.tool == "send"\n'
WITH_POLICY = '[policy]\nfiles = ["ours.rego"]\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    taskpilot = new_root(tmp_path_factory.mktemp("settings"))
    with serving(taskpilot) as started:
        yield started


def define(server: Server, name: str, *, retried: bool = False) -> None:
    text = JOB.replace("SCHEDULE", soon()).replace("NAME", name).replace("RETRIED", str(retried))
    server.taskpilot.job(text, name=name)
    server.reload()


def sent(taskpilot: TaskPilot) -> list[str]:
    file = taskpilot.root / "sent"
    return file.read_text().splitlines() if file.exists() else []


def test_a_policy_that_is_written_under_a_running_server_is_in_force_for_the_next_attempt(server: Server) -> None:
    taskpilot = server.taskpilot
    define(server, "first", retried=True)
    wait((taskpilot.root / "first.waits").exists, server.said)
    (taskpilot.root / "ours.rego").write_text(DENY)
    taskpilot.settings(WITH_POLICY)
    (taskpilot.root / "first.open").touch()
    wait(lambda: ended(taskpilot, "first"), server.said)
    assert [status for status, _ in attempts_of(taskpilot, "first")] == ["failed", "denied"], "a retry in the same supervisor"
    define(server, "second")
    wait(lambda: ended(taskpilot, "second"), server.said)
    assert [run["status"] for run in runs_of(taskpilot, "second")] == ["denied"], "a new run"
    assert sent(taskpilot) == []
    taskpilot.settings("")
    define(server, "third")
    wait(lambda: ended(taskpilot, "third"), server.said)
    assert sent(taskpilot) == ["third"]


def test_what_needs_a_restart_is_named_and_a_broken_file_blocks_instead_of_running_by_old_rules(server: Server) -> None:
    taskpilot = server.taskpilot
    taskpilot.settings("port = 9\n")
    server.reload()
    wait(lambda: server.row().get("restart") == '["port"]', server.said)
    said = taskpilot("health", "--json").json
    assert said["scheduler"]["restart"] == ["port"]
    assert any("restart the server" in one["text"] for one in said["findings"])
    assert "need a restart of the server: port" in (taskpilot.state_dir / "logs" / "taskpilot.log").read_text()
    taskpilot.settings("port = \n")
    before = sent(taskpilot)
    define(server, "fourth")
    wait(lambda: [fire["outcome"] for fire in fires_of(taskpilot, "fourth")] == ["blocked_config"], server.said)
    assert sent(taskpilot) == before
    wait(lambda: "taskpilot.toml" in server.row()["broken"], server.said)
    taskpilot.settings("")
    server.reload()
    wait(lambda: (server.row()["restart"], server.row()["broken"]) == ("[]", "[]"), server.said)
