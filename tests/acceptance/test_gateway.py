"""Counters of runs that are over, read from a real Pushgateway and from a real Prometheus that scrapes it."""

import math
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.instruments import COUNTERS, GAUGES, HISTOGRAMS
from tests.acceptance.kills.processes import eventually
from tests.command import Said, TaskPilot
from tests.servers.prometheus import Prometheus, prometheus
from tests.servers.pushgateway import Pushgateway, pushgateway

WORK = '''
from taskpilot import RunContext, job

REQUESTS = [
    "Reset the password of Ms Weber, then order a keyboard for her desk",
    "Please delete all backups",
    "Renew the certificate of the mail server",
]


@job(model="offline")
def work(ctx: RunContext, fail: bool = False) -> str:
    """Plans, reviews and executes three requests."""
    done = ctx.map(ctx.workflow, REQUESTS, concurrency=3)
    if fail:
        raise RuntimeError("told to fail")
    return f"{len(done)} requests handled"
'''
HELD = '''
import time
from pathlib import Path

from taskpilot import RunContext, cron, job


@job(schedule=cron("* * * * *"))
def held(ctx: RunContext) -> str:
    """Runs until it may end."""
    (Path(__file__).parent.parent / "began").touch()
    while not (Path(__file__).parent.parent / "open").exists():
        time.sleep(0.01)
    return "held"
'''
ASKING = '''
from taskpilot import RunContext, job

REQUESTS = ["Urgent: update the sensitive customer list today", "Refund the order of Mr Klein in full"]


@job(model="offline")
def asking(ctx: RunContext) -> str:
    """Needs a person twice."""
    ctx.map(ctx.workflow, REQUESTS, concurrency=2)
    return "done"
'''
OWN_LABELS = {one.name: set(one.labels) for one in (*COUNTERS, *GAUGES, *HISTOGRAMS)} | {"taskpilot_build_info": {"version", "python"}}


@dataclass(frozen=True)
class Story:
    """Three runs that succeed and then one that fails, each in a process of its own, after `jobs validate`."""

    command: TaskPilot
    gateway: Pushgateway
    prometheus: Prometheus
    said: tuple[Said, ...]
    zeros: dict[str, float]
    """The runs by status that Prometheus knew before the first run."""
    seconds: int
    """From before the first run until now: a window that holds all of it."""

    def by(self, label: str, text: str) -> dict[str, float]:
        """The result of a query that sums by one label."""
        return {one["metric"][label]: float(one["value"][1]) for one in self.prometheus.query(f"sum by ({label}) ({text})")}

    def summed(self, key: str) -> int:
        """A figure of all runs' JSON summaries."""
        return sum(one.json[key] for one in self.said)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    with pushgateway(folder) as gateway, prometheus(folder, [f"127.0.0.1:{gateway.port}"]) as scraper:
        command = command_in(folder, gateway.url)
        command.job(WORK, name="work")
        assert command("jobs", "validate").code == 0
        scraper.until('taskpilot_runs_total{status="succeeded"}', lambda value: value == 0)
        zeros = {one["metric"]["status"]: float(one["value"][1]) for one in scraper.query("taskpilot_runs_total")}
        began = time.time()
        said = [command("run", "work", "--json", *more) for more in ((), (), (), ("-p", "fail=true"))]
        # On a busy machine the half second that a run has for its push may not be enough.
        if pending(command):
            assert command("metrics", "push").code == 0
        scraper.until('taskpilot_runs_total{status="failed"}', lambda value: value == 1)
        yield Story(command, gateway, scraper, tuple(said), zeros, math.ceil(time.time() - began) + 1)


def command_in(folder: Path, url: str, *, deployment: str = "") -> TaskPilot:
    """The command over an empty root in the folder, with a gateway."""
    root, home = folder / "root", folder / "home"
    (root / "jobs").mkdir(parents=True)
    home.mkdir()
    (root / "taskpilot.toml").write_text("")
    return TaskPilot(root, home, TASKPILOT_PUSHGATEWAY_URL=url, **({"TASKPILOT_DEPLOYMENT": deployment} if deployment else {}))


