"""Several commands at once: one job runs once, one fire starts once, and nothing of the record is lost."""

import json
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from tests.command import TaskPilot

JOBS = """
import os
import time

from taskpilot import RunContext, every, job


def wait_for(name, seconds=240):
    for _ in range(seconds * 50):
        if os.path.exists(name):
            return
        time.sleep(0.02)
    raise TimeoutError(name)


@job(schedule=every("12h"))
def waits(ctx: RunContext) -> str:
    open(f"began-{ctx.run_id}", "w").close()
    wait_for("go")
    return "done"


@job(overlap="allow_all")
def mixes(ctx: RunContext) -> str:
    open(f"began-{ctx.run_id}", "w").close()
    wait_for("go")
    return "done"


@job(schedule=every("12h"), catch_up_window="12h")
def quick(ctx: RunContext) -> str:
    return str(ctx.scheduled_for)
"""
COUNT = 8
FIRE = "2026-11-02T08:00:00+00:00"


@pytest.fixture
def jobs(taskpilot: TaskPilot) -> TaskPilot:
    taskpilot.job(JOBS)
    return taskpilot


def began(taskpilot: TaskPilot, number: int) -> None:
    """WaitBudget until so many runs are in their job."""
    give_up = time.monotonic() + 120
    while len(list(taskpilot.root.glob("began-*"))) < number:
        assert time.monotonic() < give_up, "the runs did not begin"
        time.sleep(0.02)


def go(taskpilot: TaskPilot) -> None:
    (taskpilot.root / "go").touch()


