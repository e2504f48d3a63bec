"""The reading commands: what they list, page by page, as text and as JSON."""

import io
import re
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.runs import RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.store.database import Store
from tests import records


def test_a_group_alone_lists(cli: Callable[..., Any], store: Store) -> None:
    records.add_run(store)
    assert cli("runs").out == cli("runs", "list").out
    assert cli("runs", "--json").json == cli("runs", "list", "--json").json
    assert cli("jobs").out == cli("jobs", "list").out
    assert cli("policy").out == cli("policy", "check").out
    assert cli("metrics").out == cli("metrics", "show").out


def test_a_run_as_json_has_money_tokens_and_times(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store)
    (run,) = cli("runs", "list", "--json").json
    assert run["run_id"] == run_id
    assert run["cost_usd"] == 0.00202
    assert run["tokens"] == {"input": 1200, "cached_input": 1024, "output": 30}
    assert datetime.fromisoformat(run["started_at"]) == records.NOON
    assert run["result"] == "2 requests handled"


def test_an_unpriced_run_costs_null_and_never_zero(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store, unpriced_calls=1)
    assert cli("runs", "--json").json[0]["cost_usd"] is None
    assert "unpriced" in cli("runs").out
    assert "unknown" in cli("runs", "show", run_id).out


def test_pages_follow_each_other_without_a_gap(cli: Callable[..., Any], store: Store) -> None:
    made = [records.add_run(store) for _ in range(5)]
    seen: list[str] = []
    before: list[str] = []
    for expected in (2, 2, 1):
        said = cli("runs", "list", "-n", "2", *before, "--json")
        page = [run["run_id"] for run in said.json]
        assert len(page) == expected
        seen += page
        before = ["--before", page[-1]]
    assert seen == sorted(made, reverse=True)
    full = cli("runs", "list", "-n", "2")
    assert f"taskpilot runs list --before {seen[1][-8:]}" in full.err


def test_the_command_for_the_next_page_keeps_the_filters(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store)
    last = records.add_task(store, run_id, status=TaskStatus.FAILED)
    records.add_task(store, run_id, status=TaskStatus.FAILED)
    said = cli("tasks", "--job", "triage", "--status", "failed", "--status", "review", "-n", "2").err
    command = said.split("older ones: taskpilot ")[1].split()
    assert command[:4] == ["tasks", "list", "--before", last[-8:]]
    assert sorted(command[4:]) == sorted(["--job", "triage", "--status", "failed", "--status", "review", "--limit", "2"])
    assert cli(*command).code == 0