def pending(command: TaskPilot) -> list[str]:
    rows = command.rows("SELECT job FROM job_state WHERE version > pushed_version OR push_timed_out_at IS NOT NULL")
    return [row["job"] for row in rows]


def test_each_run_ends_as_it_should_and_says_nothing_of_telemetry(story: Story) -> None:
    assert [(one.code, one.json["status"]) for one in story.said] == [*[(0, "succeeded")] * 3, (1, "failed")]
    assert [one.err for one in story.said[:3]] == ["", "", ""]
    assert "gateway" not in story.said[3].err.lower()


def test_zeros_are_there_before_a_first_run(story: Story) -> None:
    assert story.zeros == dict.fromkeys(("succeeded", "failed", "timed_out", "cancelled", "denied", "budget_exceeded", "lost"), 0)


def test_runs_add_up_over_processes(story: Story) -> None:
    expected = dict.fromkeys(story.zeros, 0.0) | {"succeeded": 3, "failed": 1}
    assert story.by("status", "taskpilot_runs_total") == expected
    window = f"taskpilot_runs_total - (taskpilot_runs_total offset {story.seconds}s or taskpilot_runs_total * 0)"
    assert story.by("status", window) == expected
    assert story.prometheus.value("taskpilot_attempts_total") == 4


def test_calls_tokens_and_cost_are_the_sums_of_what_the_runs_said(story: Story) -> None:
    assert story.summed("llm_calls") > 4
    assert story.by("status", "taskpilot_llm_calls_total") == {"succeeded": story.summed("llm_calls"), "failed": 0, "unknown": 0}
    assert story.by("job", 'taskpilot_tool_calls_total{status!="denied"}') == {"taskpilot": story.summed("tool_calls")}
    rows = story.command.rows("SELECT status FROM steps WHERE kind = 'call'")
    assert {key: value for key, value in story.by("status", "taskpilot_tool_calls_total").items() if value} == Counter(
        row["status"] for row in rows
    )
    for kind in ("input", "cached_input", "output"):
        spent = sum(one.json["tokens"][kind] for one in story.said)
        assert story.by("kind", "taskpilot_llm_tokens_total")[kind] == spent
    cost = sum(one.json["cost_usd"] for one in story.said)
    assert story.by("job", "taskpilot_llm_cost_usd_total") == {"taskpilot": pytest.approx(cost, abs=1e-12)}


def test_tasks_add_up(story: Story) -> None:
    counted = story.by("status", "taskpilot_tasks_total")
    said: Counter[str] = Counter()
    for one in story.said:
        said.update(one.json["tasks"])
    # A task comes into several states; the last one is where it still is.
    assert (counted["executed"], counted["rejected"]) == (said["executed"], said["rejected"])
    assert min(said["executed"], said["rejected"]) > 0
    assert counted["pending"] == len(story.command.rows("SELECT id FROM tasks"))


def test_the_last_success_survives_a_failed_run(story: Story) -> None:
    ends = {row["status"]: row["ended_at"] / 1e6 for row in story.command.rows("SELECT status, ended_at FROM runs ORDER BY id")}
    assert story.prometheus.value("taskpilot_run_last_success_timestamp_seconds") == pytest.approx(ends["succeeded"], abs=1e-5)
    assert story.prometheus.value("taskpilot_run_last_completion_timestamp_seconds") == pytest.approx(ends["failed"], abs=1e-5)
    assert ends["failed"] > ends["succeeded"]
    assert {key for key, value in story.by("status", "taskpilot_run_last_status").items() if value} == {"failed"}
    assert story.prometheus.value("taskpilot_run_last_exit_code") == 1


