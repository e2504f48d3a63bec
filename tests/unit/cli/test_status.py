"""`taskpilot status`: the night on one screen, and commands that work as pasted."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.times import utc_now
from taskpilot.store.database import Store
from tests import warm
from tests.planted import STATES, Night
from tests.terminal import HERE, on_terminal

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
KEYS = ["since", "until", "ok", "counts", "fires", "attention", "waiting", "cost_usd", "budget", "next", "scheduler"]
ITEM = ["kind", "job", "run_id", "fire", "reason", "reason_code", "reason_facts", "command"]
TOLD = ("failed", "lost", "timed_out", "waiting", "blocked", "missed", "budget_exceeded")
JOBS = "from taskpilot import every, job\n" + "\n".join(
    f"\n@job(schedule=every('24h'))\ndef {name}(ctx) -> str:\n    return 'done'\n" for name in TOLD
)


@pytest.fixture
def night(root: Path, store: Store) -> Night:
    """The night of the issue: an outage, and a job in each state that a person should know of."""
    (root / "jobs" / "all.py").write_text(JOBS)
    planted = Night(store, utc_now())
    for state in ("succeeded", *TOLD):
        planted.plant(state)
    planted.server()
    return planted


def test_the_whole_night_is_on_one_screen(night: Night, root: Path) -> None:
    shown = on_terminal(root, "status", columns=80, rows=24, TZ="UTC")
    lines = ESCAPE.sub("", shown.text).rstrip("\n").split("\n")
    assert shown.code == 1
    assert len(lines) <= 24, shown.text
    assert all(len(line) <= 80 for line in lines), shown.text
    for state in TOLD:
        assert any(line.startswith(f"{state}  {state}  ") for line in lines), (state, shown.text)
    assert "none was running from" in shown.text
    assert "more:" not in shown.text


@pytest.mark.parametrize(
    ("columns", "environment"),
    [
        (80, {"TZ": "America/Los_Angeles", "NO_COLOR": "1"}),
        (200, {"TZ": "Asia/Tokyo"}),
        (80, {"TZ": "Europe/Berlin", "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "TERM": "vt100"}),
    ],
)
def test_no_zone_no_width_and_no_old_screen_breaks_a_line(night: Night, root: Path, columns: int, environment: dict[str, str]) -> None:
    shown = on_terminal(root, "status", columns=columns, rows=24, **environment)
    lines = ESCAPE.sub("", shown.text).rstrip("\n").split("\n")
    assert shown.code == 1
    assert len(lines) <= 24, shown.text
    assert all(len(line) <= columns for line in lines), shown.text
    assert "\\u" not in shown.text
    assert shown.text.isascii()
    assert ("NO_COLOR" in environment) is ("\x1b[" not in re.sub(r"\x1b\[[01]m", "", shown.text)) or environment.get("TERM") == "vt100"


def test_every_command_of_the_json_works_as_pasted_from_a_folder_outside(night: Night, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OTEL_ENABLED": "false", "TASKPILOT_MODEL": "offline"}

    def typed(*words: str) -> "subprocess.CompletedProcess[str]":
        return warm.run_text(words, environment=environment, cwd=outside)

    found = typed("--root", str(root), "status", "--json")
    assert found.returncode == 1, found.stderr
    answer = json.loads(found.stdout)
    assert list(answer) == KEYS
    assert [one["kind"] for one in answer["attention"]] == list(
        dict.fromkeys(kind for kind in ("failed", "lost", "timed_out", "budget_exceeded", "waiting", "blocked", "missed"))
    )
    for one in answer["attention"]:
        assert list(one) == ITEM
        words = shlex.split(one["command"])
        assert words[:3] == ["taskpilot", "--root", str(root)]
        done = typed(*words[1:])
        # The job of the lost run is there again; doctor finds the job that the server cannot start; nothing else may fail.
        assert done.returncode == (78 if "doctor" in words else 0), (one["command"], done.stdout, done.stderr)
        assert "Traceback" not in done.stderr


def test_the_commands_of_health_and_jobs_work_from_a_folder_outside_too(
    night: Night, root: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    health, jobs = (cli("--root", str(root), command, "--json").json for command in ("health", "jobs"))
    commands = [one["command"] for one in health["jobs"]] + [one["attention"]["command"] for one in jobs if one["attention"]]
    assert len(commands) == 2 * len(TOLD)
    assert all(shlex.split(line)[:3] == ["taskpilot", "--root", str(root)] for line in commands)


def test_the_json_says_what_every_state_is(root: Path, store: Store, cli: Callable[..., Any]) -> None:
    planted = Night(store, utc_now())
    for state in STATES:
        planted.plant(state)
    planted.server(asleep=False)
    said = cli("status", "--json")
    assert said.code == 1
    found = said.json
    assert {one["job"]: one["kind"] for one in found["attention"]} == {state: state for state in STATES if state != "succeeded"}
    assert found["ok"] is False
    assert found["counts"]["succeeded"] == 1
    assert found["fires"] == {"started": 8, "missed": 1, "blocked_config": 2}
    assert found["waiting"] == 1
    assert found["scheduler"]["state"] == "running"
    assert len(found["next"]) == 3
    assert found["budget"] == {"day_usd": None, "spent_usd": None}


def test_a_quiet_night_and_a_pause_by_a_person_need_nobody(root: Path, store: Store, cli: Callable[..., Any]) -> None:
    planted = Night(store, utc_now())
    planted.plant("succeeded")
    planted.plant("paused")
    said = cli("status")
    assert (said.code, said.err) == (0, "")
    assert "1 run: 1 succeeded" in said.out
    assert "taskpilot jobs resume paused" in said.out


def test_a_failure_before_a_success_is_told_and_needs_nobody(root: Path, store: Store, cli: Callable[..., Any]) -> None:
    planted = Night(store, utc_now())
    planted.plant("failed")
    planted._state("other")
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE job_state SET last_success = ?, last_status = 'succeeded'", (9_000_000_000_000_000,))
    said = cli("status", "--json")
    assert (said.code, said.json["ok"]) == (0, True)
    assert [one["kind"] for one in said.json["attention"]] == ["failed"]
    assert said.json["attention"][0]["reason"].endswith("a later run succeeded")


def test_an_earlier_since_shows_more_and_a_later_one_less(root: Path, store: Store, cli: Callable[..., Any]) -> None:
    planted = Night(store, utc_now() - timedelta(days=3))
    planted.plant("succeeded")
    assert cli("status", "--json").json["counts"] == {}
    assert cli("status", "--since", "5d", "--json").json["counts"] == {"succeeded": 1}
    wrong = cli("status", "--since", "soon")
    assert wrong.code == 2
    assert "write it like 18:00, 12h, yesterday" in wrong.err


def test_before_the_first_run_there_is_nothing_to_tell_and_nothing_is_made(root: Path, cli: Callable[..., Any]) -> None:
    said = cli("status")
    assert said.code == 0
    assert "no runs" in said.out
    assert not (root / ".taskpilot").exists()


def test_the_bare_command_is_status_on_a_terminal_inside_a_root_and_help_elsewhere(root: Path, tmp_path: Path) -> None:
    assert "scheduler: not running" in on_terminal(root / "jobs").text
    (tmp_path / "outside").mkdir()
    assert "Usage: taskpilot" in on_terminal(tmp_path / "outside").text


def test_status_loads_nothing_heavy_and_no_job_file(root: Path, store: Store) -> None:
    (root / "jobs" / "loud.py").write_text("raise SystemExit('the job file was run')")
    Night(store, utc_now()).plant("failed")
    heavy = {"openai", "pydantic", "rich", "fastapi", "opentelemetry.sdk", "apscheduler", "loguru", "alembic", "regorus"}
    code = f"import sys; from taskpilot.cli.program import main; main(['status']); print(sorted(set(sys.modules) & {heavy}))"
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.rstrip().endswith("[]"), done.stdout