def test_a_narrow_terminal_shows_every_column_and_cuts_only_the_reason(
    cli: Callable[..., Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    why = "0123456789abcdefghijklmnopqrstuvwxyz"
    run_id = records.add_run(store, job="a_job_with_a_name_of_forty_characters_xx", status=RunStatus.FAILED, reason=records.raised(why, ""))
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    assert cli("runs").code == 0
    header, *lines = screen.getvalue().splitlines()
    assert header.split() == ["ID", "JOB", "STATUS", "STARTED", "DURATION", "COST", "WHY"]
    assert max(map(len, (header, *lines))) <= 80
    job, status, reason = (header.index(name) for name in ("JOB", "STATUS", "WHY"))
    assert lines[0].startswith(run_id[-8:])
    assert "".join(line[job:status].strip() for line in lines) == "a_job_with_a_name_of_forty_characters_xx"
    shown = "".join(line[reason:].strip() for line in lines)
    assert shown.endswith("…")
    assert why.startswith(shown[:-1])


def test_a_silent_run_is_said_to_be_one(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store)
    said = cli("runs", "logs", run_id, "--output")
    assert (said.code, said.out, said.err) == (0, "", "the job's process printed nothing\n")
    assert "--output" not in cli("runs", "show", run_id).out


def test_the_page_of_a_run_names_the_command_for_what_it_printed(cli: Callable[..., Any], store: Store, root: Path) -> None:
    run_id = records.add_run(store, status=RunStatus.FAILED)
    folder = root / ".taskpilot" / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "output.log").write_text("Traceback ...\n")
    assert f"taskpilot runs logs {run_id} --output\n" in cli("runs", "show", run_id).out


def test_lists_are_filtered(cli: Callable[..., Any], store: Store) -> None:
    one = records.add_run(store)
    two = records.add_run(store, job="digest", status=RunStatus.WAITING)
    waits = records.add_task(store, two, status=TaskStatus.REVIEW)
    records.add_task(store, one)
    pending = records.add_decision(store, two)

    def ids(key: str, *arguments: str) -> list[str]:
        return [row[key] for row in cli(*arguments, "--json").json]

    assert ids("run_id", "runs", "list", "--job", "digest") == [two]
    assert ids("run_id", "runs", "list", "--status", "succeeded") == [one]
    assert ids("task_id", "tasks", "list", "--status", "review", "--status", "failed") == [waits]
    assert ids("task_id", "tasks", "list", "--run", two) == [waits]
    assert ids("decision_id", "decisions", "--status", "pending") == [pending]
    assert ids("decision_id", "decisions", "--verdict", "deny") == []
    assert cli("tasks", "list", "--status", "done").code == 2


def test_nothing_to_list_is_an_empty_array_or_a_sentence_on_stderr(cli: Callable[..., Any]) -> None:
    for noun in ("runs", "tasks", "decisions"):
        assert cli(noun, "--json").json == []
        said = cli(noun)
        assert (said.code, said.out) == (0, "")
        assert said.err.startswith("no ")


def test_jobs_are_listed_with_their_next_fire_in_their_zone_and_in_utc(cli: Callable[..., Any], store: Store) -> None:
    records.add_run(store, status=RunStatus.FAILED)
    said = cli("jobs")
    header, row = said.out.splitlines()
    assert header.split() == ["JOB", "SCHEDULE", "NEXT", "RUN", "IN", "UTC", "LAST", "RUN", "PAUSED", "NEEDS", "YOU"]
    assert "(Europe/Berlin)" in row
    assert "07:00:00+0" in row
    assert row.endswith("failed")
    (line,) = cli("jobs", "--json").json
    assert line["last_run"]["status"] == "failed"
    assert line["next_fire"].endswith("Z")


def test_listing_jobs_makes_no_store(cli: Callable[..., Any], root: Path) -> None:
    assert cli("jobs").out.splitlines()[1].endswith("never ran")
    assert cli("jobs", "next").code == 0
    assert cli("jobs", "show", "triage").code == 0
    assert not (root / ".taskpilot").exists()


def test_a_broken_file_hides_no_job_and_makes_validate_78(cli: Callable[..., Any], root: Path) -> None:
    (root / "jobs" / "bad.py").write_text("def x(:\n")
    said = cli("jobs")
    assert said.code == 0
    assert "triage" in said.out
    assert "bad.py:1" in said.err
    said = cli("jobs", "validate")
    assert said.code == 78
    assert "ok      triage" in said.out
    assert "bad.py:1: SyntaxError" in said.out
    assert cli("jobs", "validate", "triage").code == 0
    assert cli("jobs", "validate", "bad").code == 78
    report = cli("jobs", "validate", "--json")
    assert report.code == 78
    assert [file["line"] for file in report.json["broken"]] == [1]


def test_a_default_that_does_not_fit_its_type_makes_validate_78(cli: Callable[..., Any], root: Path) -> None:
    text = 'from taskpilot import RunContext, job\n\n\n@job\ndef unfit(ctx: RunContext, count: int = "many") -> None:\n    """Count."""\n'
    (root / "jobs" / "unfit.py").write_text(text)
    said = cli("jobs", "validate")
    assert said.code == 78
    assert "unfit.py:4" in said.out
    assert "the default of 'count' does not fit its type int" in said.out
    assert "ok      triage" in said.out
    assert "ok      unfit" not in said.out
    assert cli("jobs", "validate", "unfit").code == 78


def test_a_broken_policy_makes_validate_and_check_78(cli: Callable[..., Any], root: Path) -> None:
    (root / "own.rego").write_text("package taskpilot.tools\nallow if {\n")
    (root / "taskpilot.toml").write_text('[policy]\nfiles = ["own.rego"]\n')
    assert cli("jobs", "validate").code == 78
    said = cli("policy", "check")
    assert said.code == 78
    assert "own.rego" in said.err


def test_the_shipped_policy_is_all_right(cli: Callable[..., Any]) -> None:
    said = cli("policy", "check", "--json")
    assert said.code == 0
    assert said.json["ok"] is True
    assert len(said.json["fixtures"]) > 5
    assert not [one for one in said.json["fixtures"] if one["differs"]]


def test_a_job_is_shown_with_its_retry(cli: Callable[..., Any], root: Path) -> None:
    retry = 'Retry(attempts=3, delay="30s", max_delay="5m", on=(ConnectionError, TimeoutError))'
    text = f'from taskpilot import Retry, RunContext, job\n\n\n@job(retry={retry})\ndef patient(ctx: RunContext) -> None:\n    """Try."""\n'
    (root / "jobs" / "patient.py").write_text(text)
    shown = cli("jobs", "show", "patient").out
    assert re.search(r"^retry delay +30s, at most 5m$", shown, re.MULTILINE)
    assert re.search(r"^retry on +ConnectionError, TimeoutError$", shown, re.MULTILINE)


def test_a_job_is_shown_with_what_it_takes_and_may_use(cli: Callable[..., Any]) -> None:
    said = cli("jobs", "show", "triage").out
    for word in (
        "15m00s",
        "1 USD, 200 LLM calls, 200 tool calls a run (the default; the job sets none)",
        "inbox",
        "'inbox.jsonl'",
        "taskpilot run triage",
        "Turns the night's",
    ):
        assert word in said
    assert [one["name"] for one in cli("jobs", "show", "triage", "--json").json["parameters"]] == ["inbox", "limit"]


def test_metrics_are_prometheus_text(cli: Callable[..., Any], store: Store) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    said = cli("metrics", "show")
    names = {family.name for family in text_string_to_metric_families(said.out)}
    assert {"taskpilot_runs", "taskpilot_store_info", "taskpilot_job_deadline_seconds"} <= names


def test_a_push_without_a_gateway_is_78_and_says_which_key(cli: Callable[..., Any]) -> None:
    said = cli("metrics", "push")
    assert said.code == 78
    assert "TASKPILOT_PUSHGATEWAY_URL" in said.err