def test_no_series_carries_a_run_id_and_each_has_its_own_labels_alone(story: Story) -> None:
    series: list[dict[str, Any]] = [one["metric"] for one in story.prometheus.query('{job="taskpilot"}')]
    runs = {row["id"] for row in story.command.rows("SELECT id FROM runs")}
    ids = runs | {row["id"] for row in story.command.rows("SELECT id FROM steps UNION SELECT id FROM attempts UNION SELECT id FROM tasks")}
    assert len(runs) == 4
    deployment = story.command.rows("SELECT deployment FROM store_info")[0]["deployment"]
    ours = [labels for labels in series if labels["__name__"].startswith("taskpilot_")]
    assert len(ours) > 100
    for labels in series:
        assert not [value for value in labels.values() for one in ids if one in value or one.replace("-", "") in value], labels
        assert (labels["job"], labels["deployment"], labels["job_name"]) == ("taskpilot", deployment, "work")
    for labels in ours:
        name = labels["__name__"]
        family = name if name in OWN_LABELS else name.rsplit("_", 1)[0]
        own = OWN_LABELS[family] | ({"le"} if name.endswith("_bucket") else set())
        assert set(labels) == {"__name__", "job", "deployment", "job_name"} | own
    assert not [one for one in ids if one in story.gateway.metrics()]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushgateway]:
    with pushgateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def pushing(tmp_path: Path, gateway: Pushgateway) -> TaskPilot:
    """The command with a gateway, in a deployment of the test's own."""
    return command_in(tmp_path / "pushing", gateway.url)


@contextmanager
def holding(pushing: TaskPilot) -> Iterator["subprocess.Popen[bytes]"]:
    """A run of `held` that is at work until the block ends; then it may end, and is waited for."""
    pushing.job(HELD, name="held")
    with pushing.start("run", "held", "--quiet") as running:
        try:
            assert eventually((pushing.root / "began").exists, seconds=90)
            yield running
        finally:
            (pushing.root / "open").touch()
            try:
                running.communicate(timeout=90)
            finally:
                running.kill()


def reaches(gateway: Pushgateway, command: TaskPilot, wanted: float | None, name: str, *, seconds: float = 10, **labels: str) -> bool:
    """Whether the gateway comes to hold this value for the command's deployment."""
    deployment = command.rows("SELECT deployment FROM store_info")[0]["deployment"]
    return eventually(lambda: gateway.value(name, deployment=deployment, **labels) == wanted, seconds=seconds, every=0.1)


def test_metrics_push_refuses_a_group_that_another_store_fills(tmp_path: Path, gateway: Pushgateway) -> None:
    first, second = (command_in(tmp_path / name, gateway.url, deployment="shared") for name in ("first", "second"))
    for command in (first, second):
        command.job(WORK, name="work")
    assert first("run", "work", "--quiet").code == 0
    assert first("metrics", "push").code == 0
    before = gateway.value("taskpilot_runs_total", deployment="shared", status="succeeded")
    refused = second("metrics", "push")
    assert refused.code == 78
    assert "work: another store" in refused.err
    assert gateway.value("taskpilot_runs_total", deployment="shared", status="succeeded") == before == 1


def test_a_run_delivers_its_totals_by_itself(pushing: TaskPilot, gateway: Pushgateway) -> None:
    pushing.job(WORK, name="work")

    def delivered() -> bool:
        assert pushing("run", "work", "--quiet").code == 0
        return not pending(pushing)

    # A push that takes longer than half a second on a busy machine stays pending, and the next run makes it.
    assert any(delivered() for _ in range(20))
    runs = len(pushing.rows("SELECT id FROM runs"))
    assert reaches(gateway, pushing, runs, "taskpilot_runs_total", job_name="work", status="succeeded")


def test_a_run_that_goes_on_is_seen_as_started(tmp_path: Path, gateway: Pushgateway) -> None:
    # The push at a run's start that takes longer than half a second on a busy machine is not made again while the run goes on.
    assert any(is_seen_as_started(command_in(tmp_path / f"try{number}", gateway.url), gateway) for number in range(5))


