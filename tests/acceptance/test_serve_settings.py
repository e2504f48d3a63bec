"""A running server whose settings and policy are edited: each attempt follows those of the moment at which it starts."""

import json
import re
import urllib.error
import urllib.request
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
LOOKS = """
import os
from pathlib import Path
from taskpilot import RunContext, at, job

def blocks():
    found, pid = [], os.getpid()
    while pid > 1:
        try:
            found.append(b"TOKEN" in Path(f"/proc/{pid}/environ").read_bytes())
        except OSError:
            break
        pid = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return found

AT_LOAD = str(blocks())

@job(schedule=SCHEDULE)
def looks(ctx: RunContext, at_load: str = AT_LOAD) -> list[list[bool]]:
    return [blocks(), eval(at_load)]
"""
TOKEN = "the-token-of-the-api-0c3e8d6f"
ASK = 'package taskpilot.tools\nrequire_approval contains "a person decides" if input.tool == "send"\n'
DENY = 'package taskpilot.tools\ndeny contains "not now" if input.tool == "send"\n'
WITH_POLICY = '[policy]\nfiles = ["ours.rego"]\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    taskpilot = new_root(tmp_path_factory.mktemp("settings"))
    with serving(taskpilot, TASKPILOT_API_TOKEN=TOKEN) as started:
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


def test_a_call_that_is_rejected_over_the_api_is_not_made_when_the_policy_is_gone(server: Server) -> None:
    taskpilot = server.taskpilot
    (taskpilot.root / "ours.rego").write_text(ASK)
    taskpilot.settings(WITH_POLICY)
    define(server, "fifth")
    wait(lambda: [run["status"] for run in runs_of(taskpilot, "fifth")] == ["waiting"], server.said)
    [run] = runs_of(taskpilot, "fifth")
    [decision] = taskpilot.rows("SELECT id FROM decisions WHERE run_id = ? AND status = 'pending'", run["id"])
    assert post(server, f"decisions/{decision['id']}/reject", token="another") == 401
    assert post(server, f"decisions/{decision['id']}/reject") == 200
    taskpilot.settings("")
    assert post(server, f"decisions/{decision['id']}/approve") == 409
    wait(lambda: ended(taskpilot, "fifth"), server.said)
    assert [run["status"] for run in runs_of(taskpilot, "fifth")] == ["denied"]
    assert post(server, f"runs/{run['id']}/resume") == 409
    assert "fifth" not in sent(taskpilot)


def post(server: Server, path: str, *, token: str = TOKEN) -> int:
    address = re.findall(r"http://127\.0\.0\.1:\d+", server.said())[-1]
    asked = urllib.request.Request(f"{address}/api/v1/{path}", method="POST", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_neither_a_job_nor_its_file_finds_the_servers_token_in_any_process_above_it(server: Server) -> None:
    taskpilot = server.taskpilot
    taskpilot.job(LOOKS.replace("TOKEN", TOKEN).replace("SCHEDULE", soon()), name="looks")
    server.reload()
    wait(lambda: ended(taskpilot, "looks"), server.said)
    [run] = runs_of(taskpilot, "looks")
    in_run, at_load = json.loads(run["result"])
    # The job, its supervisor, the fork server and the server at least; the call, its guard, the helper and the server.
    assert (any(in_run), any(at_load), len(in_run) >= 4, len(at_load) >= 4) == (False, False, True, True), run["result"]
