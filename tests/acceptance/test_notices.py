"""Notices of real runs and servers: told once, whatever is killed, and never at the cost of a run's result."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.acceptance.kills.processes import eventually
from tests.acceptance.serving.server import new_root, serving, wait
from tests.command import TaskPilot
from tests.servers.receiver import Receiver, receiver

JOB = """
from pathlib import Path
from taskpilot import RunContext, job


@job(PING)
def night(ctx: RunContext) -> str:
    ctx.require(not Path("broken").exists(), "the night is broken")
    return "done"
"""


@pytest.fixture
def ops() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def configure(taskpilot: TaskPilot, ops: Receiver, more: str = "") -> None:
    (taskpilot.root / ".env").write_text(f"HOOK_SECRET={ops.secret}\n")
    (taskpilot.root / ".env").chmod(0o600)
    taskpilot.settings(
        f'[notify]\ndefault = ["ops"]\n{more}\n[notify.channels.ops]\nurl = "{ops.url}/a-secret-path"\nsecret = "${{HOOK_SECRET}}"\n'
    )


@pytest.fixture
def taskpilot(root: Path, tmp_path: Path, ops: Receiver) -> TaskPilot:
    made = TaskPilot(root, tmp_path)
    configure(made, ops)
    made.job(JOB.replace("PING", f'ping_url="{ops.url}/ping"'), name="night")
    return made


def test_a_run_of_cron_tells_its_failure_and_its_recovery_and_pings_its_start_and_exit(taskpilot: TaskPilot, ops: Receiver) -> None:
    (taskpilot.root / "broken").touch()
    assert taskpilot("run", "night", "--quiet").code == 15
    failed = taskpilot.run()
    (body,) = ops.bodies
    assert (body["event"], body["run_id"], body["reason_code"]) == ("outcome_failed", failed["id"], "outcome_failed")
    assert ops.signed == [True]
    assert taskpilot(*body["command"].split()[1:], cwd=Path("/")).code == 0, "it works as pasted, in any folder"
    (taskpilot.root / "broken").unlink()
    assert taskpilot("run", "night", "--quiet").code == 0
    assert [body["event"] for body in ops.bodies] == ["outcome_failed", "recovered"]
    assert ops.bodies[1]["incident"] == body["incident"]
    succeeded = taskpilot.run()
    pings = [path for path in ops.paths if path.startswith("/ping")]
    wanted = {f"/ping/start?rid={failed['id']}", f"/ping/15?rid={failed['id']}"}
    assert set(pings) == wanted | {f"/ping/start?rid={succeeded['id']}", f"/ping/0?rid={succeeded['id']}"}
    assert len(pings) == 4
    for place in (taskpilot("doctor", "--json").out, taskpilot("notices", "--json").out, taskpilot("jobs", "show", "night", "--json").out):
        assert ops.secret not in place
        assert "a-secret-path" not in place


def test_a_hanging_receiver_holds_a_run_for_ten_seconds_and_changes_nothing_of_it(taskpilot: TaskPilot, ops: Receiver) -> None:
    assert taskpilot("run", "night", "--quiet").code == 0
    (taskpilot.root / "broken").touch()
    ops.hang = 120
    said = taskpilot("run", "night", "--json")
    assert said.code == 15
    assert said.json["reason_code"] == "outcome_failed"
    # The record says it without the time that a busy machine takes for a command.
    (notice,) = taskpilot.rows("SELECT result, attempts, due_at FROM notices WHERE event = 'outcome_failed'")
    assert (notice["result"], notice["attempts"]) == ("unknown", 1)
    assert said.seconds < 60
    ops.hang = 0
    assert taskpilot("notify", "drill", "--wait", "0").code == 1
    assert [body["event"] for body in ops.once] == ["outcome_failed", "drill"]


def test_a_signal_while_notices_are_sent_ends_the_sending_and_not_the_result(taskpilot: TaskPilot, ops: Receiver) -> None:
    ops.hang = 120
    (taskpilot.root / "broken").touch()
    process = taskpilot.start("run", "night", "--quiet")
    assert eventually(lambda: (taskpilot.state_dir / "taskpilot.db").exists() and _sending(taskpilot))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 15


def _sending(taskpilot: TaskPilot) -> bool:
    with suppress(Exception):
        return bool(taskpilot.rows("SELECT 1 FROM notices WHERE event <> 'ping' AND attempts > 0"))
    return False


def test_commands_that_are_killed_at_random_moments_lose_no_notice_and_none_comes_twice(taskpilot: TaskPilot, ops: Receiver) -> None:
    random = Random(7)
    ops.hang = 0.05
    began = time.monotonic()
    taskpilot("run", "night", "--quiet")
    usual = time.monotonic() - began
    for _ in range(12):
        (taskpilot.root / "broken").touch() if random.random() < 0.5 else (taskpilot.root / "broken").unlink(missing_ok=True)
        process = taskpilot.start("run", "night", "--quiet")
        time.sleep(random.uniform(0.5, 1.2) * usual)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    (taskpilot.root / "broken").unlink(missing_ok=True)
    assert eventually(lambda: taskpilot("run", "night", "--quiet").code == 0)
    taskpilot("run", "night", "--quiet")
    rows = taskpilot.rows("SELECT id, incident_id, event, result FROM notices WHERE event <> 'ping' ORDER BY position")
    assert {row["result"] for row in rows} <= {"delivered"}, rows
    assert [body["incident"] for body in ops.once] == [row["incident_id"] for row in rows]
    incidents = taskpilot.rows("SELECT id, cause, closed_at FROM incidents")
    for incident in incidents:
        mine = [row["event"] for row in rows if row["incident_id"] == incident["id"]]
        assert (incident["closed_at"] is not None, mine) == (True, [incident["cause"], "recovered"])
    # Each end that the record has was told or counted: no event is left behind the cursor.
    assert taskpilot.rows("SELECT cursor = (SELECT max(id) FROM events) AS all_read FROM notice_state") == [{"all_read": 1}]


def test_a_server_tells_within_seconds_and_goes_on_after_a_kill(tmp_path: Path, ops: Receiver) -> None:
    taskpilot = new_root(tmp_path)
    configure(taskpilot, ops)
    soon = 'schedule=every("1s"), overlap="skip"'
    taskpilot.job(JOB.replace("import RunContext, job", "import RunContext, every, job").replace("PING", soon), name="night")
    (taskpilot.root / "broken").touch()
    ops.status = 503
    with serving(taskpilot) as server:
        wait(lambda: bool(taskpilot.rows("SELECT 1 FROM notices WHERE result = 'failed'")), server.said)
        server.send(signal.SIGKILL)
    ops.status = 200
    (taskpilot.root / "broken").unlink()
    with serving(taskpilot) as server:
        # What the kill did to the run that was under way is told too.
        wait(lambda: ("outcome_failed", "recovered") in {(body["cause"], body["event"]) for body in ops.once}, server.said)
    first, *_ = ops.once
    assert (first["event"], first["reminder"]) == ("outcome_failed", 0)
    assert len({(body["incident"], body["event"]) for body in ops.once}) == len(ops.once)
