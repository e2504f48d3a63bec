"""Gateways and collectors that are dead, hang or drip: runs end as if nobody were asked to listen, and what is pending arrives later."""

import os
import re
import sqlite3
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.kills.processes import eventually
from tests.command import TaskPilot
from tests.servers.bad_gateway import BadServer, dead, dripping, hanging
from tests.servers.collector import grpc_collector, http_collector
from tests.servers.pushgateway import Pushgateway, pushgateway

pytestmark = pytest.mark.slow

RUNS: Final = 8
ROUNDS: Final = int(os.environ.get("TASKPILOT_ROUNDS", "1"))
"""More than one for figures: TASKPILOT_ROUNDS=5 pytest -rP tests/acceptance/test_dead_telemetry.py"""
HUNG: Final = 3.0
"""Seconds: what catches a hang on a machine of two busy cores. The promise is 0.5, and is measured in many rounds."""
UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JOB = '''
import os
import time
from pathlib import Path

from taskpilot import RunContext, job


@job(model="offline", overlap="allow_all")
def {name}(ctx: RunContext, number: int = 0, gate: str = "") -> str:
    """Works, and ends when the gate opens; the last one fails."""
    ctx.workflow("Reset the password of Ms Weber")
    folder = Path(gate)
    (folder / str(number)).touch()
    while gate and not (folder / "open").exists():
        time.sleep(0.002)
    if number == 7:
        raise RuntimeError("told to fail")
    return "done"
'''