def is_seen_as_started(pushing: TaskPilot, gateway: Pushgateway) -> bool:
    with holding(pushing) as running:
        if not reaches(gateway, pushing, 1, "taskpilot_attempts_total", job_name="held"):
            return False
        assert reaches(gateway, pushing, 0, "taskpilot_runs_total", job_name="held", status="succeeded")
        began = pushing.run()["started_at"] / 1e6
        assert reaches(gateway, pushing, began, "taskpilot_run_last_start_timestamp_seconds", job_name="held")
        assert reaches(gateway, pushing, None, "taskpilot_run_last_completion_timestamp_seconds", job_name="held")
    assert running.returncode == 0
    return reaches(gateway, pushing, 1, "taskpilot_runs_total", job_name="held", status="succeeded")


def test_a_fire_skipped_by_overlap_is_counted_at_once_and_once(pushing: TaskPilot, gateway: Pushgateway) -> None:
    with holding(pushing):
        fire = ("run", "held", "--scheduled-for", "2026-11-23T10:00+00:00", "--quiet")
        skipped = pushing(*fire)
        assert (skipped.code, skipped.err) == (10, "")
        assert reaches(gateway, pushing, 1, "taskpilot_fires_total", job_name="held", outcome="skipped_overlap")
        assert pushing(*fire).code == 11
        # A run that nobody scheduled has no fire: nothing of it is recorded.
        assert pushing("run", "held", "--quiet").code == 10
        assert pushing("metrics", "push").code == 0
        assert reaches(gateway, pushing, 1, "taskpilot_fires_total", job_name="held", outcome="skipped_overlap")


def test_what_waits_for_a_person_is_seen_until_it_is_answered(pushing: TaskPilot, gateway: Pushgateway) -> None:
    pushing.job(ASKING, name="asking")
    assert pushing("run", "asking", "--quiet").code == 13
    assert reaches(gateway, pushing, 2, "taskpilot_approvals_pending", job_name="asking")
    assert reaches(gateway, pushing, 1, "taskpilot_run_last_status", job_name="asking", status="waiting")
    decision = pushing.rows("SELECT id FROM decisions WHERE status = 'pending'")[0]["id"]
    assert pushing("decisions", "approve", decision).code == 0
    assert reaches(gateway, pushing, 1, "taskpilot_approvals_pending", job_name="asking")
    assert reaches(gateway, pushing, 1, "taskpilot_approvals_total", job_name="asking", verdict="approved")
    task = pushing.rows("SELECT id FROM tasks WHERE status = 'review'")[0]["id"]
    assert pushing("tasks", "reject", task).code == 0
    assert reaches(gateway, pushing, 0, "taskpilot_approvals_pending", job_name="asking")
    assert reaches(gateway, pushing, 1, "taskpilot_approvals_total", job_name="asking", verdict="rejected")
    assert pushing("runs", "resume", pushing.run()["id"]).code == 0
    assert reaches(gateway, pushing, 1, "taskpilot_runs_total", job_name="asking", status="succeeded")


def test_a_cancelled_run_is_counted_and_asks_nobody_any_more(pushing: TaskPilot, gateway: Pushgateway) -> None:
    pushing.job(ASKING, name="asking")
    assert pushing("run", "asking", "--quiet").code == 13
    assert reaches(gateway, pushing, 2, "taskpilot_approvals_pending", job_name="asking")
    assert pushing("runs", "cancel", pushing.run()["id"]).code == 0
    assert reaches(gateway, pushing, 1, "taskpilot_runs_total", job_name="asking", status="cancelled")
    assert reaches(gateway, pushing, 0, "taskpilot_approvals_pending", job_name="asking")


def test_a_run_that_is_cancelled_while_it_works_is_pushed_by_its_supervisor(pushing: TaskPilot, gateway: Pushgateway) -> None:
    with holding(pushing) as running:
        assert pushing("runs", "cancel", pushing.run()["id"]).code == 0
        running.wait(30)
    assert running.returncode == 16
    assert reaches(gateway, pushing, 1, "taskpilot_runs_total", job_name="held", status="cancelled")
