"""`metrics push` and `jobs validate` against a real Pushgateway."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import warm
from tests.servers.ports import free_port
from tests.servers.pushgateway import Pushgateway, pushgateway

HERE = Path(__file__).parents[2]
JOB = '''
from taskpilot import RunContext, job


@job
def {name}(ctx: RunContext) -> str:
    """Does nothing."""
    return "done"
'''


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Pushgateway]:
    with pushgateway(tmp_path) as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "jobs").mkdir(parents=True)
    (folder / "taskpilot.toml").write_text("[otel]\nenabled = false\n")
    for name in ("one", "two"):
        (folder / "jobs" / f"{name}.py").write_text(JOB.format(name=name))
    return folder


def taskpilot(root: Path, url: str, *arguments: str, home: str = ".taskpilot") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "TASKPILOT_PUSHGATEWAY_URL": url,
        "TASKPILOT_DEPLOYMENT": "night",
        "TASKPILOT_HOME": home,
    }
    return warm.run_text(arguments, environment=environment, cwd=root)


@pytest.mark.parametrize("arguments", [["metrics", "push"], ["jobs", "validate"]], ids=" ".join)
def test_zeros_stand_in_the_gateway_before_a_first_run(arguments: list[str], root: Path, gateway: Pushgateway) -> None:
    done = taskpilot(root, gateway.url, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for job in ("one", "two"):
        assert gateway.value("taskpilot_runs_total", job_name=job, status="succeeded", deployment="night") == 0
        assert gateway.value("taskpilot_fires_total", job_name=job, outcome="started") == 0


def test_a_push_of_one_job_is_of_that_job_alone(root: Path, gateway: Pushgateway) -> None:
    assert taskpilot(root, gateway.url, "run", "one", "--quiet").returncode == 0
    done = taskpilot(root, gateway.url, "metrics", "push", "one", "--json")
    assert json.loads(done.stdout) == [{"job": "one", "outcome": "ok", "pending": False, "why": ""}]
    assert gateway.value("taskpilot_runs_total", job_name="one", status="succeeded") == 1
    assert gateway.value("taskpilot_runs_total", job_name="two", status="succeeded") is None
    assert taskpilot(root, gateway.url, "metrics", "push", "three").returncode == 2


def test_a_group_that_another_store_fills_is_refused_by_name_and_left_as_it_is(root: Path, gateway: Pushgateway) -> None:
    assert taskpilot(root, gateway.url, "run", "one", "--quiet").returncode == 0
    for arguments in (["metrics", "push"], ["jobs", "validate"]):
        done = taskpilot(root, gateway.url, *arguments, home="another")
        assert done.returncode == 78
        assert "one" in done.stderr
        assert "another store" in done.stderr
    assert gateway.value("taskpilot_runs_total", job_name="one", status="succeeded") == 1


def test_a_gateway_that_is_away_is_75_for_a_push_and_no_error_for_validate(root: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = taskpilot(root, url, "metrics", "push")
    assert done.returncode == 75
    assert len(done.stderr.splitlines()) == 2
    assert "nothing is lost" in done.stderr
    done = taskpilot(root, url, "jobs", "validate")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pushed  nothing: the Pushgateway at" in done.stdout


def test_the_group_of_a_removed_job_is_gone_and_no_other(root: Path, gateway: Pushgateway) -> None:
    (root / "jobs" / "three.py").write_text(JOB.format(name="three"))
    assert taskpilot(root, gateway.url, "metrics", "push").returncode == 0
    (root / "jobs" / "four.py").write_text(JOB.format(name="four"))
    assert taskpilot(root, gateway.url, "metrics", "push", "four", home="another").returncode == 0
    for name in ("three", "four"):
        (root / "jobs" / f"{name}.py").unlink()
    (root / "jobs" / "two.py").write_text("1 / 0\n")
    kept = {"job": "four", "outcome": "kept"}
    done = taskpilot(root, gateway.url, "metrics", "prune", "--dry-run", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [(one["job"], one["outcome"]) for one in json.loads(done.stdout)] == [("four", "kept"), ("three", "would remove")]
    assert gateway.value("taskpilot_runs_total", job_name="three", status="succeeded") == 0
    done = taskpilot(root, gateway.url, "metrics", "prune", "--json")
    assert done.returncode == 0
    other, removed = json.loads(done.stdout)
    assert (removed, other | kept) == ({"job": "three", "outcome": "removed", "why": ""}, other)
    assert "another store (" in other["why"]
    for name, value in (("one", 0), ("two", 0), ("three", None), ("four", 0)):
        assert gateway.value("taskpilot_runs_total", job_name=name, status="succeeded") == value, name
    done = taskpilot(root, gateway.url, "metrics", "prune", home="another")
    assert (done.returncode, done.stdout.split()[-2:]) == (0, ["four", "removed"])


def test_nothing_is_pending_of_a_removed_job_any_more_and_one_that_comes_back_has_all_its_numbers(root: Path, gateway: Pushgateway) -> None:
    assert taskpilot(root, f"http://127.0.0.1:{free_port()}", "run", "one", "--quiet").returncode == 0
    assert taskpilot(root, gateway.url, "metrics", "push").returncode == 0
    text = (root / "jobs" / "one.py").read_text()
    (root / "jobs" / "one.py").unlink()
    assert taskpilot(root, gateway.url, "metrics", "prune").returncode == 0
    # This run's end pushes what is pending of every job.
    assert taskpilot(root, gateway.url, "run", "two", "--quiet").returncode == 0
    assert gateway.value("taskpilot_runs_total", job_name="one", status="succeeded") is None
    assert taskpilot(root, gateway.url, "metrics", "prune").stderr == "nothing to remove: every group belongs to a job\n"
    (root / "jobs" / "one.py").write_text(text)
    assert taskpilot(root, gateway.url, "run", "one", "--quiet").returncode == 0
    assert gateway.value("taskpilot_runs_total", job_name="one", status="succeeded") == 2


def test_without_a_gateway_or_a_folder_of_jobs_prune_removes_nothing(root: Path, gateway: Pushgateway) -> None:
    assert taskpilot(root, gateway.url, "metrics", "push").returncode == 0
    assert taskpilot(root, f"http://127.0.0.1:{free_port()}", "metrics", "prune").returncode == 75
    assert taskpilot(root, "", "metrics", "prune").returncode == 78
    (root / "jobs").rename(root / "elsewhere")
    assert taskpilot(root, gateway.url, "metrics", "prune").returncode == 78
    assert gateway.value("taskpilot_runs_total", job_name="one", status="succeeded") == 0