def ended(started: list[subprocess.Popen[bytes]]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    told = [(process, *process.communicate(timeout=250)) for process in started]
    return [(process.returncode, out.decode(), err.decode()) for process, out, err in told]


def test_a_second_run_of_a_job_is_skipped_while_the_first_one_is_active(jobs: TaskPilot) -> None:
    first = jobs.start("run", "waits", "--json")
    began(jobs, 1)
    skip = jobs("run", "waits", "--json")
    assert (skip.code, skip.err) == (10, "")
    assert (skip.json["run_id"], skip.json["status"]) == (None, "skipped_overlap")
    assert jobs.run()["id"] in skip.json["reason"]
    quiet = jobs("run", "waits", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (10, "", "")
    fine = jobs("run", "waits", "--skip-ok", "--quiet", "--scheduled-for", FIRE)
    assert (fine.code, fine.out, fine.err) == (0, "", "")
    assert jobs("run", "quick", "--quiet").code == 0
    go(jobs)
    [(code, out, err)] = ended([first])
    assert (code, err, json.loads(out)["status"]) == (0, "", "succeeded")
    assert jobs("run", "waits", "--quiet").code == 0
    assert [fire["outcome"] for fire in jobs.rows("SELECT outcome FROM fires")] == ["skipped_overlap"]
    assert jobs.totals("taskpilot_fires_total") == {'{"outcome":"skipped_overlap"}': 1}
    assert len(list((jobs.state_dir / "runs").iterdir())) == 3


def test_overlap_allow_all_lets_them_run_side_by_side(jobs: TaskPilot) -> None:
    started = [jobs.start("run", "mixes", "--quiet") for _ in range(3)]
    began(jobs, 3)
    assert [run["status"] for run in jobs.rows("SELECT status FROM runs")] == ["running"] * 3
    go(jobs)
    assert ended(started) == [(0, "", "")] * 3
    assert jobs.totals("taskpilot_runs_total") == {'{"status":"succeeded"}': 3}


@pytest.mark.real_creation
def test_eight_that_claim_one_fire_start_it_once(jobs: TaskPilot) -> None:
    """On a store that none of them finds, so that its making is raced for too."""
    started = [jobs.start("run", "waits", "--scheduled-for", FIRE, "--json") for _ in range(COUNT)]
    began(jobs, 1)
    # The seven others end while the one goes on.
    give_up = time.monotonic() + 120
    while sum(process.poll() is not None for process in started) < COUNT - 1 and time.monotonic() < give_up:
        time.sleep(0.05)
    go(jobs)
    told = ended(started)
    codes = Counter(code for code, _out, _err in told)
    assert codes == {0: 1, 11: COUNT - 1}, told
    assert [err for _code, _out, err in told] == [""] * COUNT
    assert len(list(jobs.root.glob("began-*"))) == 1
    [fire] = jobs.rows("SELECT outcome, run_id FROM fires")
    [run] = jobs.rows("SELECT id, status, attempts FROM runs")
    assert (fire["outcome"], fire["run_id"], run["status"], run["attempts"]) == ("started", run["id"], "succeeded", 1)
    later = jobs("run", "waits", "--scheduled-for", FIRE, "--quiet")
    assert (later.code, later.out, later.err) == (11, "", "")
    assert jobs("run", "waits", "--scheduled-for", FIRE, "--skip-ok").code == 0


def test_auto_names_the_latest_fire_for_every_caller(jobs: TaskPilot) -> None:
    before = datetime.now(UTC)
    first, second = (jobs("run", "quick", "--scheduled-for", "auto", "--json") for _ in range(2))
    if datetime.now(UTC).hour // 12 != before.hour // 12:
        pytest.skip("a fire fell between the two commands")
    assert (first.code, second.code) == (0, 11)
    # A skip has the outcome that the fire is recorded with.
    assert (second.json["run_id"], second.json["status"]) == (None, "started")
    [fire] = jobs.rows("SELECT scheduled_for FROM fires")
    due = datetime.fromtimestamp(fire["scheduled_for"] / 1_000_000, UTC)
    assert first.json["result"] == str(due)
    assert 0 <= (before - due).total_seconds() < 12 * 3600
    # The same fire under its own name.
    assert jobs("run", "quick", "--scheduled-for", due.isoformat(), "--quiet").code == 11


def test_auto_with_no_fire_in_the_window_has_nothing_to_do(jobs: TaskPilot) -> None:
    once = '@job(schedule=at("2020-01-01T08:00Z"))\ndef once(ctx: RunContext) -> None: ...\n'
    jobs.job(f"from taskpilot import RunContext, at, job\n{once}", name="once")
    said = jobs("run", "once", "--scheduled-for", "auto", "--json")
    assert (said.code, said.json["run_id"], said.json["status"]) == (0, None, "nothing_due")
    quiet = jobs("run", "once", "--scheduled-for", "auto", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


@pytest.mark.real_creation
def test_eight_jobs_that_start_on_a_store_that_is_not_there_are_all_recorded(taskpilot: TaskPilot) -> None:
    names = [f"job{number}" for number in range(COUNT)]
    for name in names:
        taskpilot.job(
            "from taskpilot import RunContext, job\n"
            f"@job\ndef {name}(ctx: RunContext) -> str:\n"
            "    return ','.join(ctx.map(lambda item: ctx.step('one', str, item), range(10), concurrency=4))\n",
            name=name,
        )
    assert ended([taskpilot.start("run", name, "--quiet") for name in names]) == [(0, "", "")] * COUNT
    runs = taskpilot.rows("SELECT job, status, result FROM runs ORDER BY job")
    assert [run["job"] for run in runs] == names
    assert {(run["status"], run["result"]) for run in runs} == {("succeeded", '"0,1,2,3,4,5,6,7,8,9"')}
    assert taskpilot.rows("SELECT count(*) AS number FROM steps WHERE kind = 'step' AND status = 'succeeded'") == [{"number": 10 * COUNT}]
    assert taskpilot.rows("SELECT count(*) AS number FROM store_info") == [{"number": 1}]
    assert sum(row["value"] for row in taskpilot.rows("SELECT value FROM totals WHERE metric = 'taskpilot_runs_total'")) == COUNT
