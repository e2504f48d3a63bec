"""What a run came to and what it waits for: as `run`, `runs show` and `runs resume` print it."""

import io
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from taskpilot.cli import formatting, run_pages
from taskpilot.cli.progress import LiveDisplay, NoDisplay, display_for, line_of
from taskpilot.cli.runs import step_answer
from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import RunStatus, RunSummary
from taskpilot.domain.steps import StepAnswer, StepKind, StepStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.domain.usage import Usage
from taskpilot.services.running import Finished
from taskpilot.store.database import Store
from taskpilot.views.runs import show_run, summarize
from tests import records


@pytest.fixture
def deployment(store: Store) -> Iterator[Deployment]:
    opened = Deployment(load())
    yield opened
    opened.close()


def finished(store: Store, run_id: str, code: ExitCode) -> Finished:
    return Finished(summarize(store, run_id), code)


def test_a_run_that_waits_shows_the_exact_commands(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store, status=RunStatus.WAITING, result=None)
    task = records.add_task(store, run_id, status=TaskStatus.REVIEW)
    decision = records.add_decision(store, run_id)
    step = records.add_step(store, run_id)
    diverged = records.add_step(store, run_id, status=StepStatus.DIVERGED, idempotent=True)
    said = cli("runs", "show", run_id).out
    for command in (
        f"taskpilot tasks approve {task}",
        f"taskpilot tasks reject {task}",
        f"taskpilot decisions approve {decision}",
        f"taskpilot decisions reject {decision}",
        f"taskpilot runs resume {run_id} --step {step} --done JSON",
        f"taskpilot runs resume {run_id} --step {step} --again",
        f"taskpilot runs resume {run_id} --step {step} --fail",
        f"taskpilot runs resume {run_id} --step {diverged} --again",
    ):
        assert f"{command}\n" in said
    page = cli("runs", "show", run_id, "--json").json
    assert [one["step_id"] for one in page["uncertain_steps"]] == [step, diverged]
    assert [one["decision_id"] for one in page["pending_decisions"]] == [decision]


def test_a_step_that_needs_nobody_is_not_asked_about(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store, status=RunStatus.FAILED)
    records.add_step(store, run_id, idempotent=True)
    records.add_step(store, run_id, kind=StepKind.ASK, idempotent=True)
    first = records.add_step(store, run_id, key="k", make=0)
    records.add_step(store, run_id, key="k", make=1, status=StepStatus.SUCCEEDED)
    said = cli("runs", "show", run_id).out
    assert first not in said
    assert "--step" not in said
    assert f"next: taskpilot runs resume {run_id}\n" in said


def test_a_word_on_a_result_stands_on_its_page(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store)
    for wrong in ((), ("--correct", "--wrong")):
        said = cli("runs", "feedback", run_id, *wrong)
        assert (said.code, "--correct or --wrong" in said.err) == (2, True)
    assert "feedback" not in cli("runs", "show", run_id).out
    assert cli("runs", "feedback", run_id, "--wrong", "--by", "ada", "--note", "no such\x1b[2J account").code == 0
    said = cli("runs", "show", run_id)
    assert "feedback  wrong, by ada, " in said.out
    assert "no such\\x1b[2J account" in said.out
    assert cli("runs", "show", run_id, "--json").json["feedback"]["verdict"] == "wrong"


def test_a_run_that_succeeded_names_no_next_command(cli: Callable[..., Any], store: Store) -> None:
    assert "taskpilot runs resume" not in cli("runs", "show", records.add_run(store)).out