@dataclass(frozen=True)
class Ended:
    """How eight runs ended that were let go at one moment."""

    codes: list[int]
    err: list[str]
    seconds: float
    """From the opening of the gate to the last process's end."""
    after: float
    """The longest time between a run's recorded end and its process's."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushgateway]:
    with pushgateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> TaskPilot:
    """A root with nine jobs, whose store is made."""
    folder = tmp_path_factory.mktemp("eight")
    root, home = folder / "root", folder / "home"
    (root / "jobs").mkdir(parents=True)
    home.mkdir()
    (root / "taskpilot.toml").write_text("")
    command = TaskPilot(root, home)
    for name in ("one", *(f"job{number}" for number in range(RUNS))):
        command.job(JOB.format(name=name), name=name)
    assert command("run", "one", "--quiet").code == 0
    return command


def telemetry(gateway: str, collector: str, protocol: str = "grpc") -> dict[str, str]:
    return {
        "OTEL_ENABLED": "true",
        "TASKPILOT_PUSHGATEWAY_URL": gateway,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
    }


def let_go(command: TaskPilot, folder: Path, variables: dict[str, str], *, one_job: bool) -> Ended:
    """Eight runs as processes of their own that end together."""
    folder.mkdir()
    ends: dict[int, float] = {}
    err: dict[int, str] = {}

    def attend(number: int, process: "subprocess.Popen[bytes]") -> None:
        err[number] = process.communicate(timeout=280)[1].decode()
        ends[number] = time.time()

    names = ["one" if one_job else f"job{number}" for number in range(RUNS)]
    arguments = [("run", name, "-p", f"number={number}", "-p", f"gate={folder}", "--quiet") for number, name in enumerate(names)]
    every: list[subprocess.Popen[bytes]] = []
    watchers: list[threading.Thread] = []
    began = True
    try:
        for number, line in enumerate(arguments):
            every.append(command.start(*line, environment=variables))
            watchers.append(threading.Thread(target=attend, args=(number, every[-1])))
            watchers[-1].start()
            # Not all at once: on a busy machine one might wait for the store for too long.
            began = began and eventually((folder / str(max(0, number - 1))).exists, seconds=90)
        began = began and eventually((folder / str(RUNS - 1)).exists, seconds=90)
    finally:
        (folder / "open").touch()
        opened = time.time()
        for watcher in watchers:
            watcher.join()
    assert began, (err, [process.returncode for process in every])
    rows = command.rows("SELECT id, ended_at, json_extract(parameters, '$.number') AS number FROM runs ORDER BY id DESC LIMIT ?", RUNS)
    after = [ends[row["number"]] - row["ended_at"] / 1e6 for row in rows]
    return Ended(
        [process.returncode for process in every],
        [UUID.sub("ID", err[number]) for number in range(RUNS)],
        max(ends.values()) - opened,
        max(after),
    )


def pending(command: TaskPilot) -> list[str]:
    rows = command.rows("SELECT job FROM job_state WHERE version > pushed_version OR push_timed_out_at IS NOT NULL ORDER BY job")
    return [row["job"] for row in rows]


def half_a_minute_later(command: TaskPilot) -> None:
    """Moves what the record says of time-outs back, instead of waiting."""
    with closing(sqlite3.connect(command.state_dir / "taskpilot.db")) as connection, connection:
        connection.execute("UPDATE job_state SET push_timed_out_at = push_timed_out_at - 31000000")


ALIVE = {"grpc": grpc_collector, "http/protobuf": http_collector}


@pytest.mark.parametrize(
    ("bad", "protocol", "one_job"),
    [
        pytest.param(dead, "grpc", False, id="dead, eight jobs"),
        pytest.param(hanging, "grpc", True, id="hanging, one job"),
        pytest.param(dripping, "http/protobuf", False, id="dripping, eight jobs"),
    ],
)
def test_eight_runs_that_end_together_end_as_if_somebody_listened(
    eight: TaskPilot,
    gateway: Pushgateway,
    tmp_path: Path,
    bad: Callable[[], AbstractContextManager[BadServer]],
    protocol: str,
    one_job: bool,
) -> None:
    pairs: list[tuple[Ended, Ended]] = []
    deployment = eight.rows("SELECT deployment FROM store_info")[0]["deployment"]
    for number in range(ROUNDS):
        with ALIVE[protocol]() as received:
            variables = telemetry(gateway.url, received.endpoint, protocol)
            alive = let_go(eight, tmp_path / f"alive{number}", variables, one_job=one_job)
        with bad() as first, bad() as second:
            away = let_go(eight, tmp_path / f"away{number}", telemetry(first.url, second.url, protocol), one_job=one_job)
        pairs.append((alive, away))
        assert alive.codes == away.codes == [0] * 7 + [1]
        assert away.err == alive.err
        assert away.err[:7] == [""] * 7
        assert away.err[7].count("\n") == 1
        if bad is not dead:
            assert first.received, "the gateway was never asked"
    for what in ("seconds", "after"):
        listened, nobody = ([getattr(one, what) for one in side] for side in zip(*pairs, strict=True))
        more = [away - alive for alive, away in zip(listened, nobody, strict=True)]
        figures = f"median {statistics.median(more):+.2f} s, most {max(more):+.2f} s"
        medians = f"{statistics.median(listened):.2f} s alive, {statistics.median(nobody):.2f} s away"
        print(f"{bad.__name__} {protocol}, {what}: {figures}; {medians}")  # noqa: T201  seen with -rP
        assert statistics.median(more) < HUNG
    # The other kind of test shares the store.
    ours = [job for job in pending(eight) if (job == "one") is one_job]
    assert ours == (["one"] if one_job else [f"job{number}" for number in range(RUNS)])
    half_a_minute_later(eight)
    assert eight("metrics", "push", environment=telemetry(gateway.url, "http://127.0.0.1:1")).code == 0
    assert pending(eight) == []
    for name in ("one",) if one_job else (f"job{number}" for number in range(RUNS)):
        ended = eight.rows("SELECT COUNT(*) AS n FROM runs WHERE job = ? AND status = 'succeeded'", name)[0]["n"]
        assert gateway.value("taskpilot_runs_total", deployment=deployment, job_name=name, status="succeeded") == ended


@pytest.fixture
def telling(taskpilot: TaskPilot) -> TaskPilot:
    """The command over two jobs; a test names the gateway."""
    for name in ("one", "two"):
        taskpilot.job(JOB.format(name=name), name=name)
    return taskpilot


def pushed(gateway: Pushgateway, command: TaskPilot, job: str) -> float | None:
    deployment = command.rows("SELECT deployment FROM store_info")[0]["deployment"]
    return gateway.value("taskpilot_runs_total", deployment=deployment, job_name=job, status="succeeded")


def test_the_next_run_of_another_job_delivers_what_a_dead_gateway_left_pending(telling: TaskPilot, gateway: Pushgateway) -> None:
    with dead() as server:
        done = telling("run", "one", "--quiet", environment={"TASKPILOT_PUSHGATEWAY_URL": server.url})
    assert (done.code, done.out, done.err) == (0, "", "")
    assert pending(telling) == ["one"]
    assert pushed(gateway, telling, "one") is None
    # On a busy machine half a second may be too short for a push; then the run after it delivers it.
    delivered = [
        telling("run", "two", "--quiet", environment={"TASKPILOT_PUSHGATEWAY_URL": gateway.url}).code for _ in range(20) if pending(telling)
    ]
    assert set(delivered) == {0}
    assert pending(telling) == []
    assert pushed(gateway, telling, "one") == 1
    assert pushed(gateway, telling, "two") == len(delivered)


def test_an_answer_within_half_a_minute_of_a_time_out_is_not_the_last_word(telling: TaskPilot, gateway: Pushgateway) -> None:
    with hanging() as server:
        done = telling("run", "one", "--quiet", environment={"TASKPILOT_PUSHGATEWAY_URL": server.url})
        assert server.received
    assert (done.code, done.out, done.err) == (0, "", "")
    live = {"TASKPILOT_PUSHGATEWAY_URL": gateway.url}
    assert telling("metrics", "push", "one", environment=live).code == 0
    assert pushed(gateway, telling, "one") == 1
    assert pending(telling) == ["one"], "the push that hung may still land"
    half_a_minute_later(telling)
    assert telling("metrics", "push", "one", environment=live).code == 0
    assert pending(telling) == []


def test_failures_of_telemetry_are_counted_and_told_when_somebody_listens_again(telling: TaskPilot, gateway: Pushgateway) -> None:
    with dead() as server:
        assert telling("run", "one", "--quiet", environment=telemetry(server.url, server.url)).code == 0
    assert telling("metrics", "push", environment={"TASKPILOT_PUSHGATEWAY_URL": gateway.url}).code == 0
    deployment = telling.rows("SELECT deployment FROM store_info")[0]["deployment"]
    for sink, least in (("gateway", 1), ("collector", 1), ("traces", 0), ("metrics_file", 0), ("logs", 0), ("decision_log", 0)):
        value = gateway.value("taskpilot_telemetry_failures_total", deployment=deployment, job_name="one", sink=sink)
        assert value is not None
        assert (value >= least) if least else value == 0, (sink, value)


def test_files_that_cannot_be_written_change_no_exit_code_and_are_counted(telling: TaskPilot) -> None:
    assert telling("run", "one", "--quiet").code == 0
    for name in ("logs", "locks"):
        folder = telling.state_dir / name
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        folder.write_text("in the way")
    for name in ("traces.jsonl", "metrics.json", "decision_logs.jsonl"):
        (telling.state_dir / name).unlink()
        (telling.state_dir / name).mkdir()
    for arguments, code, err in ((("run", "one", "--quiet"), 0, ""), (("run", "one", "--quiet", "-p", "number=7"), 1, "told to fail")):
        done = telling(*arguments)
        assert (done.code, done.out) == (code, "")
        assert err in done.err
        assert done.err.count("\n") == bool(err)
    counted = telling.totals("taskpilot_telemetry_failures_total")
    assert {key for key, value in counted.items() if value > 1} == {
        f'{{"sink":"{sink}"}}' for sink in ("logs", "decision_log", "traces", "metrics_file")
    }


def test_a_disk_for_logs_that_is_full_changes_no_exit_code(telling: TaskPilot) -> None:
    assert telling("run", "one", "--quiet").code == 0
    logs = telling.state_dir / "logs"
    line = f"mount -t tmpfs -o size=8k none {logs} && (head -c 8192 /dev/zero > {logs}/filler; exec {' '.join(telling.line('run', 'one'))})"
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", logs], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system of his own")
    done = subprocess.run(
        [*unshare, "sh", "-c", line], env=telling.environment, cwd=telling.root, capture_output=True, timeout=60, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("done\n")
    assert telling.run()["status"] == "succeeded"
    assert telling.totals("taskpilot_telemetry_failures_total")['{"sink":"logs"}'] > 1
    said = (telling.state_dir / "runs" / telling.run()["id"] / "output.log").read_text()
    assert said.count("No space left on device") == 1


def test_printed_lines_that_the_shared_log_cannot_take_are_counted_and_stay_in_their_own_file(taskpilot: TaskPilot) -> None:
    taskpilot.job("from taskpilot import RunContext, job\n\n\n@job\ndef prints(ctx: RunContext) -> None:\n    print('line\\n' * 20)\n")
    (taskpilot.state_dir / "logs" / "taskpilot.log").mkdir(parents=True)
    taskpilot.state_dir.chmod(0o700)
    said = taskpilot("run", "prints")
    assert (said.code, said.err) == (0, "")
    assert taskpilot.totals("taskpilot_telemetry_failures_total")['{"sink":"logs"}'] >= 20
    output = taskpilot.state_dir / "runs" / taskpilot.run()["id"] / "output.log"
    assert output.read_text().count("line\n") == 20