def test_the_result_comes_first_then_tasks_cost_and_notes(deployment: Deployment, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = records.add_run(store, result="line one\nline two")
    records.add_task(store, run_id)
    records.add_task(store, run_id, title="Delete it all", status=TaskStatus.REJECTED, reason="too risky")
    assert run_pages.tell(deployment, finished(store, run_id, ExitCode.SUCCEEDED), as_json=False, quiet=False) == 0
    said = capsys.readouterr().out
    places = [
        said.index(word)
        for word in (
            "line one\nline two\n",
            "Reset the password",
            "0.00202 USD",
            "budget: 1 USD, 200 LLM calls, 200 tool calls a run (the default",
            "details: ",
        )
    ]
    assert places == sorted(places)
    assert "too risky" in said
    assert "1,200 in (1,024 cached), 30 out" in said


def test_an_offline_run_says_so(deployment: Deployment, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = records.add_run(store, model="offline", cost_nano=0)
    run_pages.tell(deployment, finished(store, run_id, ExitCode.SUCCEEDED), as_json=False, quiet=False)
    assert "offline" in capsys.readouterr().out


def test_a_result_that_is_no_text_is_json(deployment: Deployment, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = records.add_run(store, result={"handled": [1, 2], "who": "Jürgen"})
    run_pages.tell(deployment, finished(store, run_id, ExitCode.SUCCEEDED), as_json=False, quiet=False)
    assert '"who": "Jürgen"' in capsys.readouterr().out


def test_many_tasks_are_cut_with_the_command_that_shows_all(
    deployment: Deployment, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = records.add_run(store)
    for number in range(52):
        records.add_task(store, run_id, title=f"task {number}")
    review = records.add_task(store, run_id, title="the one in review", status=TaskStatus.REVIEW)
    run_pages.tell(deployment, finished(store, run_id, ExitCode.WAITING), as_json=False, quiet=False)
    said = capsys.readouterr().out
    assert "and 3 more: taskpilot tasks list" in said
    assert "the one in review" in said
    assert review


def test_json_is_the_summary_line_alone(deployment: Deployment, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    run_id = records.add_run(store)
    code = run_pages.tell(deployment, finished(store, run_id, ExitCode.FAILED), as_json=True, quiet=False)
    said = capsys.readouterr()
    assert code == 1
    assert len(said.out.splitlines()) == 1
    assert said.err == ""
    assert set(json.loads(said.out)) == {
        "run_id", "job", "status", "reason", "reason_code", "reason_facts", "result", "attempts", "duration_seconds", "tasks",
        "tokens", "cost_usd", "llm_calls", "tool_calls", "trace_id",
    }  # fmt: skip


@pytest.mark.parametrize("code", list(ExitCode))
def test_quiet_prints_nothing_for_0_10_and_11_and_else_one_line_that_names_the_job(
    code: ExitCode, deployment: Deployment, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = records.add_run(store, reason=records.raised("the cause\nof it"))
    assert run_pages.tell(deployment, finished(store, run_id, code), as_json=False, quiet=True) == code
    said = capsys.readouterr()
    assert said.out == ""
    if code in (0, 10, 11):
        assert said.err == ""
    else:
        assert len(said.err.splitlines()) == 1
        assert "triage" in said.err
        assert "the cause of it" in said.err


@pytest.mark.parametrize(
    ("code", "expected"),
    [(ExitCode.SKIPPED_OVERLAP, 0), (ExitCode.SKIPPED, 0), (ExitCode.FAILED, 1), (ExitCode.WAITING, 13), (ExitCode.SUCCEEDED, 0)],
)
def test_skip_ok_is_for_skips_alone(code: ExitCode, expected: int, deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    reason = Reason(ReasonCode.RUN_ACTIVE, {"run_id": "r1"})
    ended = Finished(RunSummary(run_id=None, job="triage", status="skipped_overlap", reason=reason), code)
    assert run_pages.tell(deployment, ended, as_json=False, quiet=False, skip_ok=True) == expected
    assert capsys.readouterr().out == "triage: skipped_overlap: run r1 is active\nnext: taskpilot runs show r1\n"


def test_an_answer_is_one_of_three_and_names_its_step() -> None:
    import click

    assert step_answer(None, done=None, again=False, fail=False) is None
    assert step_answer("s", done='{"a": 1}', again=False, fail=False) == StepAnswer("s", "done", {"a": 1})
    assert step_answer("s", done="null", again=False, fail=False) == StepAnswer("s", "done", None)
    assert step_answer("s", done=None, again=True, fail=False) == StepAnswer("s", "again")
    assert step_answer("s", done=None, again=False, fail=True) == StepAnswer("s", "fail")
    for bad in (
        {"step_id": None, "done": "1", "again": False, "fail": False},
        {"step_id": "s", "done": None, "again": False, "fail": False},
        {"step_id": "s", "done": "1", "again": True, "fail": False},
        {"step_id": "s", "done": "TICKET-7", "again": False, "fail": False},
        {"step_id": "s", "done": "NaN", "again": False, "fail": False},
    ):
        with pytest.raises(click.UsageError):
            step_answer(**bad)


def test_the_live_line_needs_no_thread_and_leaves_our_streams_alone(
    deployment: Deployment, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = show_run(
        deployment, records.add_run(store, status=RunStatus.RUNNING, progress_done=3, progress_total=8, job="\x1b[31mtriage")
    ).run

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    out, threads = sys.stdout, threading.active_count()
    display = display_for(quiet=False)
    assert isinstance(display, LiveDisplay)
    display.update(run)
    display.update(run)
    assert threading.active_count() == threads
    assert sys.stdout is out
    assert sys.stderr is screen
    display.close(run)
    display.close(run)
    assert "3/8" in screen.getvalue()
    assert "\x1b[31m" not in screen.getvalue()
    assert isinstance(display_for(quiet=True), NoDisplay)


def test_no_live_line_where_stderr_is_no_terminal() -> None:
    assert isinstance(display_for(quiet=False), NoDisplay)


def test_the_live_line_tells_status_progress_calls_tokens_and_cost(deployment: Deployment, store: Store) -> None:
    line = line_of(
        show_run(deployment, records.add_run(store, status=RunStatus.RUNNING, progress_done=3, progress_total=8, attempts=2)).run
    )
    for word in ("triage running", "attempt 2", "3/8", "3 calls", "1,230 tokens", "0.00202 USD"):
        assert word in line


def test_words_are_those_of_people() -> None:
    assert [formatting.duration(seconds) for seconds in (0.311, 12.44, 59.97, 185, 3720, 183_600)] == [
        "0.31s",
        "12.4s",
        "1m00s",
        "3m05s",
        "1h02m",
        "2d03h",
    ]
    assert formatting.usd(2_020_000) == "0.00202 USD"
    assert formatting.usd(0) == "0.00 USD"
    assert formatting.usd(1_500_000_000) == "1.50 USD"
    assert formatting.usd(1) == "0.000000001 USD"
    assert formatting.usd(None) == "unpriced"
    assert formatting.instant(records.NOON + timedelta(microseconds=5)) == "2026-11-23 12:00:00Z"
    assert formatting.local(records.NOON, "Europe/Berlin") == "Mon 2026-11-23 13:00:00+0100"
    assert formatting.tokens(Usage(1200, 1024, 30)) == "1,200 in (1,024 cached), 30 out"
    assert formatting.count(1, "call") == "1 call"
